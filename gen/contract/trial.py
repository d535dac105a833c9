"""A trial of a generator as a worker has it: unpickled in another process, loaded, drawn from, timed."""

import dataclasses
import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import torch

from caskit.gen.contract.probe import Broken, Probe, call
from caskit.gen.contract.report import Check, Cost
from caskit.gen.numerics import numerics_applied
from caskit.gen.timing import time_microbatches
from caskit.gen.worker import Worker


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """What a worker gave: the images of the probe's first batch, [N, H, W, C] uint8, and what they cost."""

    images: np.ndarray
    cost: Cost


def try_worker(worker: Worker) -> Trial:
    """Load a worker's generator in this process and draw from it. Raises Broken if it fails."""
    with numerics_applied(worker.plan.numerics):
        began = time.perf_counter()
        generator = call("loading", worker.load_generator)
        load_s = time.perf_counter() - began
        images = Probe(generator, worker.plan).images
        rate, _ = call("drawing", lambda: time_microbatches(generator, None, worker.plan))
    cuda = torch.device(worker.device).type == "cuda"
    device_bytes = torch.cuda.max_memory_allocated(worker.device) if cuda else None
    cost = Cost(load_s=load_s, images_per_s=rate, peak_bytes=peak_bytes(), device_bytes=device_bytes)
    return Trial(images=images, cost=cost)


def try_elsewhere(worker: Worker) -> Trial:
    """Do the same in a new process, which shares nothing with this one but files.

    Raises:
        Broken: the worker cannot be pickled, its process ended, or drawing failed there.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(try_worker, worker).result()
        except BrokenProcessPool as error:
            raise Broken("a new process that draws ended without a word: it may have run out of memory") from error


def check_process(probe: Probe, trial: Trial) -> Check:
    """Compare the images of a trial with those drawn here."""
    if not np.array_equal(trial.images, probe.images):
        raise Broken(
            "a new process draws other images from the same streams: look for random numbers drawn while loading, "
            "for orders of sets and hashes, for clocks and process ids"
        )
    return Check(name="process", note="a new process draws equal images")


def peak_bytes() -> int:
    """Return the most memory that this process has held.

    Linux hands the peak of the process that started this one on to `getrusage`; its own stands in /proc.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024
