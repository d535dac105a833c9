"""Every fault of benchmarks/faults.py is noticed by the level that must notice it, naming shard and key."""

import hashlib
import random
import runpy
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caskit.manifests.errors import InputError, IntegrityError
from caskit.manifests.rejection import Rejection
from caskit.manifests.seeds import stream_key
from caskit.shards import records, row_checks
from caskit.shards.codecs import decode, encode
from caskit.shards.fault import MAX_FAULTS, BrokenSet, Fault
from caskit.shards.verify import VerifyProgress, verify

FAULTS = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "faults.py"))["FAULTS"]
KINDS = ("synthetic", "real", "coded")
CASES = [(kind, fault) for fault in FAULTS for kind in fault.kinds]
IDS = [f"{kind}: {fault.name}" for kind, fault in CASES]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: tmp_path_factory.mktemp("pristine") / kind for kind in KINDS}


@pytest.fixture
def root(kind: str, pristine: dict[str, Path], tmp_path: Path, tiny: Any) -> Path:
    if not pristine[kind].exists():
        origin = tiny.ingest() if kind == "real" else tiny.plan(record_codes=kind == "coded")
        tiny.frozen(pristine[kind], origin)
    shutil.copytree(pristine[kind], tmp_path / "set")
    return tmp_path / "set"


@pytest.mark.parametrize(("kind", "fault"), CASES, ids=IDS)
def test_full_names_shard_and_key(root: Path, kind: str, fault: Any) -> None:
    shard, key = fault.damage(root)
    with pytest.raises(InputError) as caught:
        verify(str(root), "full")
    told = str(caught.value)
    assert str(root) in told and "\n" not in told
    if isinstance(caught.value, BrokenSet):
        assert len(caught.value.faults) <= 3 or "plan.json" in fault.name, "one fault sets off a flood"
        told = "; ".join(map(str, caught.value.faults))
    assert shard in told and key in told
    newer = "format_version" in fault.name
    assert isinstance(caught.value, IntegrityError) != newer  # a set for a newer caskit is not a broken one


@pytest.mark.parametrize(("kind", "fault"), CASES, ids=IDS)
def test_quick_notices_all_that_shows_without_reading_tars(root: Path, kind: str, fault: Any) -> None:
    fault.damage(root)
    if fault.quick:
        with pytest.raises(InputError):
            verify(str(root), "quick")
    else:
        verify(str(root), "quick")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", ["quick", "full", "deep"])
def test_a_whole_set_passes(root: Path, kind: str, level: str) -> None:
    seen: list[VerifyProgress] = []
    report = verify(str(root), level, progress=seen.append)
    assert (report.level, report.replica.kind) == (level, "real" if kind == "real" else "synthetic")
    assert dict(report.checks)["rows"] == 20
    assert report.num_duplicates == (0 if level == "deep" else None)
    codes = ["codes"] * 4 if kind == "coded" else []
    stages = {"quick": codes, "full": ["tars"] * 4 + codes, "deep": ["tars"] * 4 + codes + ["pixels"] * 4}
    assert [step.stage for step in seen] == stages[level]
    told = "sidecars of codes" if level == "quick" else "digests of codes"
    assert dict(report.checks).get(told) == ({"quick": 4}.get(level, 20) if kind == "coded" else None)


@pytest.mark.parametrize("kind", ["real"])
def test_a_published_set_has_no_work_folder_and_passes(root: Path, kind: str) -> None:
    shutil.rmtree(root / "_work")
    verify(str(root), "deep")
    rows = pq.read_table(root / "manifest.parquet").to_pylist()
    rows[3]["source"] = "other"
    pq.write_table(pa.Table.from_pylist(rows, schema=records.ROW_SCHEMA), root / "manifest.parquet")
    with pytest.raises(BrokenSet, match=r"replica.json: rows_root is .*, the set gives"):
        verify(str(root))


@pytest.mark.parametrize("kind", ["synthetic"])
def test_parquet_written_by_another_program_is_the_same_set(root: Path, kind: str) -> None:
    for name in ("manifest.parquet", "shards.parquet"):
        pq.write_table(
            pq.read_table(root / name), root / name, compression="none", row_group_size=3, store_schema=False
        )
    verify(str(root))


@pytest.mark.parametrize("kind", ["synthetic"])
def test_no_more_faults_than_anybody_reads(root: Path, kind: str) -> None:
    rows = pq.read_table(root / "manifest.parquet").to_pylist()
    for row in rows:
        row["stream_key"] = bytes(16)
    pq.write_table(pa.Table.from_pylist(rows, schema=records.ROW_SCHEMA), root / "manifest.parquet")
    for tar in (root / "shards").iterdir():
        tar.unlink()
    with pytest.raises(BrokenSet) as caught:
        verify(str(root))
    assert len(caught.value.faults) == MAX_FAULTS and str(caught.value).endswith("(and 19 more)")


@pytest.mark.parametrize("kind", ["synthetic"])
def test_level_and_reference_are_checked(root: Path, kind: str, tmp_path: Path) -> None:
    replica_id = hashlib.sha256((root / "replica.json").read_bytes()).hexdigest()
    verify(f"{root}@sha256:{replica_id[:8]}", "quick")
    with pytest.raises(InputError, match="the reference asks for sha256:00000000"):
        verify(f"{root}@sha256:00000000")
    with pytest.raises(InputError, match="level is 'best', allowed: quick, full, deep"):
        verify(str(root), "best")
    with pytest.raises(InputError, match="no caskit set is there"):
        verify(str(tmp_path / "nothing"))
    (root / "replica.json").unlink()
    with pytest.raises(InputError, match="not frozen yet"):
        verify(str(root))


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("filter_score", lambda score: score - 0.25, "filter_score: not what was committed"),
        ("filter_score", lambda score: None, "filter_score is missing in a synthetic set with rejection"),
        ("attempt", lambda attempt: attempt + 1, "stream_key is not the one that the plan's seed gives"),
        ("attempt", lambda attempt: 8, "attempt is 8, the plan allows 0..7"),
    ],
)
def test_an_edited_choice_of_the_judge_is_found(
    tmp_path: Path, tiny: Any, column: str, change: Any, message: str
) -> None:
    plan = tiny.plan(rejection=Rejection(candidates=2, classifier_id="ef" * 32))
    tiny.frozen(tmp_path / "set", plan)
    verify(str(tmp_path / "set"), "deep")
    rows = pq.read_table(tmp_path / "set/manifest.parquet").to_pylist()
    rows[3][column] = change(rows[3][column])
    pq.write_table(pa.Table.from_pylist(rows, schema=records.ROW_SCHEMA), tmp_path / "set/manifest.parquet")
    with pytest.raises(BrokenSet, match=f"key {rows[3]['key']}: {message}"):
        verify(str(tmp_path / "set"))


def test_an_edited_choice_with_its_stream_is_found(tmp_path: Path, tiny: Any) -> None:
    plan = tiny.plan(rejection=Rejection(candidates=2, classifier_id="ef" * 32))
    tiny.frozen(tmp_path / "set", plan)
    rows = pq.read_table(tmp_path / "set/manifest.parquet").to_pylist()
    rows[3] |= {"attempt": 1, "stream_key": stream_key(plan.seed, rows[3]["label"], rows[3]["ordinal"], 1)}
    pq.write_table(pa.Table.from_pylist(rows, schema=records.ROW_SCHEMA), tmp_path / "set/manifest.parquet")
    with pytest.raises(BrokenSet, match=f"key {rows[3]['key']}: stream_key, attempt: not what was committed"):
        verify(str(tmp_path / "set"))
    shutil.rmtree(tmp_path / "set/_work")
    with pytest.raises(BrokenSet, match="replica.json: rows_root is .*, the set gives"):
        verify(str(tmp_path / "set"))


class TestDeep:
    """Sets that are consistent in every digest, and whose images are not what rows and plan say."""

    def make(self, root: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch, change: Any, **plan: Any) -> str:
        """Freeze a set whose stored images went through `change`."""

        def encode_other(pixels: Any, codec: Any) -> bytes:
            return bytes(change(pixels, codec))

        monkeypatch.setitem(tiny.shard.__func__.__globals__, "encode", encode_other)
        tiny.frozen(root, tiny.plan(**plan))
        verify(str(root), "full")
        return str(root)

    def test_image_of_another_size(self, tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        root = self.make(tmp_path / "set", tiny, monkeypatch, lambda pixels, codec: encode(pixels[:2], codec))
        with pytest.raises(BrokenSet, match=r"shard-000000.tar: key c0\d_000000: image is 5x2, its row says 5x4"):
            verify(root, "deep")

    def test_other_channels(self, tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        root = self.make(tmp_path / "set", tiny, monkeypatch, lambda p, codec: encode(p.repeat(3, axis=2), codec))
        with pytest.raises(BrokenSet, match=r"key c0\d_000000: image has 3 channels, the set has 1"):
            verify(root, "deep")

    def test_no_image(self, tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        root = self.make(tmp_path / "set", tiny, monkeypatch, lambda p, codec: encode(p, codec)[:40])
        with pytest.raises(BrokenSet, match=r"key c0\d_000000: no readable png"):
            verify(root, "deep")

    def test_duplicates_are_counted(self, tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        root = self.make(tmp_path / "set", tiny, monkeypatch, lambda p, codec: encode(p * 0 + p[0, 0, 0] % 2, codec))
        assert verify(root, "deep").num_duplicates == 18

    def test_pixel_digests(self, tmp_path: Path, tiny: Any) -> None:
        """A row's pixel_sha256 is checked, and must be there when the plan asks for it."""
        plan = tiny.plan(pixel_digests=True)
        made = tiny.shard(plan, 0, tmp_path / "scratch")
        rows = made.rows.to_pylist()
        for row in rows:
            image = made.path.read_bytes()[row["tar_offset"] :][: row["nbytes"]]
            row["pixel_sha256"] = hashlib.sha256(decode(image, extension="png").tobytes()).digest()
        check = row_checks_of(plan, rows)
        assert not [fault for fault in check if "pixel_sha256" in fault.message]
        rows[2]["pixel_sha256"] = None
        assert [fault.key for fault in row_checks_of(plan, rows) if "pixel_sha256 is missing" in fault.message]


def row_checks_of(plan: Any, rows: list[dict[str, Any]]) -> list[Fault]:
    table = pa.Table.from_pylist(rows, schema=records.ROW_SCHEMA)
    fake = records.Records(store=None, replica=_Synthetic, origin=plan, manifest=table, shards=())  # type: ignore[arg-type]
    return list(row_checks._origin_faults(fake))


class _Synthetic:
    kind = "synthetic"


class TestHostile:
    """Records made to harm a reader are refused before they cost memory or leave the folder."""

    @pytest.fixture
    def store(self, tmp_path: Path, tiny: Any) -> Any:
        return tiny.frozen(tmp_path / "set", tiny.ingest())[0]

    def test_text_that_parquet_repeats_for_nothing(self, store: Any) -> None:
        rows = pq.read_table(store.root / "manifest.parquet").to_pylist()
        for row in rows:
            row["source"] = "x" * 100_000
        pq.write_table(pa.Table.from_pylist(rows, schema=records.ROW_SCHEMA), store.root / "manifest.parquet")
        with pytest.raises(IntegrityError, match="column source holds a text of more than 4096 bytes"):
            verify(store.location)

    def test_row_groups_too_large(self, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(records, "MAX_ROW_BYTES", -(2**20))
        with pytest.raises(IntegrityError, match="bytes for 20 rows"):
            verify(store.location)

    def test_other_columns(self, store: Any) -> None:
        table = pq.read_table(store.root / "manifest.parquet")
        pq.write_table(table.append_column("more", pa.nulls(20, pa.string())), store.root / "manifest.parquet")
        with pytest.raises(IntegrityError, match="has columns key, .*, more, not key"):
            verify(store.location)

    def test_other_types(self, store: Any) -> None:
        table = pq.read_table(store.root / "shards.parquet")
        changed = table.set_column(3, "size_bytes", pa.array(["many"] * table.num_rows))
        pq.write_table(changed, store.root / "shards.parquet")
        with pytest.raises(IntegrityError, match="shards.parquet"):
            verify(store.location)

    @pytest.mark.parametrize("name", ["manifest.parquet", "shards.parquet"])
    def test_random_damage_never_ends_in_another_error(self, store: Any, name: str) -> None:
        """Found so in longer runs: texts that are no UTF-8, columns whose name was hit."""
        table = pq.read_table(store.root / name)
        pq.write_table(table, store.root / name, compression="none", use_dictionary=False)
        whole = (store.root / name).read_bytes()
        rng, refused = random.Random(5), 0
        for _ in range(60):
            damaged = bytearray(whole)
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            (store.root / name).write_bytes(damaged)
            try:
                verify(store.location, "quick")
            except InputError:
                refused += 1
        assert refused > 20  # the others hit what is no row: statistics, names of writers

    def test_text_that_is_no_utf8(self, store: Any) -> None:
        path = store.root / "shards.parquet"
        pq.write_table(pq.read_table(path), path, compression="none", use_dictionary=False, write_statistics=False)
        path.write_bytes(path.read_bytes().replace(b"shard-000001.tar", b"shard-\xb000001.tar", 1))
        with pytest.raises(IntegrityError, match="shards.parquet: not a whole Parquet file .*UTF8"):
            verify(store.location)

    @pytest.mark.parametrize(("name", "column"), [("shards.parquet", "name"), ("manifest.parquet", "key")])
    def test_texts_in_an_encoding_that_is_not_read(self, store: Any, name: str, column: str) -> None:
        path, encoding = store.root / name, {column: "DELTA_BYTE_ARRAY"}
        pq.write_table(pq.read_table(path), path, use_dictionary=False, column_encoding=encoding)
        with pytest.raises(IntegrityError, match=rf"{name}: damaged, or in a Parquet encoding that is not read here"):
            verify(store.location)

    def test_json_too_large(self, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(records, "MAX_JSON_BYTES", 10)
        with pytest.raises(IntegrityError, match="replica.json: .* bytes, at most 10 are read"):
            verify(store.location)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b'"samples_per_shard":6', b'"samples_per_shard":0'),
            (b'"samples_per_shard":6', b'"samples_per_shard":"6"'),
            (b'"histogram":[8,7,5]', b'"histogram":[-8,7,21]'),
            (b'"histogram":[8,7,5]', b'"histogram":[9007199254740991,7,5]'),
            (b'"histogram":[8,7,5]', b'"histogram":5'),
            (b'"histogram":[8,7,5]', b'"histogram":["8",7,5]'),
            (b'"id":"c00"', b'"id":"../c"'),
            (b'"classes":[', b'"classes":[5,'),
        ],
    )
    def test_absurd_origin(self, store: Any, old: bytes, new: bytes) -> None:
        ingest, replica = store.root / "ingest.json", store.root / "replica.json"
        before = hashlib.sha256(ingest.read_bytes()).hexdigest().encode()
        assert old in ingest.read_bytes()
        ingest.write_bytes(ingest.read_bytes().replace(old, new))
        after = hashlib.sha256(ingest.read_bytes()).hexdigest().encode()
        replica.write_bytes(replica.read_bytes().replace(before, after))
        with pytest.raises(IntegrityError, match="ingest.json"):
            verify(store.location)

    def test_linked_folder(self, store: Any, tmp_path: Path) -> None:
        (store.root / "shards").rename(tmp_path / "elsewhere")
        (store.root / "shards").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(IntegrityError):
            verify(store.location)

    def test_control_characters_are_not_printed(self) -> None:
        assert "\x1b" not in str(Fault(file="a", key="\x1b[2Jc00", message="m"))
