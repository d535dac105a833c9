"""Training on a crowded machine: how threads of OpenMP wait for each other, and who makes the images.

Run: python benchmarks/crowded.py > benchmarks/crowded.md (minutes of two cores that nobody else uses, longer beside
others). `--short` has fewer turns and loads. Each side is a process with an environment of its own that trains when it
is told to and waits otherwise; they take turns, in another order each round, beside `--busy` processes that only count.
Told are steps per second, processor milliseconds and voluntary waits a step, medians over the rounds.

    spins       as the command line sets it: OMP_WAIT_POLICY=PASSIVE, GOMP_SPINCOUNT=2000; images are made in between
    sleeps      OMP_WAIT_POLICY=PASSIVE alone
    thread      as `spins`, and a thread makes the next images during a step
    N           as `spins`, with GOMP_SPINCOUNT=N, for each N of `--counts`

Settings: the recipe fashion-mnist, whose images are hardly worth a thread, and lcnet_050 at 32 px with random crops.
Both compute with two threads, from pixels in memory. The last line printed is one JSON object; its `ratio` is the least
of the ratios of `spins` to `sleeps` in steps per second.
"""

import argparse
import dataclasses
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

from caskit.cli import WAITING

SETTINGS = ("fashion-mnist", "lcnet_050")
SLEEPS = {"OMP_WAIT_POLICY": "PASSIVE"}
SIDES = {"spins": WAITING, "sleeps": SLEEPS, "thread": WAITING}
UNCOUNTED = 2


def make_task(setting: str, *, ahead: bool) -> Any:
    """Return what trains on fabricated images."""
    import torch  # on use: it reads OpenMP's environment as it is imported, and the parent needs none

    from caskit.train.presets import IMAGENET_MEAN, IMAGENET_STD, get_recipe
    from caskit.train.task import ClassifierTask

    recipe, channels = get_recipe("fashion-mnist"), 1
    if setting == "lcnet_050":
        recipe, channels = (
            dataclasses.replace(
                get_recipe("fashion-mnist"), model="timm:lcnet_050", resolution=32, channel_mean=IMAGENET_MEAN,
                channel_std=IMAGENET_STD, batch_size=128, bn_batch=128, optimizer="nesterov", learning_rate=0.01,
                weight_decay=1e-4, flip="random", crop="uniform-area",
            ),
            3,
        )  # fmt: skip
    torch.set_num_threads(recipe.threads)
    random, side = np.random.default_rng(0), recipe.resolution
    images = random.integers(0, 256, (4096, side, side, channels), dtype=np.uint8)
    return ClassifierTask(
        recipe, lambda ids: images[ids], np.arange(len(images)) % 10, num_classes=10, channels=channels, seed=0,
        device=torch.device("cpu"), ahead=ahead,
    )  # fmt: skip


def be_side(side: str, setting: str) -> None:
    """Train for as many steps as a line of the input says, and tell how they went."""
    from caskit.train.memory import kept

    step = 0
    with kept():
        task = make_task(setting, ahead=side == "thread")
        for line in sys.stdin:
            for number in range(-UNCOUNTED, int(line)):
                if number == 0:
                    clock, used, waits = time.perf_counter(), time.process_time(), voluntary_waits()
                task.step(step)
                step += 1
            found = time.perf_counter() - clock, time.process_time() - used, voluntary_waits() - waits
            print(json.dumps([number / int(line) for number in found]), flush=True)


def voluntary_waits() -> int:
    """Return how often the threads of this process have gone to sleep."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw


def measure(
    setting: str, environments: dict[str, dict[str, str]], loads: list[int], steps: int, rounds: int
) -> dict[int, dict[str, list[list[float]]]]:
    """Return for each number of busy processes and each side what its turns took a step: seconds, processor, waits."""
    taken = {name for environment in environments.values() for name in environment}
    plain = {name: value for name, value in os.environ.items() if name not in taken}
    sides = {
        name: subprocess.Popen(
            [sys.executable, __file__, "--side", name, setting],
            env={**plain, **environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name, environment in environments.items()
    }  # fmt: skip
    found: dict[int, dict[str, list[list[float]]]] = {}
    for load in loads:
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(load)]
        try:
            found[load] = {name: [] for name in environments}
            for number in range(rounds):
                names = list(environments)
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    found[load][name].append(turn(sides[name], steps))
        finally:
            for process in busy:
                process.kill()
                process.wait()
    for side in sides.values():
        side.communicate()
    return found


def turn(side: subprocess.Popen[str], steps: int) -> list[float]:
    """Let a side train for some steps; return what one took."""
    assert side.stdin is not None and side.stdout is not None
    side.stdin.write(f"{steps}\n")
    side.stdin.flush()
    told = side.stdout.readline()
    if not told:
        raise SystemExit("a side has ended; its error stands above")
    result: list[float] = json.loads(told)
    return result


def main() -> int:
    """Print a table, and as the last line one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="fewer turns")
    parser.add_argument("--busy", help="numbers of busy processes (default 0,2,4,8; 0,4 if short)")
    parser.add_argument("--setting", choices=SETTINGS, help="one of them")
    parser.add_argument(
        "--counts", type=int, nargs="*", default=[], metavar="N", help="further values of the spin count"
    )
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--steps", type=int)
    arguments = parser.parse_args()
    steps, rounds = arguments.steps or (6 if arguments.short else 20), arguments.rounds or (3 if arguments.short else 7)
    loads = [int(word) for word in (arguments.busy or ("0,4" if arguments.short else "0,2,4,8")).split(",")]
    print("# Training on a crowded machine\n")
    print(f"{datetime.date.today()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} before,", end=" ")
    print(f"niceness {os.nice(0)}, Python {platform.python_version()}.")
    print(
        f"Command: `python benchmarks/crowded.py {' '.join(sys.argv[1:])}`. Medians of {rounds} turns of {steps} steps."
    )
    print("\n| setting | busy beside it | side | steps/s | processor ms a step | waits a step | ratio to sleeps |")
    print("|---|---|---|---|---|---|---|", flush=True)
    ratios: dict[str, float] = {}
    environments = SIDES | {str(count): {**SLEEPS, "GOMP_SPINCOUNT": str(count)} for count in arguments.counts}
    for setting in SETTINGS if arguments.setting is None else (arguments.setting,):
        for load, turns in measure(setting, environments, loads, steps, rounds).items():
            for name, found in turns.items():
                pairs = zip(found, turns["sleeps"], strict=True)
                ratio = round(statistics.median(theirs[0] / ours[0] for ours, theirs in pairs), 3)
                ratios[f"{setting}, {load} busy, {name}"] = ratio
                seconds, used, waits = (statistics.median(column) for column in zip(*found, strict=True))
                cells = (
                    setting,
                    load,
                    name,
                    f"{1 / seconds:.2f}",
                    f"{1000 * used:.1f}",
                    f"{waits:.0f}",
                    f"{ratio:.2f}",
                )
                print(f"| {' | '.join(map(str, cells))} |", flush=True)
    print("\n" + json.dumps({"ratio": min(r for name, r in ratios.items() if name.endswith("spins")), "cases": ratios}))
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        be_side(*sys.argv[2:])
    else:
        sys.exit(main())
