"""A family that several processes fit: the mean grey of a set. As a script, the command line with it.

torchrun --nproc-per-node 2 grey_family.py fit --gen grey:tiny --data SET --out DIR
"""

import dataclasses
import sys

import numpy as np
import torch
from torch.nn import functional

from caskit.cli import run_process
from caskit.gen.checkpoint import save_checkpoint
from caskit.gen.family import FAMILIES
from caskit.train.engine import EngineConfig, run
from caskit.train.images import Images
from caskit.train.order import Order
from caskit.train.precision import autocast, check_precision

NAME = "grey"
BATCH_SIZE = 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig:
    preset: str = "tiny"
    num_steps: int = 30
    precision: str = "float32"

    def __post_init__(self):
        check_precision(self.precision)


PRESETS = {"tiny": FitConfig}


class GreyTask:
    def __init__(self, images, num, config, world):
        self.num_steps, self.config, self.world = config.num_steps, config, world
        self.images, self.order = images, Order(num, BATCH_SIZE, seed=0)
        torch.manual_seed(0)
        self.model = torch.nn.Linear(1, 1)
        self.wrapped = world.wrap(self.model)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.1)

    def step(self, step):
        ids = np.concatenate([part for _, part in self.order.batch(step)])[self.world.share(BATCH_SIZE)]
        greys = torch.from_numpy(self.images.batch(ids).mean(axis=(1, 2, 3)).astype(np.float32) / 255)
        with autocast(self.world.device, self.config.precision):
            outputs = self.wrapped(torch.ones(len(ids), 1))
        loss = functional.mse_loss(outputs[:, 0].float(), greys)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}

    def state_dict(self):
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


def fit(data, config, out, *, device, progress, stop, world):
    images = Images(data)
    task = GreyTask(images, len(data), config, world)
    identity = {"content_root": data.replica.content_root, "config": dataclasses.asdict(config)}
    engine = EngineConfig(save_every=10, log_every=10)
    options = {"config": engine, "batch_size": BATCH_SIZE, "progress": progress, "stop": stop, "world": world}
    run(task, out=out / "_work", identity=identity, **options)
    if world.first:
        shape = {"height": images.height, "width": images.width, "channels": images.channels}
        tensors = {"model": torch.cat([p.detach().flatten() for p in task.model.parameters()])}
        described = dataclasses.asdict(config)
        save_checkpoint(
            out, family=NAME, preset="tiny", config=described, classes=data.classes, tensors=tensors, **shape
        )
    return out


if __name__ == "__main__":
    FAMILIES[NAME] = "grey_family"
    sys.argv[0] = "caskit"
    run_process()
