"""Runs of several processes for the tests: what each rank does, started by torchrun or forked by this script.

    torchrun --standalone --nproc-per-node 2 rank_runs.py FOLDER/SCENARIO
    python rank_runs.py FOLDER/SCENARIO[.NAME]:RANKS[:STEP] ...    forks a run of so many ranks per word, in order

With FOLDER/classifier the runs are those of `training.train`, and each rank also leaves what it saw in seen.jsonl<r>.

Importing torch takes longer than these runs, hence one process that forks them all. Every rank leaves what it ended
with in its folder, rank<r>.pt; how the ranks of a word ended is printed.
"""

import dataclasses
import importlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import safetensors.torch
import torch
from conftest import FakeSet, stripes
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from caskit.manifests.errors import InputError, NotFinished, RunFailed
from caskit.train.distributed import World, joined
from caskit.train.ema import Ema
from caskit.train.engine import EngineConfig, run, step_seed
from caskit.train.launch import read_launch
from caskit.train.order import Order
from caskit.train.prefetch import Prefetch
from caskit.train.recipes import Recipe
from caskit.train.training import MODEL_NAME, train

NUM_SAMPLES, BATCH, WIDTH = 90, 24, 192
IDENTITY = {"config": "tiny"}


class Network(nn.Module):
    """Its gradients arrive in another order than its layers are listed in and fill more than one bucket; one layer is
    computed again in the backward pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4 * WIDTH, 1)
        self.first = nn.Linear(6, WIDTH)
        self.middle = nn.Linear(WIDTH, 4 * WIDTH)
        self.second = nn.Linear(4 * WIDTH, 4 * WIDTH)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = functional.gelu(self.middle(functional.gelu(self.first(inputs))))
        outputs: Tensor = self.last(functional.gelu(checkpoint(self.second, hidden, use_reentrant=False)))[:, 0]
        return outputs


class SharedTask:
    """Regression over slices of global batches, with a running mean of the inputs as a codebook's statistics have.

    `noise` adds random numbers of the rank's own; `drift` forgets to share the statistics.
    """

    def __init__(self, world: World, *, num_steps: int = 12, noise: float = 0.0, drift: bool = False) -> None:
        self.num_steps, self.world, self.noise, self.drift = num_steps, world, noise, drift
        random = np.random.default_rng(0)
        self.inputs = torch.from_numpy(random.normal(size=(NUM_SAMPLES, 6)).astype(np.float32))
        self.order = Order(NUM_SAMPLES, BATCH, seed=5)
        torch.manual_seed(world.rank)  # as if a task forgot to seed: rank 0's weights count
        self.model = Network()
        self.wrapped = world.wrap(self.model)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)
        self.ema = Ema(self.model, 0.9)
        self.mean = torch.zeros(6)

    def step(self, step: int) -> Mapping[str, float | Tensor]:
        ids = np.concatenate([part for _, part in self.order.batch(step)])[self.world.share(BATCH)]
        inputs = self.inputs[torch.from_numpy(ids)]
        targets = inputs.prod(dim=1) + self.noise * torch.randn(len(inputs))
        loss = functional.mse_loss(self.wrapped(inputs), targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.ema.update(self.model)
        total = inputs.sum(dim=0)
        self.mean.lerp_((total if self.drift else self.world.sum_(total)) / BATCH, 0.1)
        return {"loss": loss.detach(), "lr": 0.05}

    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "ema": self.ema}

    def state_dict(self) -> dict[str, Any]:
        return {**{name: part.state_dict() for name, part in self._parts().items()}, "mean": self.mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.mean = state["mean"].clone()


def drive(out: Path, world: World, task: SharedTask, **options: Any) -> SharedTask:
    config = EngineConfig(seed=3, save_every=5, log_every=2)
    run(task, out=out, identity=IDENTITY, config=config, batch_size=BATCH, world=world, **options)
    return task


class DyingTask(SharedTask):
    """Sends its own process a signal at one step, on some ranks."""

    def __init__(self, world: World, *, at: int, ranks: tuple[int, ...], number: int, **options: Any) -> None:
        super().__init__(world, **options)
        self.at, self.ranks, self.number = at, ranks, number

    def step(self, step: int) -> Mapping[str, float | Tensor]:
        if step == self.at and self.world.rank in self.ranks:
            os.kill(os.getpid(), self.number)
        return super().step(step)


def whole(out: Path, world: World) -> SharedTask:
    return drive(out, world, SharedTask(world))


def noisy(out: Path, world: World) -> SharedTask:
    return drive(out, world, SharedTask(world, noise=1.0))


def equal_noise(out: Path, world: World) -> SharedTask:
    """As `noisy`, but every rank seeds its steps as rank 0 does."""
    task = SharedTask(world, noise=1.0)
    step = task.step

    def seeded(number: int) -> Mapping[str, float | Tensor]:
        torch.manual_seed(step_seed(3, number))
        return step(number)

    task.step = seeded  # type: ignore[method-assign]
    return drive(out, world, task)


def stopped(out: Path, world: World) -> SharedTask:
    """The last rank alone is asked to stop, at step 7."""
    task, calls = SharedTask(world, noise=1.0), iter(range(100))
    return refusal(
        NotFinished,
        out,
        world,
        lambda: drive(out, world, task, stop=lambda: next(calls) == 6 and world.rank == world.size - 1),
        task,
    )


def killed(out: Path, world: World) -> SharedTask:
    """All ranks die at step DIE_AT, if they come to it."""
    at = int(os.environ["DIE_AT"])
    return drive(out, world, DyingTask(world, at=at, ranks=(0, 1, 2), number=signal.SIGKILL, noise=1.0))


def refusal(kind: type[Exception], out: Path, world: World, work: Callable[[], Any], task: SharedTask) -> SharedTask:
    """Expect an error of the work; leave how many seconds it took and what it said."""
    began = time.monotonic()
    try:
        work()
    except kind as error:
        (out / f"error{world.rank}").write_text(f"{time.monotonic() - began:.1f} {error}")
        return task
    raise AssertionError(f"no {kind.__name__}")


def _bereft(out: Path, world: World, number: int, rank: int) -> SharedTask:
    task = DyingTask(world, at=3, ranks=(rank,), number=number)
    return refusal(RunFailed, out, world, lambda: drive(out, world, task), task)


def first_dies(out: Path, world: World) -> SharedTask:
    return _bereft(out, world, signal.SIGKILL, 0)


def last_dies(out: Path, world: World) -> SharedTask:
    return _bereft(out, world, signal.SIGKILL, world.size - 1)


def last_hangs(out: Path, world: World) -> SharedTask:
    return _bereft(out, world, signal.SIGSTOP, world.size - 1)


def drifting(out: Path, world: World) -> SharedTask:
    task = SharedTask(world, drift=True)
    return refusal(RunFailed, out, world, lambda: drive(out, world, task), task)


def refused(out: Path, world: World) -> SharedTask:
    """The folder holds another run, which rank 0 alone sees."""
    task = SharedTask(world)
    return refusal(InputError, out, world, lambda: drive(out, world, task), task)


RECIPE = Recipe(
    name="tiny",
    widths=(4, 6),
    num_poolings=1,
    resolution=8,
    num_steps=12,
    batch_size=16,
    bn_batch=4,
    learning_rate=0.1,
    dropout=0.2,
    ema_decay=0.5,
    flip="random",
    shift=1,
    mixup=0.5,
    threads=1,
)


def classifier(out: Path, world: World, recipe: Recipe = RECIPE) -> Any:
    """Four parts a step; the processes die together at step DIE_AT, if they come to it."""
    load, at = Prefetch.load, int(os.environ["DIE_AT"])

    def watched(self: Prefetch, step: int, part: int) -> tuple[Tensor, Tensor]:
        if step == at:
            world.barrier()
            os.kill(os.getpid(), signal.SIGKILL)
        with open(out / f"seen{world.rank}.jsonl", "a") as file:
            ids = [(epoch, sample) for epoch, chosen in self._images.ids(step, part) for sample in chosen.tolist()]
            file.write(json.dumps([world.size, step, part, ids]) + "\n")
        return load(self, step, part)

    Prefetch.load = watched  # type: ignore[method-assign]
    config = EngineConfig(save_every=5, log_every=2)
    record = train(
        FakeSet(*stripes(54)),  # type: ignore[arg-type]
        recipe,
        seed=3,
        out=out,
        device=world.device,
        config=config,
        world=world,
    )
    weights = safetensors.torch.load_file(out / MODEL_NAME)
    return SimpleNamespace(state_dict=lambda: {"weights": weights, "id": record["classifier_id"]})


def undropped(out: Path, world: World) -> Any:
    """As `classifier`, without dropout, which compiled kernels draw from other numbers."""
    return classifier(out, world, dataclasses.replace(RECIPE, dropout=0.0))


def compiled(out: Path, world: World) -> Any:
    """As `undropped`, through torch.compile."""
    return classifier(out, world, dataclasses.replace(RECIPE, dropout=0.0, compile=True))


def bereft_of_a_compiler(out: Path, world: World) -> SharedTask:
    """The last rank's machine has none; what the others have is there, and no one comes to call it."""
    os.environ["CXX"] = "no-such-compiler" if world.rank == world.size - 1 else sys.executable
    return refusal(InputError, out, world, lambda: compiled(out, world), SharedTask(world))


def be_a_rank(out: Path) -> None:
    torch.set_num_threads(1)
    scenario = globals()[out.name.partition(".")[0]]
    with joined(read_launch(), torch.device("cpu"), timeout_s=float(os.environ.get("TIMEOUT_S", "120"))) as world:
        task = scenario(out, world)
        torch.save(task.state_dict(), out / f"rank{world.rank}.pt")


def fork_ranks(out: Path, size: int) -> list[int]:
    """Do torchrun's part without it, so that no one ends the ranks that are left; return how each ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(TORCHELASTIC_RUN_ID="test", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.environ.update(WORLD_SIZE=str(size), LOCAL_WORLD_SIZE=str(size))
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
            code = 1
            try:
                be_a_rank(out)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    ends: dict[int, int] = {}
    while len(ends) < size:
        child, status = os.waitpid(-1, 0)
        ends[children.index(child)] = os.waitstatus_to_exitcode(status)
        if out.name == "last_hangs" and len(ends) == size - 1:
            os.kill(children[-1], signal.SIGKILL)
    return [ends[rank] for rank in range(size)]


def fork_run(word: str) -> None:
    path, ranks, *step = word.split(":")
    os.environ["DIE_AT"] = step[0] if step else "99"
    os.environ["TIMEOUT_S"] = "6" if path.endswith("last_hangs") else "120"
    Path(path).mkdir(parents=True, exist_ok=True)
    print(*fork_ranks(Path(path), int(ranks)), flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 2 and ":" not in sys.argv[1]:
        be_a_rank(Path(sys.argv[1]))
    else:
        for module in ("torch._dynamo", "torch._inductor"):  # DistributedDataParallel imports them: here, not in each
            importlib.import_module(module)
        for word in sys.argv[1:]:
            fork_run(word)
