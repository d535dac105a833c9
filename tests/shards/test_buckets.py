import tempfile
from pathlib import Path

import numpy as np
import pytest

from caskit.shards import buckets
from caskit.shards.buckets import Buckets

PAIR = np.dtype([("number", "i8"), ("digest", "V4")])


@pytest.mark.parametrize("held_bytes", [1, 300, 2**24])
def test_what_is_put_aside_comes_back_in_order(monkeypatch: pytest.MonkeyPatch, held_bytes: int) -> None:
    monkeypatch.setattr(buckets, "HELD_BYTES", held_bytes)
    rng = np.random.default_rng(3)
    values = np.zeros(1000, dtype=PAIR)
    values["number"], values["digest"] = np.arange(1000), [rng.bytes(4) for _ in range(1000)]
    into = rng.integers(0, 7, 1000)
    into[into == 5] = 6
    with Buckets(PAIR, 7) as put:
        for start in range(0, 1000, 30):
            put.add(values[start : start + 30], into[start : start + 30])
            assert put._held_bytes < held_bytes, "what is held is bounded"
        for bucket in range(7):
            assert put.count(bucket) == (into == bucket).sum()
            assert put.read(bucket).tobytes() == values[into == bucket].tobytes()
        assert len(put.read(5)) == 0 and (put._file is None) == (held_bytes == 2**24)


def test_a_full_temporary_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "HELD_BYTES", 1)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **options: Path("/dev/full").open("wb", **options))  # noqa: SIM115
    values = np.zeros(10, dtype=PAIR)
    with pytest.raises(OSError, match="No space left") as caught, Buckets(PAIR, 1) as put:
        put.add(values, np.zeros(10, dtype=np.int64))
    assert caught.value.filename == tempfile.gettempdir()
