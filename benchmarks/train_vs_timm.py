"""A training by caskit against timm's train.py: the same shards, model, batch, augmentation and threads.

Run: python benchmarks/train_vs_timm.py > benchmarks/train_vs_timm.md (a quarter of an hour of two quiet cores); --short
ends within a minute there. Each side is a process of its own, in the environment that its own command gives it, that
goes on for some steps when it is told to and waits otherwise; they take turns, in another order each round. The first
steps of a turn are not counted, as many as a loader may have made ahead during the others' turns. What is counted per
turn: images per second; the share of the time that the process stood still in its loader; processor seconds of the
process and its workers, which a busy machine changes less.

    timm        its script: random resized crops and flips by its `wds/` reader and workers
    thread      `training.train` as `caskit train` runs it where a core is free, or images are read from a disk: a
                thread makes the next images during a step
    between     the same as it runs where all cores compute and images are in memory: made when a step asks for them
    workers     the same by as many worker processes as timm has, `--workers` of the command line

Of `thread` and `between` the one that `caskit train` takes by itself here is the side whose ratio is told.

32 px: a set that fits into memory, as CIFAR and Fashion-MNIST do; caskit then holds its pixels. 128 px: memory is
forbidden to caskit, as ImageNet does not fit; each image is read from its shard, checked and decoded.

timm's script comes neither in its wheel nor in its sdist. Without `--script PATH/train.py` (from the tag of the
installed version in its repository), benchmarks/timm_loop.py stands for it: timm's own functions, unmodified, called in
the script's order by a loop of ours. A ratio found so is one to timm's functions, not to its script.
"""

import argparse
import contextlib
import dataclasses
import datetime
import itertools
import json
import multiprocessing
import os
import platform
import runpy
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import timm
import timm.data
import timm.scheduler.scheduler
import torch
from torch.utils.data.dataloader import _BaseDataLoaderIter

import caskit.train.task as task_module
import caskit.train.training as training_module
from caskit.cli import WAITING
from caskit.cli import main as caskit_main
from caskit.manifests.errors import NotFinished
from caskit.shards.dataset import open_set
from caskit.train.device import core_is_free
from caskit.train.engine import EngineConfig
from caskit.train.images import Images
from caskit.train.presets import IMAGENET_MEAN, IMAGENET_STD
from caskit.train.recipes import Recipe

LOOP = Path(__file__).with_name("timm_loop.py")
SIDES = ("timm", "thread", "between", "workers")
NUM_CLASSES = 10
ENDLESS = 10**7  # steps, and images in an epoch of timm's: nothing ends while it is measured
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What both sides train on.

    Attributes:
        name: of its row.
        model: timm's name.
        size: of images and network in pixels.
        batch: images per step.
        num_images: of the set.
        held: whether caskit may hold the set in memory.
        steps: counted in a turn.
        rounds: in which each side has a turn.
        least: the ratio to be shown.
    """

    name: str
    model: str
    size: int
    batch: int
    num_images: int
    held: bool
    steps: int
    rounds: int
    least: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turn:
    """What a side did in one turn."""

    num_images: int
    seconds: float
    waited_s: float
    processor_s: float

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.num_images / self.seconds

    @property
    def waiting(self) -> float:
        """Share of the time that it stood still in its loader."""
        return self.waited_s / self.seconds


def processor_s() -> float:
    """Return the processor seconds of this process and of its workers."""
    total = time.process_time()
    for worker in multiprocessing.active_children():
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return total


class Gate:
    """Called after each step, it lets a training go on for as many steps as it was told, and reports how they went."""

    def __init__(self, pipe: Connection, batch: int, waited_s: Callable[[], float]) -> None:
        self._pipe, self._batch, self._waited_s = pipe, batch, waited_s
        self._steps = self._turns()

    def __call__(self) -> bool:
        """Return whether the training is over."""
        return next(self._steps, True)

    def _turns(self) -> Iterator[bool]:
        self._pipe.send("ready")
        while (order := self._pipe.recv()) is not None:
            uncounted, counted = order
            yield from itertools.repeat(False, uncounted)
            before = self._now()
            yield from itertools.repeat(False, counted)
            seconds, waited_s, used_s = (now - then for now, then in zip(self._now(), before, strict=True))
            self._pipe.send((counted * self._batch, seconds, waited_s, used_s))

    def _now(self) -> tuple[float, float, float]:
        return time.perf_counter(), self._waited_s(), processor_s()


def run_timm(setting: Setting, data: Path, out: Path, pipe: Connection, arguments: argparse.Namespace) -> None:
    """Run timm's script; after each of its updates it comes by the gate."""
    waited = [0.0]
    fetch, update = _BaseDataLoaderIter.__next__, timm.scheduler.scheduler.Scheduler.step_update
    gate = Gate(pipe, setting.batch, lambda: waited[0])

    def timed(self: Any) -> Any:
        began = time.perf_counter()
        try:
            return fetch(self)
        finally:
            waited[0] += time.perf_counter() - began

    def passing(self: Any, *values: Any, **named: Any) -> None:
        update(self, *values, **named)
        if gate():
            raise SystemExit

    _BaseDataLoaderIter.__next__ = timed
    timm.scheduler.scheduler.Scheduler.step_update = passing  # type: ignore[method-assign]
    last = len(list((data / "shards").glob("*.tar"))) - 1
    flags: dict[str, Any] = {
        "data-dir": data, "dataset": "wds/", "train-split": f"shards/shard-{{000000..{last:06d}}}.tar|{ENDLESS}",
        "val-split": "", "model": setting.model, "num-classes": NUM_CLASSES, "img-size": setting.size,
        "batch-size": setting.batch, "workers": arguments.workers, "opt": "sgd", "lr": 0.01, "momentum": 0.9,
        "weight-decay": 1e-4, "sched": "cosine", "epochs": 10, "warmup-epochs": 0, "hflip": 0.5, "color-jitter": 0,
        "train-interpolation": "bicubic", "smoothing": 0, "log-interval": 1000, "seed": 0, "device": "cpu",
        "output": out,
    }  # fmt: skip
    sys.argv = [str(arguments.script), *(word for name, value in flags.items() for word in (f"--{name}", str(value)))]
    several = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3)}
    for name, values in several.items():
        sys.argv += [f"--{name}", *map(str, values)]
    sys.argv.append("--channels-last")  # as caskit computes
    runpy.run_path(str(arguments.script), run_name="__main__")


def run_caskit(
    setting: Setting, data: Path, out: Path, pipe: Connection, *, workers: int, threads: int, ahead: bool
) -> None:
    """Train as `caskit train` does; after each step it comes by the gate, which the engine asks whether to stop."""
    training_module._helps = lambda *values: ahead
    tasks: list[task_module.ClassifierTask] = []

    class Watched(task_module.ClassifierTask):
        def __init__(self, *values: Any, **named: Any) -> None:
            super().__init__(*values, **named)
            tasks.append(self)

    class Unheld(Images):
        def __init__(self, *values: Any, **named: Any) -> None:
            super().__init__(*values, **{**named, "max_memory_bytes": 0})

    task_module.ClassifierTask = Watched  # type: ignore[misc]
    if not setting.held:
        training_module.Images = Unheld  # type: ignore[misc]
    recipe = Recipe(
        name="bench",
        model=f"timm:{setting.model}",
        resolution=setting.size,
        channel_mean=IMAGENET_MEAN,
        channel_std=IMAGENET_STD,
        num_steps=ENDLESS,
        batch_size=setting.batch,
        bn_batch=setting.batch,
        optimizer="nesterov",  # timm's "sgd"
        learning_rate=0.01,
        weight_decay=1e-4,
        warmup=0.0,
        decay="cosine",
        crop="uniform-area",
        flip="random",
        threads=threads,
    )
    gate = Gate(pipe, setting.batch, lambda: tasks[0].waited_s)
    config = EngineConfig(save_every=ENDLESS, log_every=20)
    with contextlib.suppress(NotFinished):
        training_module.train(
            open_set(str(data)), recipe, seed=0, out=out, device=torch.device("cpu"), config=config, stop=gate,
            num_workers=workers,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """A process that trains when it is told to."""

    name: str
    pipe: Connection
    log: Path

    def answer(self) -> Any:
        """Return what the process sends next."""
        try:
            return self.pipe.recv()
        except EOFError:
            raise SystemExit(f"{self.name} ended: {self.log.read_text()[-2000:]}") from None


class Parent:
    """A process that has imported torch and timm in an environment of its own and forks sides when it is told to.

    OpenMP reads its environment when torch is imported, which takes as long as many steps.
    """

    def __init__(self, environment: dict[str, str], num_sides: int) -> None:
        pairs = [multiprocessing.Pipe() for _ in range(num_sides + 1)]
        (self._control, _), *self._free = pairs
        theirs = [their.fileno() for _, their in pairs]
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--parent", *map(str, theirs)],
            env={**environment, **os.environ}, pass_fds=theirs, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        for _, their in pairs:
            their.close()

    def begin(self, name: str, setting: Setting, data: Path, folder: Path, arguments: argparse.Namespace) -> Side:
        """Have it fork a side."""
        out = folder / f"{setting.model}-{name}"
        out.mkdir()
        self._control.send((name, setting, data, out, arguments))
        return Side(name=name, pipe=self._free.pop(0)[0], log=out / "log")

    def end(self) -> None:
        """Let it go."""
        self._control.close()
        self._process.wait()


def be_parent(control: Connection, pipes: list[Connection]) -> None:
    """Fork a side for each order, until nobody gives any."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    while True:
        try:
            order = control.recv()
        except EOFError:
            return
        pipe, *pipes = pipes
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for other in (control, *pipes):
                other.close()
            be_side(pipe, *order)
        pipe.close()


def be_side(
    pipe: Connection, name: str, setting: Setting, data: Path, out: Path, arguments: argparse.Namespace
) -> None:
    """Train as a side does; ends the process."""
    try:
        log = os.open(out / "log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        torch.set_num_threads(arguments.threads)
        if name == "timm":
            run_timm(setting, data, out, pipe, arguments)
        else:
            workers = arguments.workers if name == "workers" else 0
            run_caskit(setting, data, out, pipe, workers=workers, threads=arguments.threads, ahead=name == "thread")
    except SystemExit:
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        for worker in multiprocessing.active_children():
            worker.kill()
        sys.stderr.flush()
        os._exit(0)


def make_set(setting: Setting, folder: Path) -> Path:
    """Write coloured noise as a frozen set, in a process of its own."""
    out = folder / f"set-{setting.size}"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            random, coarse = np.random.default_rng(0), setting.size // 8
            colours = random.integers(0, 256, (setting.num_images, coarse, coarse, 3), dtype=np.uint8)
            images = np.repeat(np.repeat(colours, 8, axis=1), 8, axis=2)
            images += random.integers(0, 12, images.shape, dtype=np.uint8)
            labels = np.arange(setting.num_images) % NUM_CLASSES
            np.savez(folder / f"{setting.size}.npz", arr_0=images, arr_1=labels)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            shard = str(max(1, setting.num_images // 8))
            source = str(folder / f"{setting.size}.npz")
            code = caskit_main(["import", source, "--samples-per-shard", shard, "--out", str(out)])
            open_set(str(out))  # leaves the receipt of a full check
        finally:
            os._exit(code)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise SystemExit(f"the set of {setting.name} could not be made")
    return out


def measure(
    setting: Setting, folder: Path, parents: dict[str, Parent], arguments: argparse.Namespace
) -> dict[str, list[Turn]]:
    """Let the sides take turns; return what each did in them."""
    data = make_set(setting, folder)
    sides = [
        parents["timm" if name == "timm" else "our"].begin(name, setting, data, folder, arguments) for name in SIDES
    ]
    for side in sides:
        side.answer()  # its first step is done
    uncounted = 2 * arguments.workers + 1  # both loaders have two batches per worker
    turns: dict[str, list[Turn]] = {side.name: [] for side in sides}
    for number in range(setting.rounds):
        for place in range(len(sides)):
            side = sides[(place + number) % len(sides)]
            side.pipe.send((uncounted, setting.steps))
            num_images, seconds, waited_s, used_s = side.answer()
            turns[side.name].append(Turn(num_images=num_images, seconds=seconds, waited_s=waited_s, processor_s=used_s))
    for side in sides:
        side.pipe.send(None)
        with contextlib.suppress(EOFError):
            side.pipe.recv()  # until it has ended
    return turns


def taken(setting: Setting, threads: int) -> str:
    """Return the side that is what `caskit train` does by itself, see `training._helps`."""
    return "between" if setting.held and not core_is_free(torch.device("cpu"), threads) else "thread"


def summary(setting: Setting, turns: dict[str, list[Turn]], side: str) -> dict[str, Any]:
    """Return medians over the rounds, and those of the ratios within a round; without a name, of this side."""

    def ratio(of: Callable[[Turn, Turn], float], side: str = side) -> float:
        pairs = zip(turns[side], turns["timm"], strict=True)
        return round(statistics.median(of(ours, theirs) for ours, theirs in pairs), 3)

    return {
        "side": side,
        "ratio": ratio(lambda ours, theirs: ours.rate / theirs.rate),
        "ratio_with_workers": ratio(lambda ours, theirs: ours.rate / theirs.rate, "workers"),
        "ratio_by_thread": ratio(lambda ours, theirs: ours.rate / theirs.rate, "thread"),
        "ratio_in_between": ratio(lambda ours, theirs: ours.rate / theirs.rate, "between"),
        "ratio_of_processor_time": ratio(lambda ours, theirs: theirs.processor_s / ours.processor_s),
        "least": setting.least,
        "images_per_s": {n: round(statistics.median(t.rate for t in turns[n]), 1) for n in SIDES},
        "waiting": {n: round(statistics.median(t.waiting for t in turns[n]), 4) for n in SIDES},
        "processor_ms_per_image": {
            n: round(statistics.median(1000 * t.processor_s / t.num_images for t in turns[n]), 3) for n in SIDES
        },
    }


def report(found: dict[str, dict[str, Any]], settings: list[Setting], arguments: argparse.Namespace) -> str:
    """Return the result as Markdown."""
    script = (
        "benchmarks/timm_loop.py, timm's functions in its script's order" if arguments.script == LOOP else "its own"
    )
    rounds = " and ".join(str(setting.rounds) for setting in settings)
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, timm {timm.__version__}"
    machine = f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the end"
    lines = [
        "# Training against timm",
        "",
        f"{datetime.date.today()}, {machine}, {versions}.",
        f"Command: `python benchmarks/train_vs_timm.py {' '.join(arguments.words)}`. timm's script: {script}.",
        "",
        f"{arguments.threads} threads compute, {arguments.workers} workers load; medians over {rounds} rounds.",
        "`thread` makes images during a step, `between` when one asks for them, `workers` by as many workers as timm;",
        "in bold what `caskit train` does by itself here.",
        f"Environment: timm {' '.join(arguments.timm_environment) or 'its own'}, caskit {WAITING} "
        f"{' '.join(arguments.our_environment)}.",
        "",
        "| setting | side | images/s | waiting for data | processor ms per image | ratio to timm |",
        "|---|---|---|---|---|---|",
    ]
    for setting in settings:
        row = found[setting.name]
        ratios = {
            "timm": "", "thread": f"{row['ratio_by_thread']:.2f}", "between": f"{row['ratio_in_between']:.2f}",
            "workers": f"{row['ratio_with_workers']:.2f}",
        }  # fmt: skip
        ratios[row["side"]] = f"**{ratios[row['side']]}**"
        for side in SIDES:
            cells = (
                f"{setting.name}, batch {setting.batch}", side, f"{row['images_per_s'][side]:.0f}",
                f"{100 * row['waiting'][side]:.1f} %", f"{row['processor_ms_per_image'][side]:.2f}", ratios[side],
            )  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for setting in settings:
        row = found[setting.name]
        lines.append(
            f"{setting.name}: ratio {row['ratio']:.2f}, at least {setting.least} is to be shown; by processor time "
            f"{row['ratio_of_processor_time']:.2f}.  "
        )
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a minute: few steps, small batches")
    parser.add_argument("--only", choices=("32", "128"), help="one of the settings")
    parser.add_argument("--script", type=Path, default=LOOP, help="timm's train.py")
    parser.add_argument("--small-model", default="lcnet_050", help="for 32 px, a name of timm's")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, help="of each setting")
    for side, usual in (("timm", "none, as its script"), ("our", "what caskit's command line sets")):
        parser.add_argument(
            f"--{side}-environment", action="append", default=[], metavar="NAME=VALUE",
            help=f"a variable that is not in the environment yet, such as GOMP_SPINCOUNT=5000 (default: {usual})",
        )  # fmt: skip
    arguments = parser.parse_args()
    arguments.words = sys.argv[1:]
    return arguments


def main() -> int:
    """Print the result, and as the last line one JSON object; its `ratio` is that of the first setting."""
    arguments = parse()
    short = arguments.short
    settings = [
        Setting(
            name=f"{arguments.small_model} at 32 px", model=arguments.small_model, size=32, batch=128,
            num_images=4_000 if short else 20_000, held=True, steps=6 if short else 40,
            rounds=arguments.rounds or (10 if short else 7), least=1.2,
        ),
        Setting(
            name="resnet50 at 128 px", model="resnet50", size=128, batch=4 if short else 32,
            num_images=200 if short else 2_000, held=False, steps=3 if short else 8,
            rounds=arguments.rounds or (2 if short else 7), least=0.98,
        ),
    ]  # fmt: skip
    settings = [setting for setting in settings if arguments.only in (None, str(setting.size))]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        ours = dict(word.split("=", 1) for word in arguments.our_environment)
        theirs = dict(word.split("=", 1) for word in arguments.timm_environment)
        parents = {
            "timm": Parent(theirs, len(settings)),
            "our": Parent({**WAITING, **ours}, len(settings) * (len(SIDES) - 1)),
        }
        found = {}
        for setting in settings:
            turns = measure(setting, Path(folder), parents, arguments)
            found[setting.name] = summary(setting, turns, taken(setting, arguments.threads))
        for parent in parents.values():
            parent.end()
    print(report(found, settings, arguments))
    print()
    print(json.dumps({"ratio": found[settings[0].name]["ratio"], "settings": found}))
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--parent"]:
        first, *others = [Connection(int(number)) for number in sys.argv[2:]]
        be_parent(first, others)
    else:
        sys.exit(main())
