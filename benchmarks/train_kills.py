"""Trainings killed with `kill -9` at twenty random steps: do they end with the tensors of a calm one?

Run: python benchmarks/train_kills.py > benchmarks/train_kills.md (some minutes). Each run trains the digits' convnet,
with dropout, mixup, shifts and averaged weights, in four batch-norm batches a step. A process of its own watches what
the training has begun and kills it within a chosen step: before the forward pass, after it, while a state is written.
Of several processes it kills all or one; the others then have to end by themselves. Then the same call again.

- One process, and two (gloo): the same number goes on; the classifiers have to be equal bit for bit.
- Two processes, then one, two, four, ... in turn: every step has to see the same samples in the same batch-norm batches
  as in the calm run of one process.

Every sample that a process loads is written down, (epoch, key) by step and part. tests/benchmarks/test_train_kills.py
does the same with fewer.
"""

import argparse
import dataclasses
import datetime
import importlib
import itertools
import json
import os
import platform
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from caskit.manifests.errors import RunFailed
from caskit.shards.dataset import open_set
from caskit.train.distributed import joined
from caskit.train.engine import EngineConfig
from caskit.train.launch import Launch
from caskit.train.prefetch import Prefetch
from caskit.train.presets import digits
from caskit.train.training import MODEL_NAME, RUN_NAME, train

CPU = torch.device("cpu")
SAVE_EVERY = 7  # so that most kills come between two saved states
LATEST_S = 0.03  # after a step was seen to have begun
LONGEST_S = 600.0  # for one training
LOST_S = 120.0  # after which a process gives up to wait for others
LOST = 3  # exit code of a process that ended because another one was killed

Places = dict[tuple[int, int], list[tuple[int, int]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kill:
    """One kill: of which ranks of how many processes, and the newest step that they had begun by then."""

    ranks: tuple[int, ...]
    size: int
    step: int


def recipe(num_steps: int) -> Any:
    """Return the digits' recipe, shorter, with all that a training can have to remember."""
    return dataclasses.replace(digits(), num_steps=num_steps, bn_batch=32, dropout=0.1, ema_decay=0.9, mixup=0.2)


def be_a_rank(out: Path, data: Path, rank: int, size: int, num_steps: int) -> None:
    """Train as one of `size` processes, writing down what is loaded."""
    torch.set_num_threads(1)
    record = os.open(out / f"seen-{size}-{rank}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    load = Prefetch.load  # what is trained on, not what is made ahead

    def watched(self: Prefetch, step: int, part: int) -> tuple[torch.Tensor, torch.Tensor]:
        ids = [(epoch, sample) for epoch, chosen in self._images.ids(step, part) for sample in chosen.tolist()]
        os.write(record, (json.dumps([step, part, ids]) + "\n").encode())
        return load(self, step, part)

    Prefetch.load = watched  # type: ignore[method-assign]
    launch = Launch(rank=rank, size=size, local_rank=rank, local_size=size)
    with joined(launch, CPU, timeout_s=LOST_S) as world:
        config = EngineConfig(save_every=SAVE_EVERY, log_every=5)
        train(open_set(str(data)), recipe(num_steps), seed=0, out=out, device=CPU, config=config, world=world)
        world.barrier()


def start(out: Path, data: Path, size: int, num_steps: int) -> list[int]:
    """Fork the processes of a training, which takes less time than importing torch in each, and return their ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free.getsockname()[1]))
    out.mkdir(parents=True, exist_ok=True)
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                be_a_rank(out, data, rank, size, num_steps)
                code = 0
            except RunFailed:
                code = LOST
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    return children


def ended(children: list[int]) -> list[int]:
    """Wait for processes and return how each ended: its exit code, or the signal's number below zero."""
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def seen(out: Path) -> Places:
    """Return what was loaded, (epoch, sample id) by step and part; a part that was loaded twice has to be equal."""
    found: Places = {}
    for path in sorted(out.glob("seen-*.jsonl")):
        for line in path.read_text().split("\n")[:-1]:  # what follows the last line's end was cut by a kill
            step, part, ids = json.loads(line)
            samples = [(epoch, sample) for epoch, sample in ids]
            if found.setdefault((step, part), samples) != samples:
                raise SystemExit(f"{out}: step {step}, part {part} was loaded with other samples after a kill")
    return found


def sizes_of(out: Path) -> dict[str, int]:
    """Return how many bytes were written of each record of what was loaded."""
    return {path.name: path.stat().st_size for path in out.glob("seen-*.jsonl")}


def newest_step(out: Path, before: dict[str, int], size: int) -> int:
    """Return the newest step that one of the processes has begun since the records had the sizes `before`.

    -1 until each process has begun one: a process that is killed before it has joined leaves the others waiting.
    """
    newest = []
    for rank in range(size):
        path = out / f"seen-{size}-{rank}.jsonl"
        lines = path.read_bytes()[before.get(path.name, 0) :].split(b"\n")[:-1] if path.exists() else []
        if not lines:
            return -1
        newest.append(int(lines[-1].removeprefix(b"[").partition(b",")[0]))
    return max(newest)


def kill_at(step: int, out: Path, data: Path, size: int, arguments: argparse.Namespace, rng: random.Random) -> Kill:
    """Start a training, wait until it has begun a step, kill all of its processes or one, and wait for the others."""
    before = sizes_of(out)
    children = start(out, data, size, arguments.steps)
    deadline = time.monotonic() + LONGEST_S
    while newest_step(out, before, size) < step:
        if (out / MODEL_NAME).exists():
            raise SystemExit(f"{out}: the training ended before it could be killed at step {step}")
        if time.monotonic() > deadline:
            raise SystemExit(f"{out}: step {step} was not begun within {LONGEST_S:.0f} s")
        time.sleep(0.002)
    time.sleep(rng.uniform(0, LATEST_S))
    ranks = tuple(range(len(children))) if rng.random() < 0.5 else (rng.randrange(len(children)),)
    for rank in ranks:
        os.kill(children[rank], signal.SIGKILL)
    newest = newest_step(out, before, size)
    codes = ended(children)
    allowed = [{-signal.SIGKILL, 0} if rank in ranks else {LOST, 0} for rank in range(len(children))]
    if any(code not in those for code, those in zip(codes, allowed, strict=True)):
        raise SystemExit(f"{out}: processes ended with {codes} after ranks {ranks} were killed")
    return Kill(ranks=ranks, size=len(children), step=newest)


def disturbed(out: Path, data: Path, sizes: list[int], arguments: argparse.Namespace, seed: int) -> list[Kill]:
    """Kill a training at random steps, its next processes as many as the next of `sizes` says, and let it end."""
    rng = random.Random(seed)
    # The last steps are left: on a slow machine a training goes on for some steps until it is killed.
    steps = sorted(rng.sample(range(1, arguments.steps - 2 * SAVE_EVERY), arguments.kills))
    kills = []
    for step, size in zip(steps, itertools.cycle(sizes), strict=False):
        kills.append(kill_at(step, out, data, size, arguments, rng))
    last = sizes[len(kills) % len(sizes)]
    if (codes := ended(start(out, data, last, arguments.steps))) != [0] * last:
        raise SystemExit(f"{out}: the last processes ended with {codes}")
    return kills


def tensors(out: Path) -> dict[str, torch.Tensor]:
    """Return a classifier's weights."""
    return safetensors.torch.load_file(out / MODEL_NAME)


def difference(ours: Path, theirs: Path) -> float:
    """Return the largest difference of two classifiers' weights."""
    a, b = tensors(ours), tensors(theirs)
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


def keyed(places: Places, data: Path) -> list[tuple[int, str]]:
    """Return (epoch, key) of everything that was trained on, sorted."""
    keys = open_set(str(data)).keys
    return sorted((epoch, keys[sample]) for samples in places.values() for epoch, sample in samples)


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Do all runs and return what was found."""
    command = [sys.executable, "-m", "caskit", "data", "digits", "--out", str(folder / "real")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    data = folder / "real/train"
    for module in ("caskit.train.task", "torch._dynamo", "torch._inductor"):  # here once and not in every process
        importlib.import_module(module)
    found: dict[str, Any] = {"kills": {}, "equal_tensors": {}, "same_samples": {}}
    for size in (1, 2):
        calm, killed = folder / f"calm-{size}", folder / f"killed-{size}"
        if ended(start(calm, data, size, arguments.steps)) != [0] * size:
            raise SystemExit("the calm run failed")
        name = f"{size} -> {size}"
        found["kills"][name] = disturbed(killed, data, [size], arguments, arguments.moments + size)
        records = [json.loads((out / RUN_NAME).read_text()) for out in (calm, killed)]
        equal = all(torch.equal(a, b) for a, b in zip(tensors(calm).values(), tensors(killed).values(), strict=True))
        found["equal_tensors"][name] = equal and len({record["classifier_id"] for record in records}) == 1
        found["same_samples"][name] = seen(killed) == seen(calm)
    calm, mixed = folder / "calm-1", folder / "mixed"
    name = "2 -> 1 -> 4 -> 2 ..."
    found["kills"][name] = disturbed(mixed, data, [2, 1, 4], arguments, arguments.moments)
    found["same_samples"][name] = seen(mixed) == seen(calm) == seen(folder / "calm-2")
    epochs = keyed(seen(mixed), data)
    found["each_key_once_per_epoch"] = len(set(epochs)) == len(epochs) and epochs == keyed(seen(calm), data)
    found["difference"] = {
        "1 process, 2 processes, both calm": difference(folder / "calm-1", folder / "calm-2"),
        "1 process calm, other numbers in turn": difference(folder / "calm-1", mixed),
    }
    return found


def report(found: dict[str, Any], arguments: argparse.Namespace) -> str:
    """Return the result as Markdown."""
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    options = f"--kills {arguments.kills} --steps {arguments.steps} --moments {arguments.moments}"
    lines = [
        "# Trainings killed at random steps",
        "",
        f"{datetime.date.today()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, {versions}.",
        f"Command: `python benchmarks/train_kills.py {options} > benchmarks/train_kills.md`.",
        "",
        f"Digits, {arguments.steps} steps of 128 images in 4 batch-norm batches, a state every {SAVE_EVERY} steps; "
        "each kill is `kill -9`.",
        "",
        "| processes | kills (steps; of one rank: its number) | tensors equal those of a calm run | same samples, same "
        "batch-norm batches |",
        "|---|---|---|---|",
    ]
    for name, kills in found["kills"].items():
        steps = " ".join(f"{k.step}" + (f" ({k.ranks[0]})" if len(k.ranks) < k.size else "") for k in kills)
        equal = found["equal_tensors"].get(name)
        shown = "not promised" if equal is None else "yes" if equal else "NO"
        lines.append(f"| {name} | {len(kills)}: {steps} | {shown} | {'yes' if found['same_samples'][name] else 'NO'} |")
    once = "yes" if found["each_key_once_per_epoch"] else "NO"
    lines += ["", f"Each key once per epoch, whatever the numbers of processes: {once}.", ""]
    lines += [f"Largest difference of weights, {what}: {value:.1e}.  " for what, value in found["difference"].items()]
    return "\n".join(lines)


def main() -> int:
    """Print the result and one JSON object; 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=300, help="of each training")
    parser.add_argument("--moments", type=int, default=0, help="seed of the moments")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), arguments)
    print(report(found, arguments))
    passed = (
        all(found["equal_tensors"].values())
        and all(found["same_samples"].values())
        and found["each_key_once_per_epoch"]
    )
    summary = {name: len(kills) for name, kills in found["kills"].items()}
    print()
    print(json.dumps({"passed": passed, "kills": summary, "equal_tensors": found["equal_tensors"]}))
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
