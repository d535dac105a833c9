"""The first stage of a level: encoder and codes, trained through the auxiliary decoder, as a task of the engine."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from caskit.gen.autoregressive.codebook import perplexity, quantise, revives, usage
from caskit.gen.ham.config import FitConfig, LevelConfig
from caskit.gen.ham.network import FeedForward, LevelNetwork, self_prediction_loss
from caskit.train.distributed import World
from caskit.train.order import Order
from caskit.train.precision import autocast

GRADIENT_NORM = 1.0

Batches = Callable[[np.ndarray], Tensor]  # ids [n] to what a level reads


class AbstractionPass(nn.Module):
    """One forward pass of training, which also moves the codebook: one module, so that gradients can be averaged."""

    def __init__(self, model: LevelNetwork, precision: str, world: World) -> None:
        super().__init__()
        self.model, self._precision, self._world = model, precision, world

    def forward(self, x: Tensor, reviving: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and the numbers to log; x is images [N, C, H, W] or codes [N, H, W].

        `reviving` moves codes that are not used.
        """
        model, config = self.model, self.model.config
        with autocast(x.device, self._precision):
            features = model.features(x)
            vectors = model.vectors(features)
        quantised, commitment, revived = quantise(model.codebook, vectors, reviving, self._world)
        if isinstance(model.auxiliary, FeedForward):
            error, extra = self._decoding_error(quantised, x), {}
        else:
            error, apart = self._prediction_error(quantised, features, x)
            extra = {"apart": apart.detach()}
        loss = error + config.commitment * commitment + (config.spread * apart if extra else 0)
        return loss, {
            "loss": loss.detach(),
            "error": error.detach(),
            **extra,
            "commit": commitment.detach(),
            "perplexity": perplexity(model.codebook.counts),
            "usage": usage(model.codebook),
            "revived": revived,
        }

    def _decoding_error(self, quantised: Tensor, x: Tensor) -> Tensor:
        """Return the mean squared error of pixels, or the cross entropy of the codes below in nats."""
        with autocast(x.device, self._precision):
            decoded = self.model.auxiliary(quantised)
        if self.model.below_codes:
            return functional.cross_entropy(decoded.float(), x)
        return functional.mse_loss(decoded.float(), x)

    def _prediction_error(self, quantised: Tensor, features: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        mask = random_boxes(len(x), features.shape[2:], self.model.config.mask).to(x.device)
        with autocast(x.device, self._precision):
            context = self.model.features(x, mask)
            predicted = self.model.auxiliary(quantised, context, mask)
        return self_prediction_loss(predicted.float(), features.float(), mask)


def random_boxes(num: int, shape: torch.Size, share: float) -> Tensor:
    """Return masks of one random box each, [num, 1, h, w] float, 1 inside.

    Its sides are drawn evenly from 1 to `share` of the map's, rounded, its place from all that hold it whole.
    """
    inside = []
    for size in shape:
        longest = max(1, round(share * size))
        sides = torch.randint(1, longest + 1, (num, 1))
        starts = (torch.rand(num, 1, dtype=torch.float64) * (size - sides + 1)).long()
        places = torch.arange(size)
        inside.append((places >= starts) & (places < starts + sides))
    return (inside[0][:, None, :, None] & inside[1][:, None, None, :]).float()


class AbstractionTask:
    """Trains a level's encoder; one step is a pure function of the state, the step number and the seed."""

    def __init__(
        self,
        model: LevelNetwork,
        batches: Batches,
        num: int,
        level: LevelConfig,
        config: FitConfig,
        *,
        world: World,
    ) -> None:
        """Take a network with random weights, and what it reads of `num` samples."""
        stage = level.abstraction
        self.num_steps = stage.num_steps
        self._batches, self._stage, self._world = batches, stage, world
        self._share = world.share(stage.batch_size)
        self._order = Order(num, stage.batch_size, config.seed)
        self.model = model.to(world.device).to(memory_format=torch.channels_last)
        self._pass = world.wrap(AbstractionPass(self.model, config.precision, world))
        self._optimizer = torch.optim.Adam(self.model.parameters(), lr=stage.learning_rate)

    def step(self, step: int) -> Mapping[str, float | Tensor]:
        """Do one update.

        Returns:
            loss; error: of feed-forward decoding the mean square of pixels in -1..1 or nats per code below, of masked
            prediction the share of the features' variance that is not told; apart (masked prediction), see
            `self_prediction_loss`; commit, the commitment loss; perplexity, of the codes' moving counts; usage, share
            of codes with at least `revive_below` of an even use; revived, codes moved in this step; lr.
        """
        rate = self._stage.rate(step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        reviving = revives(step, self.model.codebook.revive_below)
        ids = np.concatenate([part for _, part in self._order.batch(step)])[self._share]
        loss, numbers = self._pass(self._batches(ids), reviving)
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM)
        self._optimizer.step()
        return {**numbers, "lr": rate}

    def state_dict(self) -> dict[str, Any]:
        """Return everything a later step depends on."""
        return {"model": self.model.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state of `state_dict` back."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
