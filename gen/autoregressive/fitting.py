"""Fitting a prior to maps of codes, as a task of the shared engine."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from caskit.gen.autoregressive.optimizers import build_optimizer
from caskit.gen.autoregressive.pixelsnail import PixelSnail
from caskit.gen.autoregressive.variants import draw_variants
from caskit.train.distributed import World
from caskit.train.ema import Ema
from caskit.train.order import Order
from caskit.train.precision import autocast

GRADIENT_NORM = 1.0


class Maps(Protocol):
    """Maps of codes, in memory or not."""

    def __getitem__(self, ids: np.ndarray, /) -> np.ndarray:
        """Return the maps of some images, [n] int64 to [n, H, W]."""


class PriorTask:
    """Maximises the likelihood of codes; one step is a pure function of the state, the step number and the seed."""

    def __init__(
        self,
        model: PixelSnail,
        codes: Maps,
        labels: np.ndarray,
        above: Maps | None,
        *,
        num_steps: int,
        batch_size: int,
        optimizer: str,
        learning_rate: Callable[[int], float],
        ema_decay: float,
        seed: int,
        precision: str,
        world: World,
        num_variants: int = 1,
    ) -> None:
        """Take the data.

        Args:
            model: on any device.
            codes: of N images, [num_variants * N, H, W] uint16, all images in one variant before the next.
            labels: [N].
            above: the maps above, [num_variants * N, h, w] uint16, or None.
            num_steps: optimizer steps.
            batch_size: images per step.
            optimizer: a name from `config.OPTIMIZERS`.
            learning_rate: of a step.
            ema_decay: of the average of the weights; 0, none.
            seed: of the order.
            precision: of the forward pass, see `train.precision`.
            world: the processes among which a batch is divided.
            num_variants: of each image, of which variant 0 is the one that will be sampled.
        """
        self.num_steps = num_steps
        self.model = model.to(world.device).to(memory_format=torch.channels_last)
        self._parallel = world.wrap(self.model)
        self._codes, self._labels, self._above = codes, labels, above
        self._share, self._device, self._precision = world.share(batch_size), world.device, precision
        self._order, self._rate = Order(len(labels), batch_size, seed), learning_rate
        self._num_variants = num_variants
        self._optimizer = build_optimizer(self.model, optimizer, learning_rate(0))
        self._ema = Ema(self.model, ema_decay) if ema_decay else None

    @property
    def fitted(self) -> PixelSnail:
        """The network to keep: the average of the weights where there is one, of the first variant alone."""
        prior: PixelSnail = self.model if self._ema is None else self._ema.model  # type: ignore[assignment]
        if self._num_variants > 1:
            prior = copy.deepcopy(prior)
            prior.keep_first_variant()
        return prior

    def step(self, step: int) -> Mapping[str, float | Tensor]:
        """Do one update; returns loss (nats per code), accuracy (of the likeliest code), gradient norm, lr."""
        codes, labels, above, variants = self._batch(step)
        rate = self._rate(step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        with autocast(self._device, self._precision):
            logits = self._parallel(codes, labels, above, variants)
        loss = functional.cross_entropy(logits.float(), codes)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM)
        self._optimizer.step()
        if self._ema is not None:
            self._ema.update(self.model)
        accuracy = (logits.detach().argmax(dim=1) == codes).float().mean()
        return {"loss": loss.detach(), "accuracy": accuracy, "norm": norm.detach(), "lr": rate}

    def _batch(self, step: int) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        ids = np.concatenate([part for _, part in self._order.batch(step)])
        drawn = draw_variants(self._order.seed, step, len(ids), self._num_variants)[self._share]
        ids = ids[self._share]
        rows = ids + len(self._labels) * drawn
        above = None if self._above is None else self._tensor(self._above[rows])
        variants = self._tensor(drawn) if self._num_variants > 1 else None
        return self._tensor(self._codes[rows]), self._tensor(self._labels[ids]), above, variants

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(self._device)

    def state_dict(self) -> dict[str, Any]:
        """Return everything a later step depends on."""
        average = {} if self._ema is None else {"ema": self._ema.state_dict()}
        return {"model": self.model.state_dict(), "optimizer": self._optimizer.state_dict(), **average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state of `state_dict` back."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._ema is not None:
            self._ema.load_state_dict(state["ema"])
