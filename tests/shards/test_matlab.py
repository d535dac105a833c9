"""MATLAB files: what scipy writes is read, what is damaged is refused."""

import io
import struct
from typing import Any

import numpy as np
import pytest
import scipy.io

from caskit.manifests.errors import InputError
from caskit.shards.sources import matlab
from caskit.shards.sources.matlab import read_structs


def saved(*, packed: bool, **variables: Any) -> bytes:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, variables, do_compression=packed)
    return buffer.getvalue()


def structs(rows: list[tuple[Any, ...]]) -> np.ndarray:
    array = np.zeros((len(rows), 1), dtype=[(name, object) for name in ("id", "name", "height", "more")])
    for at, row in enumerate(rows):
        array[at, 0] = row
    return array


ROWS = [
    (1.0, "n02119789", 2.5, np.zeros((0, 0))),
    (70000.0, "été, x", -3.0, np.array([[1.0, 2.0]])),
    (3.0, "", 0.0, "t"),
]
DUE = [
    {"id": 1, "name": "n02119789", "height": 2.5, "more": None},
    {"id": 70000, "name": "été, x", "height": -3, "more": None},
    {"id": 3, "name": "", "height": 0, "more": "t"},
]


@pytest.mark.parametrize("packed", [False, True])
def test_structs_of_texts_and_numbers(packed: bool) -> None:
    data = saved(packed=packed, before=np.eye(2), synsets=structs(ROWS), text="synsets")
    assert read_structs(data, "synsets", "m.mat") == DUE
    with pytest.raises(InputError, match="m.mat: holds no structs called others"):
        read_structs(data, "others", "m.mat")


@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_file_is_refused_or_read(packed: bool) -> None:
    """No byte that is flipped or cut off gives anything but an InputError or a list."""
    data = saved(packed=packed, synsets=structs(ROWS))
    spoiled = [data[:cut] for cut in range(0, len(data), 7)]
    spoiled += [data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :] for at in range(100, len(data), 3)]
    answers = []
    for bad in spoiled:
        try:
            answers.append(type(read_structs(bad, "synsets", "m.mat")) is list)
        except InputError as error:
            answers.append("m.mat: " in str(error))
    assert all(answers)


def test_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(packed=True, synsets=structs([(1.0, "x" * 100_000, 0.0, 0.0)]))
    monkeypatch.setattr(matlab, "MAX_UNPACKED_BYTES", 50_000)
    with pytest.raises(InputError, match="unpacks to more than 50000 bytes"):
        read_structs(data, "synsets", "m.mat")
    monkeypatch.setattr(matlab, "MAX_STRUCTS", 2)
    with pytest.raises(InputError, match="3 structs, at most 2 are read"):
        read_structs(saved(packed=False, synsets=structs(ROWS)), "synsets", "m.mat")


def test_sizes_that_are_stated_are_not_believed() -> None:
    header = saved(packed=False, x=1.0)[:128]
    with pytest.raises(InputError, match="damaged .an element of 4294967295 bytes"):
        read_structs(header + struct.pack("<II", 14, 2**32 - 1), "synsets", "m.mat")
