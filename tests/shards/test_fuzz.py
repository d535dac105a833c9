"""The inputs that fuzzing found go through the readers again, and some more that are made on the spot."""

import random
import runpy
from pathlib import Path
from typing import Any

import pytest

from caskit.manifests.errors import IntegrityError
from caskit.shards.records import read_manifest
from caskit.shards.store import LocalStore

ROOT = Path(__file__).resolve().parents[2]
READERS = runpy.run_path(str(ROOT / "benchmarks" / "fuzz_readers.py"))["READERS"]
CORPUS = Path(__file__).with_name("corpus")
MAX_CORPUS_BYTES = 500_000


@pytest.fixture
def reader(name: str, tmp_path: Path) -> Any:
    return READERS[name](tmp_path / "set")


@pytest.mark.parametrize("name", READERS)
def test_the_kept_inputs_are_refused_or_read_for_what_they_are(name: str, reader: Any) -> None:
    inputs = sorted((CORPUS / name).iterdir())
    accepted = [reader.run(data) for data in [*(path.read_bytes() for path in inputs), *reader.seeds()]]
    assert len(inputs) >= 8 and True in accepted and False in accepted


@pytest.mark.parametrize("name", READERS)
def test_mended_inputs_too(name: str, reader: Any) -> None:
    seeds, rng = list(reader.seeds()), random.Random(11)
    assert any(reader.run(seed) for seed in seeds)
    for _ in range(40):
        changed = bytearray(rng.choice(seeds))
        changed[rng.randrange(len(changed))] = rng.randrange(256)
        reader.run(reader.mend(bytes(changed), rng)[: reader.max_bytes])


def test_the_corpus_stays_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*")) < MAX_CORPUS_BYTES


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("record", b'{"sampler":""}'),
        ("record", b"[" * 4000),
        ("record", b'{"format_version":1e400}'),
        ("tar", b""),
        ("tar", bytes(512)),
        ("manifest", b"PAR1"),
    ],
)
def test_no_input_of_nothing_is_accepted(name: str, reader: Any, data: bytes) -> None:
    assert not reader.run(data)


def test_row_groups_that_lie_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    """Its footer says 48 rows, its row group thirteen thousand million: Arrow asked for 137 GB."""
    (tmp_path / "manifest.parquet").write_bytes((CORPUS / "manifest" / "0b45d570b1a7e99d").read_bytes())
    with pytest.raises(IntegrityError, match="has 48 rows, its row groups state 12593329744"):
        read_manifest(LocalStore(tmp_path))


def test_what_arrow_calls_a_runtime_error_is_a_damaged_file(tmp_path: Path) -> None:
    """Statistics of a column that are not of its kind."""
    found = [path.read_bytes() for path in sorted((CORPUS / "manifest").iterdir())]
    messages = []
    for data in found:
        (tmp_path / "manifest.parquet").write_bytes(data)
        try:
            read_manifest(LocalStore(tmp_path))
        except IntegrityError as error:
            messages.append(str(error))
    assert any("Definition level histogram size mismatch" in message for message in messages)
