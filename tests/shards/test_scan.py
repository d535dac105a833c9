"""A scan holds a bounded number of rows, accepts what the checks of all rows accept, and nothing else."""

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caskit.manifests.codec import Codec
from caskit.manifests.rejection import Rejection
from caskit.manifests.roots import content_root_of, packing_root, rows_root
from caskit.manifests.rows import ROW_SCHEMA
from caskit.shards import buckets, records, scan, shard_rows, verify
from caskit.shards.fault import BrokenSet
from caskit.shards.row_checks import check_rows
from caskit.shards.scan import scanned
from caskit.shards.shard_rows import HeldRows
from caskit.shards.store import LocalStore
from caskit.shards.tables import shard_table, table_bytes
from caskit.shards.tar_checks import check_shard_table
from caskit.shards.verify import check_roots

REJECTION = Rejection(candidates=2, classifier_id="ef" * 32)
PLANS: dict[str, dict[str, Any]] = {
    "synthetic": {},
    "coded": {"record_codes": True},
    "judged": {"rejection": REJECTION},
    "one shard": {"samples_per_shard": 100},
    "lossless": {"codec": Codec.of("webp"), "samples_per_shard": 5},
}
KINDS = (*PLANS, "real")


@pytest.fixture(params=["few", "many"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes of pieces so small that a tiny set has many of them, and sizes as they are."""
    if request.param == "many":
        monkeypatch.setattr(scan, "BATCH_ROWS", 3)
        monkeypatch.setattr(shard_rows, "ROWS_AT_ONCE", 7)
        monkeypatch.setattr(buckets, "HELD_BYTES", 200)


@pytest.fixture
def root(kind: str, tmp_path: Path, tiny: Any) -> Path:
    tiny.frozen(tmp_path / "set", tiny.ingest() if kind == "real" else tiny.plan(**PLANS[kind]))
    return tmp_path / "set"


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", ["quick", "full", "deep"])
def test_a_good_set_is_never_read_whole(root: Path, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def whole(*_: Any, **__: Any) -> Any:
        raise AssertionError("all rows were read at once")

    monkeypatch.setattr(verify, "read_records", whole)
    monkeypatch.setattr(records, "read_manifest", whole)
    report = verify.verify(str(root), level)
    assert dict(report.checks)["rows"] == 20 and (report.num_duplicates == 0) == (level == "deep")


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("kind", KINDS)
def test_rows_by_shard_are_those_of_the_manifest(root: Path) -> None:
    whole = records.read_records(str(root))
    digests = ["image_sha256", *(["codes_sha256"] if whole.manifest.column("codes_sha256").null_count == 0 else [])]
    heads = records.read_heads(LocalStore(root), whole.replica)
    with scanned(heads, bytes_columns=digests, number_columns=["width"]) as rows:
        assert rows is not None
        due = list(HeldRows(whole))
        for shard, (ours, theirs) in enumerate(zip(rows, due, strict=True)):
            assert ours.equals(theirs.select(ours.schema.names).cast(ours.schema))
            assert ours.equals(rows.of(shard)) and theirs.equals(HeldRows(whole).of(shard))
        assert rows.of(0).equals(next(iter(rows)))


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("kind", KINDS)
def test_a_scan_agrees_with_the_checks_of_all_rows(root: Path) -> None:
    """One value of one row is changed, in every column, and each root is what the changed rows give."""
    whole, rng = records.read_records(str(root)), np.random.default_rng(7)
    accepted = 0
    for column in ROW_SCHEMA.names:
        for place in rng.permutation(20)[:2].tolist():
            rows = whole.manifest.to_pylist()
            rows[place][column] = _other(rows[place][column], rows[(place + 9) % 20][column])
            changed = _with_roots(whole, pa.Table.from_pylist(rows, schema=ROW_SCHEMA))
            fits = not (list(check_rows(changed)) or list(check_shard_table(changed)) or check_roots(changed))
            assert _scan_fits(root, changed) == fits, column
            accepted += fits
    assert accepted >= 2  # the digest of an image, which its rows alone do not contradict


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("kind", ["synthetic", "real"])
@pytest.mark.parametrize("change", ["cut", "doubled", "swapped samples", "swapped rows", "moved", "longer", "no rows"])
def test_a_scan_refuses_rows_that_are_not_the_sets(root: Path, change: str) -> None:
    whole = records.read_records(str(root))
    rows = whole.manifest.to_pylist()
    if change == "cut":
        rows = rows[:-1]
    elif change == "doubled":
        rows[5] = dict(rows[4])
    elif change == "longer":
        rows.append(dict(rows[-1], ordinal=rows[-1]["ordinal"] + 1))
    elif change == "swapped rows":
        rows[4], rows[5] = rows[5], rows[4]
    elif change == "swapped samples":
        for column in ("sample_id", "shard", "index_in_shard", "tar_offset", "nbytes"):
            rows[4][column], rows[15][column] = rows[15][column], rows[4][column]
    elif change == "moved":
        for column in ("sample_id", "shard", "index_in_shard", "tar_offset"):
            rows[4][column] = rows[5][column]
    changed = _with_roots(whole, pa.Table.from_pylist(rows, schema=ROW_SCHEMA)) if change != "no rows" else whole
    if change == "no rows":
        (root / "manifest.parquet").write_bytes(b"PAR1")
        assert not _scan_fits(root, whole, write=False)
    elif change == "swapped samples" and whole.replica.kind == "real":
        assert _scan_fits(root, changed) == (not list(check_rows(changed)))
    else:
        assert list(check_rows(changed)) and not _scan_fits(root, changed)


@pytest.mark.parametrize("kind", ["synthetic"])
@pytest.mark.parametrize("field", ["num_samples", "num_classes", "num_shards", "class_list_sha256", "packing_root"])
def test_a_scan_compares_every_field_of_the_identity(root: Path, field: str) -> None:
    whole = records.read_records(str(root))
    value = getattr(whole.replica, field)
    other = value + 1 if isinstance(value, int) else "ab" * 32
    heads = records.read_heads(LocalStore(root), whole.replica)
    changed = dataclasses.replace(heads, replica=dataclasses.replace(whole.replica, **{field: other}))
    with scanned(heads) as good, scanned(changed) as bad:
        assert good is not None and bad is None


@pytest.mark.parametrize("kind", ["synthetic"])
def test_a_table_of_shards_is_compared_with_the_rows(root: Path) -> None:
    whole = records.read_records(str(root))
    heads = records.read_heads(LocalStore(root), whole.replica)
    changes: list[dict[str, Any]] = [
        {"shard": 7}, {"name": "shard-000009.tar"}, {"num_samples": 5}, {"size_bytes": 512}, {"sha256": "AB" * 32},
    ]  # fmt: skip
    for change in changes:
        shards = (*whole.shards[:1], dataclasses.replace(whole.shards[1], **change), *whole.shards[2:])
        replica = dataclasses.replace(whole.replica, packing_root=packing_root(shards))
        with scanned(dataclasses.replace(heads, shards=shards, replica=replica)) as rows:
            assert rows is None, change
    with scanned(dataclasses.replace(heads, shards=whole.shards[:-1])) as rows:
        assert rows is None


@pytest.mark.parametrize("kind", ["synthetic"])
@pytest.mark.parametrize("level", ["quick", "full"])
def test_a_size_below_zero_is_named(root: Path, level: str) -> None:
    """No packing_root can be taken over it."""
    shards = list(records.read_shard_table(LocalStore(root)))
    shards[1] = dataclasses.replace(shards[1], size_bytes=-1)
    (root / "shards.parquet").write_bytes(table_bytes(shard_table(shards)))
    with pytest.raises(BrokenSet, match=r"shard-000001.tar: size_bytes is -1, the rows give \d+"):
        verify.verify(str(root), level)


@pytest.mark.parametrize("kind", ["coded"])
@pytest.mark.parametrize("name", ["shards/shard-000001.tar", "codes/shard-000001.parquet"])
def test_a_file_that_goes_after_the_listing_is_missing(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(self: LocalStore, asked: str) -> Any:
        if asked == name:
            (root / name).unlink()
        return opened(self, asked)

    opened = LocalStore.open
    monkeypatch.setattr(LocalStore, "open", gone)
    with pytest.raises(BrokenSet, match=f"{name}: key c.* is missing, with") as caught:
        verify.verify(str(root), "full")
    monkeypatch.setattr(LocalStore, "open", opened)
    with pytest.raises(BrokenSet) as again:
        verify.verify(str(root), "full")
    assert again.value.faults == caught.value.faults and len(again.value.faults) == 1


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("kind", ["coded", "real"])
def test_faults_of_tars_are_named_without_the_manifest(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "read_records", None)
    path = root / "shards/shard-000002.tar"
    first = list(HeldRows(records.read_records(str(root))))[2].column("key")[0].as_py()
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    with pytest.raises(BrokenSet, match=f"shard-000002.tar: key {first[:4]}"):
        verify.verify(str(root), "full")
    path.write_bytes(data[:-512])
    with pytest.raises(BrokenSet, match="shard-000002.tar: has .* bytes, must have"):
        verify.verify(str(root), "quick")
    path.unlink()
    with pytest.raises(BrokenSet, match=f"shard-000002.tar: key {first}: is missing, with this key and all after it"):
        verify.verify(str(root), "quick")


def _other(value: Any, candidate: Any) -> Any:
    """Return another value of the kind that a column holds."""
    if value != candidate:
        return candidate
    if value is None or isinstance(value, str):
        return f"{value or ''}x" if isinstance(value, str) else None
    return value[:-1] + bytes([value[-1] ^ 1]) if isinstance(value, bytes) else value + 1


def _with_roots(whole: records.Records, table: pa.Table) -> records.Records:
    try:
        roots = {"rows_root": rows_root(table), "content_root": content_root_of(table, len(whole.classes))}
    except (AssertionError, ValueError):  # rows that have none
        roots = {}
    return dataclasses.replace(whole, manifest=table, replica=dataclasses.replace(whole.replica, **roots))


def _scan_fits(root: Path, changed: records.Records, *, write: bool = True) -> bool:
    if write:
        buffer = io.BytesIO()
        pq.write_table(changed.manifest, buffer, row_group_size=4)
        (root / "manifest.parquet").write_bytes(buffer.getvalue())
        (root / "shards.parquet").write_bytes(table_bytes(shard_table(changed.shards)))
    heads = records.Heads(store=LocalStore(root), replica=changed.replica, origin=changed.origin, shards=changed.shards)
    with scanned(heads) as rows:
        return rows is not None
