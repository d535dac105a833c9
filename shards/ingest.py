"""Turn real or imported data into a set of the same shards, rows and roots as a replica, one shard at a time.

`ingest.json` (of an imported set `import.json`) is written first, so labels must be known before images are; then each
shard that is not committed yet; then the set is frozen. The same command again goes on from there. With `skip_bad`
every image is read once before anything is written, and those that cannot be used are left out of the histogram and
listed in `skipped.parquet`; so ids do not depend on how often ingest was interrupted.
"""

import collections
import contextlib
import dataclasses
import datetime
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from caskit.manifests.canonical import parse_canonical
from caskit.manifests.errors import InputError, NotFinished
from caskit.manifests.imported import NOT_AUDITABLE, Import
from caskit.manifests.ingest import Ingest
from caskit.manifests.origin import ORIGIN_FILES
from caskit.manifests.plan import DEFAULT_SAMPLES_PER_SHARD, differing_fields
from caskit.manifests.replica import Replica
from caskit.manifests.rows import iterate_rows
from caskit.shards.card import write_card
from caskit.shards.commit import committed_shards, read_commit, shard_name
from caskit.shards.filling import fill_tar, unreadable
from caskit.shards.finishing import Behind, commit_written
from caskit.shards.freeze import freeze
from caskit.shards.records import read_manifest, read_parquet, read_replica
from caskit.shards.software import git_commit, versions
from caskit.shards.sources.source import Source, StoredImage, UnreadableImage
from caskit.shards.sources.uniform import Uniform
from caskit.shards.store import AlreadyExists, LocalStore, Store, probe_create_only
from caskit.shards.tables import table_bytes

SKIPPED = "skipped.parquet"
SKIPPED_SCHEMA = pa.schema(
    [pa.field("path", pa.string(), nullable=False), pa.field("error", pa.string(), nullable=False)]
)
MAX_ERROR_CHARACTERS = 300
_MAX_THREADS = 32
_IN_FLIGHT = 32  # images read ahead; the bound on memory


@dataclasses.dataclass(frozen=True, kw_only=True)
class IngestProgress:
    """How far one stage of ingest is: `check` (only with skip_bad) or `write`, in samples."""

    stage: str
    done: int
    total: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Imported:
    """What makes a set an imported one, and what whoever imports it says about it.

    Attributes:
        source_sha256: digest of the source, from `imports.source_sha256`.
        name: what to call the set; None for nothing but the form of its source.
        generator: what is said to have made the images, for provenance.json; nobody can check it.
        licence: of the images, for provenance.json.
    """

    source_sha256: str
    name: str | None = None
    generator: str | None = None
    licence: str | None = None


def ingest(
    source: Source,
    out: Path,
    *,
    imported: Imported | None = None,
    one_size: bool = False,
    channels: int | None = None,
    samples_per_shard: int = DEFAULT_SAMPLES_PER_SHARD,
    skip_bad: bool = False,
    threads: int | None = None,
    progress: Callable[[IngestProgress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Replica:
    """Write a source as a frozen set; does only what is not done yet.

    Args:
        source: one split of a data set.
        out: the set's folder.
        imported: makes the set one of kind imported; None makes it real.
        one_size: refuse images of other sizes or channels than the first one's; always so for an imported set.
        channels: with `one_size`, how images are read, see Uniform.
        samples_per_shard: samples in every shard but the last.
        skip_bad: leave out unreadable images instead of stopping at the first.
        threads: that read, decode and encode; as many as there are cores if None. No bit depends on it.
        progress: called after every checked sample and every shard.
        stop: asked between shards and between checked images; when it says so, NotFinished is raised.

    Raises:
        InputError: an image is unreadable or unlike the others, or `out` holds a set from another source.
        NotFinished: stopped on request.
    """
    store = LocalStore(out)
    for kind, name in ORIGIN_FILES.items():
        if kind != (Ingest if imported is None else Import).KIND and store.exists(name):
            raise InputError(f"{out}: holds a {kind} set ({name}), use another folder")
    skipped: list[tuple[str, str]] = []
    if skip_bad:
        source, skipped = leave_out_bad(source, store, threads, progress, stop)
    if one_size or imported is not None:
        source = _uniform(source, channels, state_channels=imported is None)
    record = describe(source, samples_per_shard, imported)
    if not store.exists(record.FILE):
        probe_create_only(store)  # the record is the first thing that must never be overwritten
    write_record(store, record)
    if skip_bad:
        write_skipped(store, skipped)
    if store.exists("replica.json"):
        check_unchanged(store, source, read_manifest(store))
        if not store.exists("SHA256SUMS"):  # the card's last file: an earlier run ended between freezing and the card
            write_card(store)
        return read_replica(store)
    write_shards(store, source, record, threads, progress, stop)
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    replica = freeze(store, provenance=provenance(source, len(skipped), imported), created=created)
    write_card(store)
    return replica


def _uniform(source: Source, channels: int | None, *, state_channels: bool) -> Uniform:
    try:
        return Uniform(source, channels=channels, state_channels=state_channels)
    except UnreadableImage as error:
        raise unreadable(error) from error


def describe(source: Source, samples_per_shard: int, imported: Imported | None) -> Ingest | Import:
    """Return the record of the set that a source becomes; an imported one is known to be uniform."""
    histogram = tuple(int(n) for n in np.bincount(source.labels, minlength=len(source.classes)))
    if imported is None:
        return Ingest(
            dataset=source.dataset,
            split=source.split,
            classes=source.classes,
            histogram=histogram,
            files=source.files,
            codec=source.codec,
            samples_per_shard=samples_per_shard,
        )
    assert isinstance(source, Uniform), "an imported set has images of one size"
    return Import(
        form=source.dataset,
        name=imported.name,
        classes=source.classes,
        histogram=histogram,
        height=source.height,
        width=source.width,
        channels=source.channels,
        files=source.files,
        settings=source.settings,
        source_sha256=imported.source_sha256,
        codec=source.codec,
        samples_per_shard=samples_per_shard,
    )


def write_shards(
    store: LocalStore,
    source: Source,
    record: Ingest | Import,
    threads: int | None,
    progress: Callable[[IngestProgress], None],
    stop: Callable[[], bool],
) -> None:
    """Write and commit the shards that are not committed. Raises NotFinished when told to stop."""
    probe_create_only(store)
    ordinals = class_ordinals(source.labels)
    done = committed_shards(store)

    def tell(shard: int, end: int) -> None:
        done.add(shard)
        progress(IngestProgress(stage="write", done=end, total=record.num))

    with Behind() as behind:
        for shard in range(record.num_shards):
            start = shard * record.samples_per_shard
            end = min(start + record.samples_per_shard, record.num)
            told = functools.partial(tell, shard, end)
            if shard not in done:
                if stop():
                    behind.join()
                    where = f"{store.location}: stopped with {len(done)} of {record.num_shards} shards committed"
                    raise NotFinished(f"{where}; the same command goes on from there")
                write_shard(store, source, record, ordinals, shard, range(start, end), threads, behind, told)
            else:
                behind.join()
                check_unchanged(store, source, read_commit(store, shard)[0])
                told()


def check_unchanged(store: LocalStore, source: Source, rows: pa.Table) -> None:
    """Compare rows written earlier with the source: the same names need not be the same images.

    A file is read again only if its size differs, so an edit that keeps the size is not noticed.

    Raises:
        InputError: naming the first sample that is another one now.
    """
    for row in iterate_rows(rows.select(["key", "sample_id", "source", "nbytes", "image_sha256"])):
        sample_id, where = row["sample_id"], f"{store.location}: key {row['key']} was made from {row['source']}"
        if source.path(sample_id) != row["source"]:
            raise InputError(f"{where}, which is {source.path(sample_id)} now; use another folder")
        if source.size_bytes(sample_id) not in (None, row["nbytes"]):
            try:
                image = source.read(sample_id)
            except UnreadableImage as error:
                raise InputError(f"{where}, unreadable now: {error}; use another folder") from error
            if hashlib.sha256(image.data).digest() != row["image_sha256"]:
                raise InputError(f"{where}, another image now; use another folder")


def provenance(source: Source, num_skipped: int, imported: Imported | None = None) -> dict[str, object]:
    """Return what provenance.json says about the set besides the time; of an imported one what cannot be audited."""
    said: dict[str, object] = {
        "versions": versions(),
        "git_commit": git_commit(),
        "licence": source.licence,
        "num_skipped": num_skipped,
    }
    if imported is None:
        return said
    return {
        **said,
        "licence": imported.licence or source.licence,
        "generator_as_stated": imported.generator,
        "not_auditable": list(NOT_AUDITABLE),
    }


def write_record(store: Store, record: Ingest | Import) -> None:
    """Write the first record, or check that the one there says the same. Raises InputError naming what differs."""
    try:
        store.create(record.FILE, record.to_bytes())
    except AlreadyExists:
        there = parse_canonical(store.read(record.FILE), name=f"{store.location}/{record.FILE}")
        differing = differing_fields(record.to_json(), there)
        if differing:
            raise InputError(
                f"{store.location}: holds a set from another source; differs in {', '.join(differing)}"
            ) from None


def class_ordinals(labels: np.ndarray) -> np.ndarray:
    """Return each sample's number within its class, [N] int64."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    ordinals = np.empty(len(labels), dtype=np.int64)
    ordinals[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ordinals


def write_shard(
    store: LocalStore,
    source: Source,
    record: Ingest | Import,
    ordinals: np.ndarray,
    shard: int,
    sample_ids: range,
    threads: int | None,
    behind: Behind,
    done: Callable[[], None],
) -> None:
    """Write one shard and hand it over to be committed, after which `done` is called.

    Raises InputError naming the image that cannot be read, or what committing the shard before raised.
    """
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(store.scratch()) / shard_name(shard)
        images = read_ahead(source, sample_ids, threads)
        table, written = fill_tar(path, images, source, record, ordinals, shard, sample_ids)
        behind.join()
        scratch = stack.pop_all()

    def commit() -> None:
        with scratch:
            commit_written(store, path, table, written, shard=shard, plan_id=record.origin_id)

    behind.submit(commit, done)


def read_ahead(
    source: Source, sample_ids: Iterable[int], threads: int | None = None
) -> Iterator[StoredImage | UnreadableImage]:
    """Yield images in order, reading a bounded number ahead in threads; an unreadable one is yielded as its error."""
    threads = threads or min(os.cpu_count() or 1, _MAX_THREADS)

    def read(sample_id: int) -> StoredImage | UnreadableImage:
        try:
            return source.read(sample_id)
        except UnreadableImage as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        ahead: collections.deque[Future[StoredImage | UnreadableImage]] = collections.deque()
        for sample_id in sample_ids:
            ahead.append(pool.submit(read, sample_id))
            if len(ahead) >= max(_IN_FLIGHT, 2 * threads):
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def leave_out_bad(
    source: Source,
    store: Store,
    threads: int | None,
    progress: Callable[[IngestProgress], None],
    stop: Callable[[], bool],
) -> tuple[Source, list[tuple[str, str]]]:
    """Take unreadable images out of a source.

    Which they are is known from `skipped.parquet` if an earlier run wrote it; else every image is read once.

    Returns:
        the source that is left, and (path, error) of the images left out.
    """
    bad: dict[int, str] = {}
    if store.exists(SKIPPED):
        listed = {
            row["path"]: row["error"] for row in read_parquet(store, SKIPPED, SKIPPED_SCHEMA, min_rows=0).to_pylist()
        }
        paths = ((sample_id, source.path(sample_id)) for sample_id in range(len(source.labels)))
        bad = {sample_id: listed[path] for sample_id, path in paths if path in listed}
    else:
        for sample_id, image in enumerate(read_ahead(source, range(len(source.labels)), threads)):
            if stop():
                raise NotFinished(
                    f"{store.location}: stopped while checking images, the same command starts that again"
                )
            if isinstance(image, UnreadableImage):
                bad[sample_id] = image.reason
            progress(IngestProgress(stage="check", done=sample_id + 1, total=len(source.labels)))
    skipped = sorted((source.path(sample_id), reason) for sample_id, reason in bad.items())
    return (source.without(bad) if bad else source), skipped


def write_skipped(store: Store, skipped: list[tuple[str, str]]) -> None:
    """Write skipped.parquet, also when it is empty: then it says that nothing was left out."""
    rows = [{"path": path, "error": error[:MAX_ERROR_CHARACTERS]} for path, error in skipped]
    try:
        store.create(SKIPPED, table_bytes(pa.Table.from_pylist(rows, schema=SKIPPED_SCHEMA)))
    except AlreadyExists:
        return  # an earlier run of this ingest, whose ingest.json agreed
