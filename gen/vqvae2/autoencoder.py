"""The first stage of a fit: the autoencoder and its codebooks, as a task of the shared engine."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from caskit.gen.vqvae2.codebook import Codebook, perplexity
from caskit.gen.vqvae2.config import FitConfig
from caskit.gen.vqvae2.network import Autoencoder
from caskit.train.distributed import World
from caskit.train.images import Images
from caskit.train.order import Order
from caskit.train.precision import autocast

GRADIENT_NORM = 1.0
START_SPREAD = 1e-2  # of a batch's encodings, added to those a codebook starts with
USED_ABOVE = 0.01  # of an even use: a code below is not counted as used
REVIVE_EVERY = 10  # steps; a moved code needs some to win encodings


class TrainingPass(nn.Module):
    """One forward pass of training, which also moves the codebooks: one module, so that gradients can be averaged."""

    def __init__(self, model: Autoencoder, config: FitConfig, world: World) -> None:
        super().__init__()
        self.model, self._config, self._world = model, config, world

    def forward(self, images: Tensor, reviving: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and the numbers to log of images [N, C, H, W]; `reviving` moves codes that are not used."""
        model = self.model
        with autocast(images.device, self._config.precision):
            features = model.encode_bottom(images)
            vectors = model.top_vectors(features)
        top, commit_top, revived_top = self._quantise(model.top, vectors, reviving)
        with autocast(images.device, self._config.precision):
            vectors = model.bottom_vectors(features, top)
        bottom, commit_bottom, revived_bottom = self._quantise(model.bottom, vectors, reviving)
        with autocast(images.device, self._config.precision):
            decoded = model.decode(top, bottom)
        mse = functional.mse_loss(decoded.float(), images)
        loss = mse + self._config.commitment * (commit_top + commit_bottom)
        return loss, {
            "loss": loss.detach(),
            "mse": mse.detach(),
            "commit_top": commit_top.detach(),
            "commit_bottom": commit_bottom.detach(),
            "perplexity_top": perplexity(model.top.counts),
            "perplexity_bottom": perplexity(model.bottom.counts),
            "usage_top": self._usage(model.top),
            "usage_bottom": self._usage(model.bottom),
            "revived": revived_top + revived_bottom,
        }

    def _quantise(self, codebook: Codebook, vectors: Tensor, reviving: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Quantise vectors [N, h, w, D] and move the codebook; a map [N, D, h, w], the commitment loss, codes moved."""
        vectors = vectors.float()
        flat = vectors.detach().reshape(-1, codebook.size)
        chosen = flat[torch.randint(len(flat), (codebook.num_codes,)).to(flat.device)]
        if not codebook.started:
            # Encodings that were chosen twice are kept apart by a little of the batch's own spread.
            apart = flat.std(dim=0) * START_SPREAD * torch.randn_like(codebook.weight)
            codebook.start(self._of_first(chosen + apart), len(flat) * self._world.size)
        codes = codebook.nearest(flat)
        quantised = codebook(codes).reshape(vectors.shape)
        codebook.update(flat, codes, self._world)
        revived = codebook.revive(self._of_first(chosen)) if reviving else torch.zeros((), device=flat.device)
        commitment = functional.mse_loss(vectors, quantised)
        straight = vectors + (quantised - vectors).detach()  # the gradient passes as if nothing had been rounded
        return straight.permute(0, 3, 1, 2), commitment, revived

    def _of_first(self, vectors: Tensor) -> Tensor:
        """Return rank 0's vectors on all ranks, whose encodings and random numbers differ."""
        return self._world.sum_(vectors if self._world.first else torch.zeros_like(vectors))

    def _usage(self, codebook: Codebook) -> Tensor:
        even = codebook.counts.sum() / codebook.num_codes
        return (codebook.counts >= max(self._config.revive_below, USED_ABOVE) * even).float().mean()


class AutoencoderTask:
    """Trains the autoencoder; one step is a pure function of the state, the step number and the seed."""

    def __init__(self, images: Images, num: int, config: FitConfig, *, world: World) -> None:
        """Take the images of a set and their number."""
        self.num_steps = config.autoencoder.num_steps
        self._images, self._config, self._world = images, config, world
        self._share = world.share(config.autoencoder.batch_size)
        self._order = Order(num, config.autoencoder.batch_size, config.seed)
        torch.manual_seed(config.seed)
        self.model = Autoencoder(images.channels, config).to(world.device).to(memory_format=torch.channels_last)
        if not config.data_start:
            for codebook in (self.model.top, self.model.bottom):
                codebook.start(codebook.weight.clone(), codebook.num_codes)
        self._pass = world.wrap(TrainingPass(self.model, config, world))
        self._optimizer = torch.optim.Adam(self.model.parameters(), lr=config.autoencoder.learning_rate)

    def step(self, step: int) -> Mapping[str, float | Tensor]:
        """Do one update.

        Returns:
            loss; mse, of images in -1..1; commit_*, commitment losses; perplexity_*, of the codes' moving counts;
            usage_*, share of codes with at least `revive_below` of an even use; revived, codes moved in this step; lr.
        """
        rate = self._config.autoencoder.rate(step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        reviving = self._config.revive_below > 0 and step % REVIVE_EVERY == REVIVE_EVERY - 1
        loss, numbers = self._pass(self._batch(step), reviving)
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM)
        self._optimizer.step()
        return {**numbers, "lr": rate}

    def _batch(self, step: int) -> Tensor:
        ids = np.concatenate([part for _, part in self._order.batch(step)])[self._share]
        return to_input(self._images.batch(ids), self._world.device)

    def state_dict(self) -> dict[str, Any]:
        """Return everything a later step depends on."""
        return {"model": self.model.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state of `state_dict` back."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])


def to_input(images: np.ndarray, device: torch.device) -> Tensor:
    """Return images [N, H, W, C] uint8 as the network's input, [N, C, H, W] float32 in -1..1."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    # The permuted array is already channels last.
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def to_pixels(output: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Round the network's output [N, C, H, W] to [N, H, W, C] uint8; say which images, [N], were finite."""
    finite = torch.isfinite(output).flatten(1).all(dim=1)
    scaled = torch.nan_to_num(output, nan=0.0, posinf=1.0, neginf=-1.0).add(1).mul(127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy(), finite.cpu().numpy()
