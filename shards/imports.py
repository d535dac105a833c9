"""Bringing a foreign source in: named by its content, so that what was brought in once is found again.

    brought = bring_in("samples.npz", kind="imported", options=Options(classes=real.classes))
    data = open_set(brought.reference)

A caskit set is used as it is. Any other source is ingested into `<cache>/imports/<digest of source and options>`, as an
imported set (what stands for training images) or a real one (what is tested on); with equal content and options that
folder is there already and nothing is read but the source's bytes, for their digest.
"""

import dataclasses
import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.errors import InputError, NotFinished
from caskit.manifests.imported import Import
from caskit.manifests.ingest import Ingest
from caskit.manifests.plan import DEFAULT_SAMPLES_PER_SHARD
from caskit.manifests.replica import Replica
from caskit.manifests.sets import SetReference
from caskit.shards.cache import cache_folder
from caskit.shards.digest import sha256_file
from caskit.shards.ingest import Imported, IngestProgress, ingest
from caskit.shards.records import read_replica
from caskit.shards.remote.location import is_url
from caskit.shards.remote.mirror import fetched
from caskit.shards.sources.imagefolder import ImageFolder
from caskit.shards.sources.recognise import CASKIT, Options, form_of, recognise
from caskit.shards.sources.source import Source
from caskit.shards.store import open_store

_THREADS = 2
_CHUNK = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Brought:
    """A set that stands for what was named.

    Attributes:
        location: the set's folder.
        replica: its identity.
        form: what was named: `caskit`, or the form of a source.
        cached: the set was there already.
    """

    location: Path
    replica: Replica
    form: str
    cached: bool

    @property
    def reference(self) -> str:
        """The set's reference with its whole id."""
        return f"{self.location}@sha256:{self.replica.replica_id}"


def bring_in(
    reference: str,
    *,
    kind: Literal["imported", "real"] = "imported",
    options: Options | None = None,
    channels: int | None = None,
    name: str | None = None,
    cache_dir: Path | None = None,
    progress: Callable[[IngestProgress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Brought:
    """Return a caskit set that holds what is at a path: the set itself, or what the source there becomes.

    Args:
        reference: `PATH[@sha256:prefix]` of a caskit set, or the path of a source, see `recognise`.
        kind: what a source becomes: `imported`, or `real`. A caskit set keeps its own kind.
        options: what the source does not say itself. The split of a real one should be stated: `score` refuses `train`.
        channels: how images are read, see Uniform; None for their own.
        name: what to call an imported set. It is part of its identity.
        cache_dir: where sets are kept, `$XDG_CACHE_HOME/caskit/imports` by default.
        progress: told how far the digest, the checks and the writing are.
        stop: asked between files and shards.

    Raises:
        InputError: nothing that is known is there, or it cannot be read as the options say.
        NotFinished: stopped on request; the same call goes on.
    """
    path, options = Path(reference), options or Options()
    asked = SetReference.parse(reference)
    if is_url(asked.location):
        here = fetched(asked)
        replica = read_replica(open_store(here.location))
        return Brought(location=Path(here.location), replica=replica, form=CASKIT, cached=True)
    if asked.prefix is not None or form_of(path) == CASKIT:
        store = open_store(asked.location)
        replica = read_replica(store)
        asked.check(replica.replica_id)
        return Brought(location=Path(asked.location), replica=replica, form=CASKIT, cached=True)
    source = recognise(path, options)
    digest = source_sha256(source, progress, stop)
    imported = Imported(source_sha256=digest, name=name) if kind == Import.KIND else None
    key = {
        "kind": kind,
        "source": digest,
        "split": source.split if kind == Ingest.KIND else None,
        "classes": source.classes.digest,
        "channels": channels,
        "name": name if kind == Import.KIND else None,
        "codec": dict(source.codec),
    }
    folder = (cache_folder("imports") if cache_dir is None else cache_dir) / sha256_hex(canonical_json(key))
    cached = (folder / "replica.json").exists() and (folder / "SHA256SUMS").exists()
    if cached:
        replica = read_replica(open_store(str(folder)))
    else:
        replica = ingest(
            source, folder, imported=imported, one_size=True, channels=channels, progress=progress, stop=stop
        )
    return Brought(location=folder, replica=replica, form=source.dataset, cached=cached)


def import_source(
    source: Source,
    out: Path,
    *,
    name: str | None = None,
    generator: str | None = None,
    licence: str | None = None,
    channels: int | None = None,
    samples_per_shard: int = DEFAULT_SAMPLES_PER_SHARD,
    skip_bad: bool = False,
    progress: Callable[[IngestProgress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Replica:
    """Write a source as an imported set in a folder of its own, see `ingest` and Imported."""
    digest = source_sha256(source, progress, stop)
    return ingest(
        source,
        out,
        imported=Imported(source_sha256=digest, name=name, generator=generator, licence=licence),
        channels=channels,
        samples_per_shard=samples_per_shard,
        skip_bad=skip_bad,
        progress=progress,
        stop=stop,
    )


def source_sha256(
    source: Source,
    progress: Callable[[IngestProgress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> str:
    """Return the digest of a source's input files and of how they are read, docs/format.md rule 7.9, 64 hex digits.

    Raises:
        InputError: a file cannot be read.
        NotFinished: stopped on request.
    """
    digest = hashlib.sha256(b"caskit/source/1\0")
    reading = canonical_json({"form": source.dataset, "settings": dict(source.settings)})
    for text in (reading, source.classes.to_bytes()):
        digest.update(struct.pack(">I", len(text)) + text)
    files: Iterable[tuple[str, bytes]] = _pinned(source.files)
    if isinstance(source, ImageFolder):
        files = _hashed(source, progress, stop)
    for name, file_digest in files:
        text = name.encode()
        digest.update(struct.pack(">I", len(text)) + text + file_digest)
    return digest.hexdigest()


def _pinned(files: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    for name in sorted(files, key=str.encode):
        yield name, bytes.fromhex(files[name])


def _hashed(
    source: ImageFolder, progress: Callable[[IngestProgress], None], stop: Callable[[], bool]
) -> Iterator[tuple[str, bytes]]:
    """Yield every file of a folder with its SHA-256, sorted by name."""
    names = sorted((name for files in source.class_files for name in files), key=str.encode)

    def read(name: str) -> bytes:
        try:
            return bytes.fromhex(sha256_file(source.root / name))
        except OSError as error:
            raise InputError(f"{source.root / name}: {error.strerror or error}") from error

    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(names), _CHUNK):
            if stop():
                raise NotFinished(f"{source.root}: stopped while taking its digest, the same command starts that again")
            chunk = names[start : start + _CHUNK]
            yield from zip(chunk, pool.map(read, chunk), strict=True)
            progress(IngestProgress(stage="digest", done=start + len(chunk), total=len(names)))
