"""What a plan would cost: times a few microbatches and extrapolates; writes nothing."""

import dataclasses
import time
from pathlib import Path

import numpy as np

from caskit.gen.executors import default_workers
from caskit.gen.numerics import numerics_applied
from caskit.gen.opening import open_planned
from caskit.gen.own_judge import judge_folder
from caskit.gen.sampling import SampleConfig, check_device, make_worker
from caskit.gen.timing import time_microbatches
from caskit.gen.worker import Worker
from caskit.manifests.plan import Plan
from caskit.shards.tar import layout

MAX_SHARD_S = 300.0  # of work that a preempted or killed worker loses at most, if a plan follows the suggestion
WARNED_SHARD_S = 600.0
SETUP_S = 5.0  # a Ray worker's start, imports included, as measured on two cores


@dataclasses.dataclass(frozen=True, kw_only=True)
class DryRun:
    """The expected cost of a plan.

    Attributes:
        num_samples, num_shards: exact.
        num_bytes: of all tars, from the mean size of the images that were encoded.
        num_workers: assumed to work side by side without slowing each other down.
        load_s: to load the generator, and the judge of a rejection, once.
        images_per_s: kept, of one worker, drawing and encoding one after the other.
        seconds: from start to frozen.
        shard_s: of one worker's work on a full shard: what is lost when it is killed.
        suggested_samples_per_shard: for at most MAX_SHARD_S of work per shard; None where the plan keeps to that. It is
            measured here, so it is said and never taken: a plan must not depend on the machine.
    """

    num_samples: int
    num_shards: int
    num_bytes: int
    num_workers: int
    load_s: float
    images_per_s: float
    seconds: float
    shard_s: float
    suggested_samples_per_shard: int | None


def dry_run(plan: Plan, *, checkpoint: Path | None, config: SampleConfig) -> DryRun:
    """Draw and encode a few microbatches of a plan in this process.

    Raises:
        InputError: the plan cannot be made here.
    """
    check_device(plan, config.device)
    opened = open_planned(plan, checkpoint, allow_code=config.allow_code)
    config = dataclasses.replace(config, classifier=judge_folder(plan, config.classifier, opened))
    worker = make_worker(plan, ".", checkpoint, config)
    shards = config.part.shards(plan.num_shards)
    num_samples = sum(stop - start for start, stop in map(plan.shard_range, shards))
    num_workers = 1 if config.executor == "inline" else config.num_workers or default_workers(worker)
    num_workers = max(1, min(num_workers, len(shards)))
    load_s, rate, sizes = _measure(worker, plan)
    full = np.full(plan.samples_per_shard, round(float(sizes.mean())), dtype=np.int64)
    num_bytes = round(layout(full)[1] * num_samples / plan.samples_per_shard)
    start_s = load_s + (SETUP_S if config.executor == "ray" else 0.0)
    return DryRun(
        num_samples=num_samples,
        num_shards=len(shards),
        num_bytes=num_bytes,
        num_workers=num_workers,
        load_s=load_s,
        images_per_s=rate,
        seconds=start_s + num_samples / (rate * num_workers),
        shard_s=plan.samples_per_shard / rate,
        suggested_samples_per_shard=suggest_samples_per_shard(rate, plan.samples_per_shard, plan.microbatch_size),
    )


def suggest_samples_per_shard(images_per_s: float, samples_per_shard: int, microbatch_size: int) -> int | None:
    """Return a size of shards that take a worker at most MAX_SHARD_S; None if they do already.

    Whole microbatches, since a shard's last one is padded; a single one if even that takes longer. Rounded down to a
    power of two of them: a figure that another measurement of the same machine gives again.
    """
    if samples_per_shard <= images_per_s * MAX_SHARD_S:
        return None
    batches = int(images_per_s * MAX_SHARD_S / microbatch_size)
    suggested = microbatch_size * (1 << max(batches.bit_length() - 1, 0))
    return suggested if suggested < samples_per_shard else None


def _measure(worker: Worker, plan: Plan) -> tuple[float, float, np.ndarray]:
    """Return seconds to load, images per second after one microbatch of warming up, and encoded sizes [n]."""
    with numerics_applied(plan.numerics):
        began = time.perf_counter()
        generator, judge = worker.load_generator(), worker.load_judge()
        load_s = time.perf_counter() - began
        rate, sizes = time_microbatches(generator, judge, plan)
    return load_s, rate, sizes
