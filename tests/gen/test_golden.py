"""The golden replica: tests/gen/golden, made by `python tests/gen/pebble/make_golden.py` (see there for when).

48 images of the pebble family, which computes with integers only, stored as PNGs that are not deflated: neither the
float environment nor the zlib flavour can change them. Drawn again, everything that is part of the identity must have
equal bytes. The Parquet files, whose bytes are pyarrow's, are pinned as they were written and must stay readable.
"""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from make_golden import GOLDEN, ROWS, make_golden, rows_text

from caskit.gen import family as family_table
from caskit.shards.dataset import open_set
from caskit.shards.verify import verify

REPLICA_ID = "e44e16fb7eed2f02511b3330bb6b56623e7b9d617db41499023a80f909c19595"
SUMS_SHA256 = "a0c3c2cc41634c4d14cf713c2f75ec722cee7e7251064e0b50b66b0b298a2cfe"
IDENTITY = ["plan.json", "replica.json", *(f"shards/shard-{shard:06d}.tar" for shard in range(3))]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def drawn_again(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    out = tmp_path_factory.mktemp("golden") / "again"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(family_table.FAMILIES, "pebble", "pebble_family")
        make_golden(out)
    yield out
    shutil.rmtree(out)


def test_every_byte_is_pinned() -> None:
    assert digest(GOLDEN / "replica.json") == REPLICA_ID
    assert digest(GOLDEN / "SHA256SUMS") == SUMS_SHA256
    pinned = dict(reversed(line.split("  ")) for line in (GOLDEN / "SHA256SUMS").read_text().splitlines())
    names = sorted(path.relative_to(GOLDEN).as_posix() for path in GOLDEN.rglob("*") if path.is_file())
    assert names == sorted([*pinned, "SHA256SUMS"])
    assert {name: digest(GOLDEN / name) for name in pinned} == pinned


def test_the_same_bytes_come_out_again(drawn_again: Path) -> None:
    for name in IDENTITY:
        assert (drawn_again / name).read_bytes() == (GOLDEN / name).read_bytes(), name


def test_the_same_rows_come_out_again(drawn_again: Path) -> None:
    assert rows_text(GOLDEN) == ROWS.read_text()
    assert rows_text(drawn_again) == ROWS.read_text()


def test_it_can_be_read_and_verified() -> None:
    verify(str(GOLDEN), "deep")
    frozen = open_set(f"{GOLDEN}@sha256:{REPLICA_ID}")
    assert len(frozen) == 48
    attempts = frozen.table.column("attempt").to_pylist()
    assert sorted(set(attempts))[:2] == [0, 1]
    for sample_id in range(48):
        row = frozen.table.slice(sample_id, 1).to_pylist()[0]
        image = frozen.image(sample_id)
        assert hashlib.sha256(image.tobytes()).digest() == row["pixel_sha256"]
        assert (image >= 40 * row["label"]).all() and (image < 40 * row["label"] + 32).all()
