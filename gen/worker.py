"""The work on one shard: one picklable callable that every executor maps over shard numbers."""

import abc
import dataclasses
import os
import platform
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, Required, TypedDict, TypeVar, Unpack

import pyarrow as pa

from caskit.gen.codes import as_coded, code_levels
from caskit.gen.drawing import draw_shard
from caskit.gen.environment import claim_environment, environment_of
from caskit.gen.family import Family, Generator, load_family, make_settings, require_code
from caskit.gen.numerics import numerics_applied
from caskit.gen.opening import open_planned
from caskit.gen.packer import ShardPacker
from caskit.gen.rejection import Judge, load_judge
from caskit.manifests.canonical import sha256_hex
from caskit.manifests.errors import InputError
from caskit.manifests.plan import Plan
from caskit.manifests.reconstruction import Reconstruction
from caskit.shards.commit import commit_name, read_commit, shard_name
from caskit.shards.finishing import commit_written
from caskit.shards.scratch import scratch_folder
from caskit.shards.store import SCRATCH, Store, open_store
from caskit.shards.writing import Written

OrderT = TypeVar("OrderT", Plan, Reconstruction)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardResult:
    """A shard that is committed.

    Attributes:
        shard: its number.
        outcome: `committed`; `adopted`, a tar with equal bytes was there; `already`, the commit was.
        num_drawn: samples drawn by this call, 0 if the commit was there at the start.
        num_redrawn: of them, those whose first draw, or first round of candidates, was not finite.
        seconds: per phase; `encode` and `write` (headers and hashes) run beside `sample`, and `judge` is a part of it.
            `processor` is the time that all threads of the process computed, which other work on the machine does not
            lengthen.
        worker: host and process that made it.
    """

    shard: int
    outcome: str
    num_drawn: int
    num_redrawn: int
    seconds: Mapping[str, float]
    worker: str = ""


class WorkerOptions(TypedDict, total=False):
    """The options that every ShardWorker takes."""

    module: Required[str]
    location: Required[str]
    checkpoint: Required[Path | None]
    device: str
    discard_orphans: bool
    allow_environment: bool
    allow_code: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filled:
    """A shard's tar, written to a scratch file.

    Attributes:
        rows: of its samples, in sample_id order.
        written: what the tar's writer hashed.
        codes: the sidecar, if codes are recorded.
        num_redrawn: see ShardResult.
        seconds: per phase.
    """

    rows: pa.Table
    written: Written
    codes: Path | None = None
    num_redrawn: int = 0
    seconds: Mapping[str, float]


class ShardWorker(abc.ABC, Generic[OrderT]):
    """Makes and commits one shard per call. Loads the generator at the first one, in the process that calls.

    Args:
        plan: what to make: a plan, or the record of a reconstruction.
        module: path of the family's module.
        location: of the set's store.
        checkpoint: folder of the weights; its id must be the plan's. None for a family that is bound code.
        device: of the plan's kind.
        discard_orphans: delete a tar that has no commit and other bytes.
        allow_environment: work although the set was begun in another environment class.
        allow_code: the generator may be code that is not caskit's own.

    Raises:
        InputError: the generator is such code, and that is not allowed.
    """

    def __init__(
        self,
        plan: OrderT,
        *,
        module: str,
        location: str,
        checkpoint: Path | None,
        device: str = "cpu",
        discard_orphans: bool = False,
        allow_environment: bool = False,
        allow_code: bool = False,
    ) -> None:
        require_code(plan.family, plan.preset, allow_code=allow_code)
        self.plan: OrderT = plan
        self.module, self.location, self.checkpoint, self.device = module, location, checkpoint, device
        self.discard_orphans, self.allow_environment = discard_orphans, allow_environment
        self.allow_code = allow_code
        self._loaded: tuple[Generator, str] | None = None

    @abc.abstractmethod
    def settings(self, family: Family) -> Any:
        """Return the settings that the family's generator is loaded with."""

    @abc.abstractmethod
    def load_more(self) -> None:
        """Load what else a shard takes; called once, after the generator was loaded."""

    @abc.abstractmethod
    def fill(self, generator: Generator, shard: int, tar: Path) -> Filled:
        """Write a shard's tar."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave what was loaded behind."""
        return {**self.__dict__, "_loaded": None}

    def unload(self) -> None:
        """Forget what was loaded."""
        self._loaded = None

    def __call__(self, shard: int) -> ShardResult:
        """Make sure that a shard is committed.

        Raises:
            InputError: checkpoint, classifier, family, environment class or an existing commit do not go with the plan.
            RunFailed: output that stays non-finite, or bytes that differ from those already there.
        """
        store = open_store(self.location)
        if store.exists(commit_name(shard)):
            self._check_commit(store, shard)
            return ShardResult(shard=shard, outcome="already", num_drawn=0, num_redrawn=0, seconds={})
        with numerics_applied(self.plan.numerics):
            if self._loaded is None:
                self._loaded = self._load(store)
            with scratch_folder(scratch_parent(store), "caskit-shard-") as folder:
                return self._make(store, *self._loaded, shard, folder / shard_name(shard))

    def load_generator(self) -> Generator:
        """Load the generator without a store, for a dry run or an audit."""
        import torch  # on use, as below: the driver, which makes a worker and sends it away, needs no torch

        family = load_family(self.module)
        if family.SAMPLER_VERSION != self.plan.sampler_version:
            raise InputError(
                f"family {self.plan.family}: the plan was made with sampler_version {self.plan.sampler_version}, "
                f"this caskit has {family.SAMPLER_VERSION}; finish the replica with the release that began it"
            )
        checkpoint = open_planned(self.plan, self.checkpoint, allow_code=self.allow_code)
        generator = family.load(checkpoint, self.settings(family), torch.device(self.device))
        for name in ("classes", "height", "width", "channels"):
            if getattr(generator, name, None) != getattr(self.plan, name):
                raise InputError(f"{checkpoint.path}: {name} of the generator are not those of the plan")
        return generator

    def _load(self, store: Store) -> tuple[Generator, str]:
        try:
            there = sha256_hex(store.read(self.plan.FILE))
        except FileNotFoundError:
            there = ""
        if there != self.plan.origin_id:
            raise InputError(
                f"{self.location}: this worker does not see the replica there; all nodes must share the folder"
            )
        environment = environment_of(self.plan, self.device)
        claimed = claim_environment(store, environment, allow=self.allow_environment)
        generator = self.load_generator()
        self.load_more()
        return generator, claimed

    def _check_commit(self, store: Store, shard: int) -> None:
        _, info = read_commit(store, shard)
        if info.plan_id != self.plan.origin_id:
            raise InputError(
                f"{store.location}: shard {shard} is committed for plan {info.plan_id}; use another folder"
            )

    def _make(self, store: Store, generator: Generator, environment: str, shard: int, tar: Path) -> ShardResult:
        began, computed = time.perf_counter(), time.process_time()
        filled = self.fill(generator, shard, tar)
        sampled = time.perf_counter()
        outcome = commit_written(
            store,
            tar,
            filled.rows,
            filled.written,
            shard=shard,
            plan_id=self.plan.origin_id,
            environment_id=environment,
            codes=filled.codes,
            discard_orphans=self.discard_orphans,
        )
        committed = time.perf_counter()
        return ShardResult(
            shard=shard,
            outcome=outcome,
            num_drawn=filled.rows.num_rows,
            num_redrawn=filled.num_redrawn,
            worker=f"{platform.node()}/{os.getpid()}",
            seconds={
                **filled.seconds,
                "commit": committed - sampled,
                "total": committed - began,
                "processor": time.process_time() - computed,
            },
        )


class Worker(ShardWorker[Plan]):
    """Samples the shards of a plan.

    Args:
        plan: see ShardWorker, as for the other options.
        classifier: folder of the classifier that the plan's rejection names, if it has one.
        options: module, location, checkpoint, device, discard_orphans, allow_environment, allow_code.
    """

    def __init__(self, plan: Plan, *, classifier: Path | None = None, **options: Unpack[WorkerOptions]) -> None:
        super().__init__(plan, **options)
        self.classifier = classifier
        self._judge: Judge | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave what was loaded behind."""
        return {**super().__getstate__(), "_judge": None}

    def settings(self, family: Family) -> Any:
        """Return those of the plan."""
        return make_settings(family, self.plan.sampler)

    def load_generator(self) -> Generator:
        """Load the generator without a store; it must draw codes if the plan records them."""
        generator = super().load_generator()
        if self.plan.record_codes:
            code_levels(as_coded(generator, self.plan.family))
        return generator

    def load_judge(self) -> Judge | None:
        """Load the classifier of the plan's rejection; None if it has none."""
        import torch

        return load_judge(self.plan, self.classifier, torch.device(self.device))

    def load_more(self) -> None:
        """Load the judge."""
        self._judge = self.load_judge()

    def fill(self, generator: Generator, shard: int, tar: Path) -> Filled:
        """Draw the shard's samples into its tar."""
        began, judge = time.perf_counter(), self._judge
        judged = 0.0 if judge is None else -judge.seconds
        labels, ordinals = self.plan.draw_order.assign(*self.plan.shard_range(shard))
        levels = code_levels(as_coded(generator, self.plan.family)) if self.plan.record_codes else ()
        with ShardPacker(tar, self.plan, shard, labels, ordinals, levels) as packer:
            for drawn in draw_shard(generator, self.plan, labels, ordinals, judge):
                packer.add(drawn)
            rows = packer.rows()
        seconds = {
            "sample": time.perf_counter() - began - packer.wait_s,
            **({} if judge is None else {"judge": judged + judge.seconds}),
            "encode": packer.encode_s,
            "write": packer.write_s,
            "wait": packer.wait_s,
        }
        redrawn = sum(attempt >= self.plan.num_candidates for attempt in rows.column("attempt").to_pylist())
        return Filled(rows=rows, written=packer.written, codes=packer.codes_path, num_redrawn=redrawn, seconds=seconds)


def scratch_parent(store: Store) -> Path:
    """Return where scratch files go: on the store's own file system, where a finished one can be linked into place."""
    return store.local_path(SCRATCH) or Path(tempfile.gettempdir())
