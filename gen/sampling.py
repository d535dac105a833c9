"""Samples a plan into a folder: plan, shards, freeze, card. The same call again goes on, or finds all done."""

import dataclasses
import datetime
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from caskit.gen.environment import environment_of
from caskit.gen.errand import run_errand
from caskit.gen.executors import EXECUTORS, WHOLE, Part, default_workers, run_inline, run_ray
from caskit.gen.extending import adopt_shards
from caskit.gen.family import family_path, require_code
from caskit.gen.opening import open_planned
from caskit.gen.own_judge import judge_folder
from caskit.gen.planning import read_plan, write_plan
from caskit.gen.provenance import collect_provenance
from caskit.gen.rejection import check_judge
from caskit.gen.telemetry import TELEMETRY_FOLDER, Progress, Telemetry
from caskit.gen.worker import ShardResult, ShardWorker, Worker
from caskit.manifests.canonical import parse_canonical
from caskit.manifests.errors import InputError, NotFinished
from caskit.manifests.plan import Plan
from caskit.manifests.reconstruction import Reconstruction
from caskit.manifests.replica import Replica
from caskit.shards.card import write_card
from caskit.shards.commit import committed_shards
from caskit.shards.freeze import freeze
from caskit.shards.records import read_replica
from caskit.shards.remote.location import is_url
from caskit.shards.store import Store, open_target, probe_create_only

LAST_CARD_FILE = "SHA256SUMS"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """How a plan is worked off; nothing here changes a byte of the result.

    Attributes:
        executor: `ray`, or `inline` for this process alone.
        num_workers: Ray actors; None takes one per GPU or per `threads` CPUs. Inline has one.
        ray_address: a cluster to join; None starts Ray for this run alone and ignores RAY_ADDRESS.
        classifier: folder of the classifier that the plan's rejection names; None for a plan without, and for the one
            that the checkpoint brings.
        part: which shards this process cares for.
        freeze: end with a frozen replica; a part of several never does.
        extend: folder of a replica whose shards to adopt where the plan would make the same.
        device: `cpu`, `cuda` or `cuda:i`, of the plan's kind.
        allow_environment: work although the replica was begun in another environment class.
        allow_code: the plan may name code that is not caskit's own: a function, or another package's family.
        discard_orphans: delete tars without a commit that hold other bytes.
        fail_fast: stop at the first shard that failed twice.
        licence: noted in the provenance.
    """

    executor: str = "ray"
    num_workers: int | None = None
    ray_address: str | None = None
    classifier: Path | None = None
    part: Part = WHOLE
    freeze: bool = True
    extend: Path | None = None
    device: str = "cpu"
    allow_environment: bool = False
    allow_code: bool = False
    discard_orphans: bool = False
    fail_fast: bool = False
    licence: str | None = None

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise InputError(f"executor is {self.executor!r}, allowed: {', '.join(EXECUTORS)}")
        if self.num_workers is not None and not 1 <= self.num_workers <= 100_000:
            raise InputError(f"workers is {self.num_workers}, allowed: 1..100000")
        if self.executor == "inline" and (self.num_workers or 1) != 1:
            raise InputError(f"executor inline has one worker, not {self.num_workers}; use executor ray")
        if self.executor == "inline" and self.ray_address is not None:
            raise InputError("executor inline joins no cluster; use executor ray with a Ray address")


def sample(
    plan: Plan,
    out: Path | str,
    *,
    checkpoint: Path | None,
    config: SampleConfig | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Replica | None:
    """Make the replica of a plan, or go on with it.

    Args:
        plan: what to make.
        out: the replica's folder, new or with the same plan in it, or an object store's URL.
        checkpoint: folder of the weights; None for a family that is bound code.
        config: how; see SampleConfig.
        progress: told after every shard.
        stop: asked about five times a second; True finishes the shards in flight and takes no more.

    Returns:
        The frozen replica; None if it was not to be frozen.

    Raises:
        InputError: the folder holds something else, or the plan cannot be made here.
        RunFailed: shards failed, listed; the others are committed.
        NotFinished: `stop` said so.
    """
    config = config or SampleConfig()
    check_device(plan, config.device)
    store = open_target(str(out))
    if store.exists("replica.json"):
        write_plan(store, plan)  # compares
        tell_done(plan, config.part, progress)
        return frozen_replica(store)
    require_code(plan.family, plan.preset, allow_code=config.allow_code)
    opened = open_planned(plan, checkpoint, allow_code=config.allow_code)
    config = dataclasses.replace(config, classifier=judge_folder(plan, config.classifier, opened))
    check_judge(plan, config.classifier)
    probe_create_only(store)  # before the plan, the first thing that must never be overwritten
    write_plan(store, plan)
    adopt = None
    if config.extend is not None:
        adopt = functools.partial(_adopt, store, plan, config, config.extend, stop)
    make_shards(store, make_worker(plan, store.location, checkpoint, config), config, progress, stop, adopt)
    if not config.freeze or config.part.count > 1:
        return None
    return freeze_replica(out, licence=config.licence)


def freeze_replica(out: Path | str, *, licence: str | None = None) -> Replica:
    """Freeze a replica whose shards are all committed, and write its card.

    Raises:
        NotFinished: shards are missing, naming how many and the first ones.
        IntegrityError: commits and tars do not agree.
    """
    store = open_target(str(out))
    if store.exists("replica.json"):
        return frozen_replica(store)
    plan = read_begun(store)
    missing = sorted(set(range(plan.num_shards)) - committed_shards(store))
    if missing:
        first = ", ".join(map(str, missing[:5]))
        raise NotFinished(
            f"{out}: {len(missing)} of {plan.num_shards} shards are not committed (first: {first}); sample them first"
        )
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    replica = freeze(store, provenance=collect_provenance(store, plan, licence=licence), created=created)
    write_card(store)
    return replica


def read_begun(store: Store) -> Plan | Reconstruction:
    """Read plan.json or reconstruction.json. Raises InputError if there is neither."""
    if store.exists(Reconstruction.FILE):
        name = f"{store.location}/{Reconstruction.FILE}"
        return Reconstruction.from_json(parse_canonical(store.read(Reconstruction.FILE), name=name), name=name)
    return read_plan(store)


def frozen_replica(store: Store) -> Replica:
    """Return the identity of a frozen replica; the card is written if the run that froze it did not come to that."""
    if not store.exists(LAST_CARD_FILE):
        write_card(store)
    return read_replica(store)


def check_device(plan: Plan | Reconstruction, device: str) -> None:
    """Raise InputError unless a device is of the plan's kind and there."""
    kind = device.partition(":")[0]
    if kind != plan.numerics.device:
        raise InputError(f"device is {device!r}, the plan is for {plan.numerics.device}")


def make_worker(plan: Plan, location: str, checkpoint: Path | None, config: SampleConfig) -> Worker:
    """Return the worker that every executor maps over shard numbers."""
    return Worker(
        plan,
        module=family_path(plan.family),
        location=location if is_url(location) else str(Path(location).absolute()),
        checkpoint=None if checkpoint is None else checkpoint.absolute(),
        classifier=None if config.classifier is None else config.classifier.absolute(),
        device=config.device,
        discard_orphans=config.discard_orphans,
        allow_environment=config.allow_environment,
        allow_code=config.allow_code,
    )


def _sizes(plan: Plan | Reconstruction, part: Part) -> Mapping[int, int]:
    ranges = {shard: plan.shard_range(shard) for shard in part.shards(plan.num_shards)}
    return {shard: stop - start for shard, (start, stop) in ranges.items()}


def tell_done(plan: Plan | Reconstruction, part: Part, progress: Callable[[Progress], None] | None) -> None:
    """Report the progress of a set that is frozen."""
    telemetry = Telemetry(None, _sizes(plan, part), set(part.shards(plan.num_shards)), progress)
    telemetry.begin()
    telemetry.end(None)


def _adopt(
    store: Store,
    plan: Plan,
    config: SampleConfig,
    extend: Path,
    stop: Callable[[], bool],
    adopted: Callable[[ShardResult], None],
) -> None:
    adopt_shards(
        store,
        plan,
        extend,
        config.part.shards(plan.num_shards),
        environment=run_errand(environment_of, plan, config.device),
        allow_environment=config.allow_environment,
        stop=stop,
        adopted=adopted,
    )


def make_shards(
    store: Store,
    worker: ShardWorker[Any],
    config: SampleConfig,
    progress: Callable[[Progress], None] | None,
    stop: Callable[[], bool],
    adopt: Callable[[Callable[[ShardResult], None]], None] | None = None,
) -> None:
    """Make the shards of this run's part that are not committed, on the executor that the config says.

    Args:
        store: of the set, its first record written.
        worker: what makes a shard.
        config: how.
        progress: see `sample`.
        stop: see `sample`.
        adopt: commits what another set has already, telling of every shard; called first.
    """
    plan, part = worker.plan, config.part
    shards = part.shards(plan.num_shards)
    telemetry = Telemetry(
        store.local_path(TELEMETRY_FOLDER), _sizes(plan, part), committed_shards(store) & set(shards), progress
    )
    error: BaseException | None = None
    try:
        telemetry.begin(plan_id=plan.origin_id, executor=config.executor, part=f"{part.index}/{part.count}")
        if adopt is not None:
            adopt(telemetry.finished)
        committed = committed_shards(store)
        todo = [shard for shard in shards if shard not in committed]
        if todo:
            _execute(worker, todo, config, telemetry, stop)
    except BaseException as raised:
        error = raised
        raise
    finally:
        telemetry.end(error)


def _execute(
    worker: ShardWorker[Any], todo: list[int], config: SampleConfig, telemetry: Telemetry, stop: Callable[[], bool]
) -> None:
    if config.executor == "inline":
        run_inline(worker, todo, stop=stop, fail_fast=config.fail_fast, listener=telemetry)
        return
    run_ray(
        worker,
        todo,
        num_workers=config.num_workers or default_workers(worker),
        address=config.ray_address,
        stop=stop,
        fail_fast=config.fail_fast,
        listener=telemetry,
    )
