"""Small sets with images that depend on their key alone, and processes that die where the test says."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from caskit.manifests.classes import ClassList, sample_key
from caskit.manifests.codec import EXTENSIONS, Codec
from caskit.manifests.codes import CodeLevel
from caskit.manifests.ingest import Ingest
from caskit.manifests.plan import Plan
from caskit.manifests.quota import balanced
from caskit.manifests.replica import Replica
from caskit.manifests.rows import ROW_SCHEMA
from caskit.manifests.seeds import stream_key
from caskit.shards.card import write_card
from caskit.shards.codecs import encode
from caskit.shards.codes import CodesWriter
from caskit.shards.commit import CommitInfo, commit_shard, describe_shard, shard_name
from caskit.shards.freeze import freeze
from caskit.shards.store import LocalStore
from caskit.shards.writing import ShardWriter

CREATED = "2026-01-01T00:00:00+00:00"
LEVELS = (CodeLevel(name="top", height=2, width=3), CodeLevel(name="bottom", height=5, width=4))
CLASSES = ClassList.from_names(["shirt", "bag | purse", "<boot>"])


@dataclasses.dataclass(frozen=True)
class Shard:
    """A finished scratch tar, ready to be committed."""

    path: Path
    rows: pa.Table
    info: CommitInfo
    codes: Path | None = None


class TinySets:
    """Makes plans, shards and whole sets of a few 5x4 images in three classes."""

    def plan(self, *, num: int = 20, seed: int = 7, **changes: Any) -> Plan:
        fields: dict[str, Any] = {
            "classes": CLASSES,
            "family": "fake",
            "preset": "tiny",
            "checkpoint_id": "ab" * 32,
            "sampler": {},
            "sampler_version": 1,
            "quota": "balanced",
            "histogram": balanced(num, 3, seed).histogram,
            "seed": seed,
            "height": 4,
            "width": 5,
            "channels": 1,
            "codec": Codec.of("png"),
            "samples_per_shard": 6,
        }
        return Plan(**{**fields, **changes})

    def ingest(self, *, histogram: tuple[int, ...] = (8, 7, 5), **changes: Any) -> Ingest:
        fields: dict[str, Any] = {
            "dataset": "tiny",
            "split": "test",
            "classes": CLASSES,
            "histogram": histogram,
            "files": {},
            "codec": Codec.of("png").to_json(),
            "samples_per_shard": 6,
        }
        return Ingest(**{**fields, **changes})

    def origin_id(self, origin: Plan | Ingest) -> str:
        return origin.plan_id if isinstance(origin, Plan) else origin.ingest_id

    def codecs(self, origin: Plan | Ingest) -> list[Codec]:
        """Return how a shard's images are encoded in turn: originals are of every format."""
        if isinstance(origin, Plan):
            return [origin.codec]
        return [Codec.of(name) for name in EXTENSIONS if origin.codec["name"] in (name, "original")]

    def assign(self, origin: Plan | Ingest) -> list[tuple[int, int]]:
        """Return (label, ordinal) of every sample_id."""
        if isinstance(origin, Plan):
            return list(zip(*(part.tolist() for part in origin.draw_order.assign(0, origin.num)), strict=True))
        return [(label, n) for label, count in enumerate(origin.histogram) for n in range(count)]

    def image(self, key: str, *, salt: bytes = b"", channels: int = 1) -> np.ndarray:
        noise = hashlib.shake_256(key.encode() + salt).digest(20 * channels)
        return np.frombuffer(noise, dtype=np.uint8).reshape(4, 5, channels)

    def filter_score(self, origin: Plan | Ingest, key: str) -> float | None:
        rejecting = isinstance(origin, Plan) and origin.rejection is not None
        return -hashlib.sha256(key.encode()).digest()[0] / 64 if rejecting else None

    def codes(self, key: str, *, salt: bytes = b"") -> dict[str, np.ndarray]:
        """Return the codes of a key, of two levels."""
        noise = np.frombuffer(hashlib.shake_256(b"codes" + key.encode() + salt).digest(52), dtype="<u2")
        return {"top": noise[:6].reshape(2, 3), "bottom": noise[6:].reshape(5, 4)}

    def shard(
        self, origin: Plan | Ingest, shard: int, folder: Path, *, salt: bytes = b"", code_salt: bytes = b""
    ) -> Shard:
        """Write one shard to `folder` and describe it; another salt gives other pixels or other codes."""
        folder.mkdir(parents=True, exist_ok=True)
        recorded = isinstance(origin, Plan) and origin.record_codes
        sidecar = folder / f"codes-{shard:06d}.parquet" if recorded else None
        levels = CodesWriter(sidecar, LEVELS) if sidecar is not None else None
        codecs = self.codecs(origin)
        start = shard * origin.samples_per_shard
        places = self.assign(origin)[start : start + origin.samples_per_shard]
        path, rows = folder / shard_name(shard), []
        with ShardWriter(path) as writer:
            for index, (label, ordinal) in enumerate(places):
                key, codec = sample_key(origin.classes.ids[label], ordinal), codecs[index % len(codecs)]
                image = encode(self.image(key, salt=salt), codec)
                offset, nbytes = writer.add(key, label, image, codec.extension)
                planned = isinstance(origin, Plan)
                row = {
                    "key": key,
                    "sample_id": start + index,
                    "label": label,
                    "ordinal": ordinal,
                    "shard": shard,
                    "index_in_shard": index,
                    "tar_offset": offset,
                    "nbytes": nbytes,
                    "width": 5,
                    "height": 4,
                    "image_sha256": hashlib.sha256(image).digest(),
                    "stream_key": stream_key(origin.seed, label, ordinal, 0) if isinstance(origin, Plan) else None,
                    "attempt": 0 if planned else None,
                    "filter_score": self.filter_score(origin, key),
                    "source": None if planned else f"{key}.png",
                    "codes_sha256": None if levels is None else levels.add(key, self.codes(key, salt=code_salt)),
                }
                rows.append(row)
        if levels is not None:
            levels.close()
        table = pa.Table.from_pylist(rows, schema=ROW_SCHEMA)
        environment = "cd" * 32 if isinstance(origin, Plan) else ""
        info = describe_shard(path, table, shard=shard, plan_id=self.origin_id(origin), environment_id=environment)
        return Shard(path, table, info, sidecar)

    def start(self, root: Path, origin: Plan | Ingest) -> LocalStore:
        """Make a set's folder with its first file."""
        store = LocalStore(root)
        store.create("plan.json" if isinstance(origin, Plan) else "ingest.json", origin.to_bytes())
        return store

    def commit(self, store: LocalStore, origin: Plan | Ingest, shard: int, **options: Any) -> str:
        salt = options.pop("salt", b"")
        with store.scratch() as folder:
            made = self.shard(origin, shard, folder, salt=salt)
            return commit_shard(store, made.path, made.rows, made.info, codes=made.codes, **options)

    def committed(self, root: Path, origin: Plan | Ingest) -> LocalStore:
        """Make a set whose shards are all committed."""
        store = self.start(root, origin)
        for shard in range(origin.num_shards):
            self.commit(store, origin, shard)
        return store

    def freeze(self, store: LocalStore, created: str = CREATED) -> Replica:
        return freeze(store, provenance={"licence": "cc0-1.0"}, created=created)

    def frozen(self, root: Path, origin: Plan | Ingest) -> tuple[LocalStore, Replica]:
        """Make a frozen set with its card."""
        store = self.committed(root, origin)
        replica = self.freeze(store)
        write_card(store)
        return store, replica

    def tree(self, root: Path) -> dict[str, bytes]:
        """Return every file of a set but scratch ones."""
        names = [name for name in LocalStore(root).names("") if not name.startswith("_work/tmp/")]
        return {name: (root / name).read_bytes() for name in names}


class Killed(BaseException):
    """Stands for kill -9: no handler for errors sees it, and nothing that touches the disk works afterwards."""


class Killer:
    """Counts the system calls that change a disk; the process is dead from call number `at` on."""

    CALLS = ("open", "write", "fsync", "link", "unlink", "mkdir", "replace")

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    @contextmanager
    def armed(self, at: int | None) -> Iterator[list[str]]:
        """Die at call number `at` (never, if None); yields the list of calls made."""
        made: list[str] = []

        def wrap(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                if at is not None and len(made) >= at:
                    raise Killed
                made.append(name)
                return real(*arguments, **options)

            return call

        with self.monkeypatch.context() as patch:
            for name in self.CALLS:
                patch.setattr(os, name, wrap(name, getattr(os, name)))
            yield made


@pytest.fixture(autouse=True)
def _no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests see what is in the page cache; waiting for the platter would only be slow."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def tiny() -> TinySets:
    return TinySets()


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    return Killer(monkeypatch)


@pytest.fixture
def killed() -> type[BaseException]:
    return Killed
