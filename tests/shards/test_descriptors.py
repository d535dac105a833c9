"""Descriptors are closed when nobody uses them any more, also where their module is gone already."""

import os
from pathlib import Path

import pytest

from caskit.shards import descriptors
from caskit.shards.descriptors import Descriptor


def test_a_descriptor_is_closed_while_the_process_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "0.tar"
    path.write_bytes(b"tar")
    file = Descriptor(path)
    number = file.number
    assert os.pread(number, 3, 0) == b"tar"
    monkeypatch.setattr(descriptors, "os", None)  # as Python's end leaves a module
    del file  # an exception in here would be a warning of pytest's, which is an error in this repository
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
