"""A process that samples a pebble plan; tests start it to stop it, kill it, or run it beside others.

`python pebble_drive.py OUT CHECKPOINT NUM [executor=inline] [workers=1] [part=1/1] [extend=DIR] [allow=1] [orphans=1]
[best=K classifier=DIR]` prints the replica_id, or `class: message` of the error, and exits like the command line.
"""

import itertools
import multiprocessing
import os
import sys
import time
from pathlib import Path

import torch

from caskit.gen.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from caskit.gen.executors import Part
from caskit.gen.family import FAMILIES
from caskit.gen.planning import make_plan
from caskit.gen.rejection import make_rejection
from caskit.gen.sampling import SampleConfig, freeze_replica, sample
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError, NotFinished, RunFailed
from caskit.signals import StopRequest

SAMPLES_PER_SHARD, MICROBATCH = 20, 8


def save_pebble(path: Path, num_classes: int = 5, height: int = 6, width: int = 4) -> Checkpoint:
    """Write a checkpoint of the pebble family for small images of one channel."""
    return save_checkpoint(
        path,
        family="pebble",
        preset="tiny",
        config={"preset": "tiny"},
        classes=ClassList.from_names([f"pebble {label}" for label in range(num_classes)]),
        height=height,
        width=width,
        channels=1,
        tensors={"base": torch.arange(num_classes, dtype=torch.uint8) * 40},
    )


def plan_of(checkpoint: Path, num: int, **changes):
    """Return the plan that all tests of the sampling stage share."""
    values = {"num": num, "seed": 3, "samples_per_shard": SAMPLES_PER_SHARD, "microbatch_size": MICROBATCH} | changes
    return make_plan(load_checkpoint(checkpoint), **values)


def rejection_of(given: dict[str, str], checkpoint: Path):
    """Return what `best=K classifier=DIR` change about the plan."""
    if "best" not in given:
        return {}
    return {"rejection": make_rejection(int(given["best"]), Path(given["classifier"]), load_checkpoint(checkpoint))}


def main(out: str, checkpoint: str, num: str, *options: str) -> int:
    """Sample, or with `num` 0 freeze."""
    given = dict(option.split("=", 1) for option in options)
    FAMILIES["pebble"] = "pebble_family"
    config = SampleConfig(
        executor=given.get("executor", "inline"),
        num_workers=int(given.get("workers", "1")),
        part=Part.parse(given.get("part", "1/1")),
        extend=Path(given["extend"]) if "extend" in given else None,
        classifier=Path(given["classifier"]) if "classifier" in given else None,
        allow_environment="allow" in given,
        discard_orphans="orphans" in given,
    )
    request = StopRequest()
    try:
        with request.installed(), request.watched() as stop:
            print("started", flush=True)
            if num == "0":
                replica = freeze_replica(Path(out))
            else:
                plan = plan_of(Path(checkpoint), int(num), **rejection_of(given, Path(checkpoint)))
                replica = sample(plan, Path(out), checkpoint=Path(checkpoint), config=config, stop=stop)
    except (InputError, RunFailed, NotFinished) as error:
        print(f"{type(error).__name__}: {error}")
        return {InputError: 2, NotFinished: 75}.get(type(error), 1)
    print(replica.replica_id if replica else "not frozen")
    return 0


def run_logged(log: str, environment: dict[str, str], arguments: list[str]) -> None:
    """Do what a process of its own would do, with both outputs in a file."""
    os.environ.update(environment)
    with open(log, "wb", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    code = main(*arguments)
    sys.stdout.flush()
    sys.exit(code)


class Driver:
    """A process that drives a run; forked from one that has imported torch, since that takes the longest."""

    numbers = itertools.count()

    def __init__(self, out: Path, checkpoint: Path, num: int, *options: str, **environment: str) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["pebble_drive"])
        self._log = out.parent / f"log-{next(self.numbers)}"
        arguments = [os.fspath(out), os.fspath(checkpoint), str(num), *options]
        self.process = context.Process(target=run_logged, args=(os.fspath(self._log), environment, arguments))
        self.process.start()

    def wait_for(self, path: Path) -> None:
        """Wait until a file is there."""
        while not path.exists():
            assert self.process.is_alive(), self.end()
            time.sleep(0.02)

    def send(self, number: int) -> None:
        """Send the process a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """Kill the process and wait for it."""
        self.process.kill()
        self.process.join()
        self.process.close()

    def end(self) -> tuple[int | None, str]:
        """Wait, check that it said no more than it should, and return exit code and last line."""
        self.process.join(timeout=300)
        code = self.process.exitcode
        self.process.close()
        lines = [line for line in self._log.read_text().splitlines() if not line.startswith("caskit: stopping")]
        assert len(lines) == 2 and lines[0] == "started", lines
        return code, lines[1]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
