"""The commit protocol: how a finished tar becomes part of a set, once, whoever else tries and wherever a crash falls.

First the tar is created, and where codes are recorded their sidecar, then `_work/commits/000123.parquet`, which holds
the shard's rows and, under the key `caskit.commit` of its schema metadata, CommitInfo as canonical JSON. That object
is the commit. All are created whole or not at all, so after a crash there is nothing, a tar and perhaps a sidecar
without a commit (orphans), or a commit.
"""

import contextlib
import dataclasses
import hashlib
import re
import struct
from pathlib import Path
from typing import Literal, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from caskit.manifests.canonical import canonical_json, parse_canonical
from caskit.manifests.errors import InputError, IntegrityError, NonReproducible
from caskit.manifests.plan import FORMAT_VERSION, MAX_SAMPLES_PER_SHARD, check_fields, check_format_version
from caskit.manifests.roots import rows_root_of_shard
from caskit.manifests.rows import ROW_SCHEMA, check_schema
from caskit.shards.codes import CodesFile, check_codes, codes_path, open_codes
from caskit.shards.digest import sha256_file, sha256_stored
from caskit.shards.records import read_parquet
from caskit.shards.store import AlreadyExists, Store
from caskit.shards.tables import table_bytes
from caskit.shards.tar import read_samples
from caskit.shards.writing import Written

COMMITS = "_work/commits"
QUARANTINE = "quarantine"
METADATA_KEY = b"caskit.commit"
MAX_COMMIT_BYTES = 2**29
Outcome = Literal["committed", "adopted", "already"]
_COMMIT_NAME = re.compile(re.escape(COMMITS) + r"/(\d{6,})\.parquet")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommitInfo:
    """What a commit says besides its rows.

    Attributes:
        shard: its number.
        plan_id: digest of plan.json, or of ingest.json for a real set.
        tar_name: its name inside `shards/`.
        tar_size, tar_sha256: its bytes.
        rows_digest: rows_root over the shard's rows.
        environment_id: the environment class the samples were drawn in, empty for a real set. No part of any identity.
    """

    format_version: int = FORMAT_VERSION
    shard: int
    plan_id: str
    tar_name: str
    tar_size: int
    tar_sha256: str
    rows_digest: str
    environment_id: str

    def __post_init__(self) -> None:
        check_format_version(self.format_version, name="commit")
        for name in ("shard", "tar_size"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise InputError(f"commit: {name} is {value!r}, must be 0 or more")
        for name in ("plan_id", "tar_sha256", "rows_digest", "environment_id"):
            value = getattr(self, name)
            empty = name == "environment_id" and value == ""
            if not empty and (not isinstance(value, str) or re.fullmatch("[0-9a-f]{64}", value) is None):
                raise InputError(f"commit: {name} is {value!r}, must be 64 lower-case hex digits")
        if self.tar_name != shard_name(self.shard):
            raise InputError(f"commit: tar_name is {self.tar_name!r}, shard {self.shard} is {shard_name(self.shard)}")

    @property
    def identity(self) -> tuple[str, str, int, str]:
        """What two commits of one shard must agree in: tar name, digest and size, rows digest."""
        return self.tar_name, self.tar_sha256, self.tar_size, self.rows_digest


def shard_name(shard: int) -> str:
    """Return a tar's name inside `shards/`, `shard-000123.tar`."""
    return f"shard-{shard:06d}.tar"


def shard_path(shard: int) -> str:
    """Return a tar's name in the store."""
    return f"shards/{shard_name(shard)}"


def commit_name(shard: int) -> str:
    """Return a commit's name in the store."""
    return f"{COMMITS}/{shard:06d}.parquet"


def rows_digest(rows: pa.Table) -> str:
    """Return the digest of a shard's rows: their rows_root, taken like that of a whole set in manifest order."""
    return rows_root_of_shard(rows)


def describe_shard(
    tar_path: Path, rows: pa.Table, *, shard: int, plan_id: str, environment_id: str, written: Written | None = None
) -> CommitInfo:
    """Return what the commit of a finished scratch tar says.

    Args:
        tar_path: the tar.
        rows: its rows in sample_id order.
        shard: its number.
        plan_id: digest of plan.json or ingest.json.
        environment_id: empty for a real set.
        written: what its writer hashed; without, the file is read.
    """
    return CommitInfo(
        shard=shard,
        plan_id=plan_id,
        tar_name=shard_name(shard),
        tar_size=tar_path.stat().st_size if written is None else written.size_bytes,
        tar_sha256=sha256_file(tar_path) if written is None else written.sha256,
        rows_digest=rows_digest(rows),
        environment_id=environment_id,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Made:
    """A finished shard in scratch files: the tar, its rows, what they are, and the sidecar if codes are recorded."""

    tar: Path
    codes: Path | None
    rows: pa.Table
    info: CommitInfo

    @property
    def files(self) -> dict[str, Path]:
        """What is created before the commit, by its name in the store."""
        sidecar = {} if self.codes is None else {codes_path(self.info.shard): self.codes}
        return {shard_path(self.info.shard): self.tar, **sidecar}


def commit_shard(
    store: Store,
    tar_path: Path,
    rows: pa.Table,
    info: CommitInfo,
    *,
    codes: Path | None = None,
    written: Written | None = None,
    discard_orphans: bool = False,
) -> Outcome:
    """Make a finished scratch tar part of the set.

    Args:
        store: the set.
        tar_path: a local file; it must not be changed afterwards.
        rows: its rows, ROW_SCHEMA, in sample_id order.
        info: what they are, from `describe_shard`.
        codes: the sidecar, a local file, if the rows have digests of codes.
        written: what the tar's writer hashed and read back; a file that is still that one is not read again.
        discard_orphans: delete a tar of other bytes, or a sidecar of other codes, that has no commit. Only for when no
            other writer is at work.

    Returns:
        `committed`; `adopted` if a tar or a sidecar with equal content was there; `already` if an equal commit was.

    Raises:
        IntegrityError: the scratch files are not what their rows and info say; nothing was written.
        InputError: the set belongs to another plan.
        NonReproducible: other bytes are there. They stay, ours are in `quarantine/`.
        OSError: the disk is full, read-only, or the like; no name was given to anything half-written.
    """
    if written is not None and written.is_still(tar_path):
        check_written(written, rows, info)
    else:
        check_scratch(tar_path, rows, info)
    return commit_checked(store, Made(tar=tar_path, codes=codes, rows=rows, info=info), discard_orphans=discard_orphans)


def commit_checked(store: Store, made: Made, *, discard_orphans: bool = False) -> Outcome:
    """Do what `commit_shard` does with a tar that was compared with its rows. Raises what that raises afterwards."""
    info = made.info
    _check_scratch_codes(made)
    if store.exists(commit_name(info.shard)):
        return _agree(store, made)
    outcome: Outcome = "committed"
    for name, path in made.files.items():
        try:
            store.create_from(name, path)
        except AlreadyExists:
            if not _is_equal(store, name, made):
                if store.exists(commit_name(info.shard)):  # a twin was faster
                    return _agree(store, made)
                if not discard_orphans:
                    _refuse_orphan(store, name, made)
                _discard_orphans(store, made)
                return commit_checked(store, made)
            outcome = "adopted"
    try:
        store.create(commit_name(info.shard), commit_bytes(made.rows, info))
    except AlreadyExists:
        return _agree(store, made)
    return outcome


def _check_scratch_codes(made: Made) -> None:
    """Read a scratch sidecar back and compare it with the rows."""
    digests, name = made.rows.column("codes_sha256"), codes_path(made.info.shard)
    if made.codes is None:
        if digests.null_count < len(digests):
            raise IntegrityError(f"{name}: the rows have digests of codes, but there is no sidecar")
        return
    with made.codes.open("rb") as file:
        size = made.codes.stat().st_size
        check_codes(CodesFile(file, size, name=name, max_rows=made.rows.num_rows), made.rows, name=name)


def check_scratch(tar_path: Path, rows: pa.Table, info: CommitInfo) -> None:
    """Read a scratch tar back and compare it with its rows. Raises IntegrityError naming the first key at fault."""
    name = info.tar_name
    check_schema(rows, name=name)
    columns = ("key", "label", "tar_offset", "nbytes", "image_sha256", "shard", "index_in_shard")
    expected = zip(*(rows.column(column).to_pylist() for column in columns), strict=True)
    digest, num_samples = hashlib.sha256(), 0
    with tar_path.open("rb") as file:
        for sample in read_samples(file, name=name, digest=digest):
            image = hashlib.sha256(sample.image).digest()
            found = (sample.key, sample.label, sample.payload_offset, len(sample.image), image, info.shard, num_samples)
            if found != next(expected, None):
                raise IntegrityError(f"{name}: key {sample.key}: the tar does not hold what row {num_samples} says")
            num_samples += 1
        size = file.tell()
    if num_samples != rows.num_rows:
        raise IntegrityError(f"{name}: {num_samples} samples in the tar, {rows.num_rows} rows")
    if (size, digest.hexdigest(), rows_digest(rows)) != (info.tar_size, info.tar_sha256, info.rows_digest):
        raise IntegrityError(f"{name}: size or digests of the tar and its rows are not those to be committed")


def check_written(written: Written, rows: pa.Table, info: CommitInfo) -> None:
    """Compare rows with what a tar's writer hashed. Raises IntegrityError as `check_scratch` does for that tar."""
    name = info.tar_name
    check_rows_written(written, rows, info.shard)
    if (written.size_bytes, written.sha256, rows_digest(rows)) != (info.tar_size, info.tar_sha256, info.rows_digest):
        raise IntegrityError(f"{name}: size or digests of the tar and its rows are not those to be committed")


def check_rows_written(written: Written, rows: pa.Table, shard: int) -> None:
    """Compare the rows of a shard with what its tar's writer noted, as `check_written` does, but no digest of them."""
    name = shard_name(shard)
    check_schema(rows, name=name)
    place = written.first_difference(rows)
    shards = rows.column("shard").to_numpy()
    if place is None and (shards != shard).any():
        place = int((shards != shard).argmax())
    if place is not None and place < len(written.keys):
        raise IntegrityError(f"{name}: key {written.keys[place]}: the tar does not hold what row {place} says")
    if len(written.keys) != rows.num_rows:
        raise IntegrityError(f"{name}: {len(written.keys)} samples in the tar, {rows.num_rows} rows")


def read_commit(store: Store, shard: int) -> tuple[pa.Table, CommitInfo]:
    """Read a commit: its rows in sample_id order, and what it says about them.

    Raises:
        FileNotFoundError: the shard is not committed.
        IntegrityError: the file is damaged, or is that of another shard.
    """
    name = commit_name(shard)
    where = f"{store.location}/{name}"
    if store.size(name) > MAX_COMMIT_BYTES:
        raise IntegrityError(f"{where}: {store.size(name)} bytes, at most {MAX_COMMIT_BYTES} are read")
    rows = read_parquet(store, name, ROW_SCHEMA)
    check_schema(rows, name=where)
    if rows.num_rows > MAX_SAMPLES_PER_SHARD:
        raise IntegrityError(f"{where}: {rows.num_rows} rows, at most {MAX_SAMPLES_PER_SHARD} are read")
    info = read_commit_info(store, shard)
    try:
        found = rows_digest(rows)
    except (ValueError, OverflowError, struct.error) as error:
        raise IntegrityError(f"{where}: a row has no canonical form ({error})") from error
    if info.shard != shard or info.rows_digest != found:
        raise IntegrityError(f"{where}: says shard {info.shard}, rows {info.rows_digest}; holds rows {found}")
    if not (rows.column("shard").to_numpy() == shard).all():
        raise IntegrityError(f"{where}: holds rows of another shard")
    return rows, info


def read_commit_info(store: Store, shard: int) -> CommitInfo:
    """Read what a commit says about its rows without reading these; whether it is true, `read_commit` checks.

    Raises:
        FileNotFoundError: the shard is not committed.
        IntegrityError: the file is damaged or no commit.
    """
    name = commit_name(shard)
    where = f"{store.location}/{name}"
    try:
        with store.open(name) as file:
            metadata = pq.read_metadata(file).metadata or {}
        fields = parse_canonical(metadata.get(METADATA_KEY, b""), name=where)
        check_fields(fields, CommitInfo, name=where)
        return CommitInfo(**fields)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, InputError, TypeError) as error:
        raise IntegrityError(f"{where}: no commit of ours ({' '.join(str(error).split())})") from error


def committed_shards(store: Store) -> set[int]:
    """Return the numbers of the committed shards."""
    matches = (_COMMIT_NAME.fullmatch(name) for name in store.names(f"{COMMITS}/"))
    return {int(match[1]) for match in matches if match is not None and commit_name(int(match[1])) == match[0]}


def commit_bytes(rows: pa.Table, info: CommitInfo) -> bytes:
    """Return the bytes of a commit."""
    metadata = {METADATA_KEY: canonical_json(dataclasses.asdict(info))}
    return table_bytes(rows.replace_schema_metadata(metadata))


def _is_equal(store: Store, name: str, made: Made) -> bool:
    """Say whether the tar or the sidecar that is there holds what ours does; a sidecar's bytes are no identity."""
    info = made.info
    if name == shard_path(info.shard):
        return store.size(name) == info.tar_size and sha256_stored(store, name) == info.tar_sha256
    try:
        with open_codes(store, info.shard, max_rows=made.rows.num_rows) as codes:
            check_codes(codes, made.rows, name=name)
    except IntegrityError:
        return False
    return True


def _discard_orphans(store: Store, made: Made) -> None:
    for name in made.files:
        if store.exists(name) and not _is_equal(store, name, made):
            store.delete(name)


def _agree(store: Store, made: Made) -> Outcome:
    """Compare with the commit that is there."""
    info = made.info
    _, there = read_commit(store, info.shard)
    if there.plan_id != info.plan_id:
        raise InputError(
            f"{store.location}: {info.tar_name} is committed for plan {there.plan_id}, not for {info.plan_id}; "
            "use another folder"
        )
    if there.identity != info.identity:
        kept = _quarantine(store, made)
        raise NonReproducible(
            f"{store.location}: {info.tar_name} is committed with sha256 {there.tar_sha256}, rows {there.rows_digest} "
            f"(environment {there.environment_id or 'none'}); the same plan now gave sha256 {info.tar_sha256}, "
            f"rows {info.rows_digest} (environment {info.environment_id or 'none'}); the new bytes are in {kept}"
        )
    return "already"


def _refuse_orphan(store: Store, name: str, made: Made) -> NoReturn:
    info, orphan = made.info, sha256_stored(store, name)
    kept = _quarantine(store, made)
    if name != shard_path(info.shard):
        raise NonReproducible(
            f"{store.location}: {name} is there without a commit and holds other codes than the plan gives; ours are "
            f"kept beside {kept}; when no other run is writing, --discard-orphans replaces it"
        )
    raise NonReproducible(
        f"{store.location}: {info.tar_name} is there without a commit and has sha256 {orphan}; the plan gives "
        f"sha256 {info.tar_sha256}, kept in {kept}; when no other run is writing, --discard-orphans replaces it"
    )


def _quarantine(store: Store, made: Made) -> str:
    """Keep our tar, our sidecar and the would-be commit, under names that their digests make unique."""
    info = made.info
    stem = f"{QUARANTINE}/{info.tar_name.removesuffix('.tar')}.{info.tar_sha256[:16]}"
    with contextlib.suppress(AlreadyExists):  # the same bytes were tried before
        store.create_from(f"{stem}.tar", made.tar)
    if made.codes is not None:
        with contextlib.suppress(AlreadyExists):
            store.create_from(f"{stem}.{info.rows_digest[:16]}.codes.parquet", made.codes)
    with contextlib.suppress(AlreadyExists):
        store.create(f"{stem}.{info.rows_digest[:16]}.parquet", commit_bytes(made.rows, info))
    return f"{stem}.tar"
