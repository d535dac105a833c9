"""The first stage of a fit: the autoencoder and its codebooks, as a task of the shared engine."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from caskit.gen.vqvae2.codebook import Codebook, perplexity
from caskit.gen.vqvae2.config import FitConfig
from caskit.gen.vqvae2.network import Autoencoder
from caskit.gen.vqvae2.schedule import learning_rate
from caskit.train.images import Images
from caskit.train.order import Order

GRADIENT_NORM = 1.0
REVIVE_EVERY = 10  # steps; a moved code needs some to win encodings


class AutoencoderTask:
    """Trains the autoencoder; one step is a pure function of the state, the step number and the seed."""

    def __init__(self, images: Images, num: int, config: FitConfig, *, device: torch.device) -> None:
        """Take the images of a set and their number."""
        self.num_steps = config.autoencoder.num_steps
        self._images, self._config, self._device = images, config, device
        self._order = Order(num, config.autoencoder.batch_size, config.seed)
        torch.manual_seed(config.seed)
        self.model = Autoencoder(images.channels, config).to(device).to(memory_format=torch.channels_last)
        if not config.data_start:
            for codebook in (self.model.top, self.model.bottom):
                codebook.counts.fill_(1.0)
                codebook.sums.copy_(codebook.weight)
                codebook.started.fill_(True)
        self._optimizer = torch.optim.Adam(self.model.parameters(), lr=config.autoencoder.learning_rate)

    def step(self, step: int) -> Mapping[str, float | Tensor]:
        """Do one update.

        Returns:
            loss; mse, of images in -1..1; commit_*, commitment losses; perplexity_*, of the codes' moving counts;
            usage_*, share of codes with at least `revive_below` of an even use; revived, codes moved in this step.
        """
        images = self._batch(step)
        rate = learning_rate(step, self._config.autoencoder)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        model = self.model
        features = model.encode_bottom(images)
        top, commit_top, revived_top = self._quantise(model.top, model.top_vectors(features), step)
        vectors = model.bottom_vectors(features, top)
        bottom, commit_bottom, revived_bottom = self._quantise(model.bottom, vectors, step)
        mse = functional.mse_loss(model.decode(top, bottom), images)
        loss = mse + self._config.commitment * (commit_top + commit_bottom)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
        self._optimizer.step()
        return {
            "loss": loss.detach(),
            "mse": mse.detach(),
            "commit_top": commit_top.detach(),
            "commit_bottom": commit_bottom.detach(),
            "perplexity_top": perplexity(model.top.counts),
            "perplexity_bottom": perplexity(model.bottom.counts),
            "usage_top": self._usage(model.top),
            "usage_bottom": self._usage(model.bottom),
            "revived": float(revived_top + revived_bottom),
            "lr": rate,
        }

    def _quantise(self, codebook: Codebook, vectors: Tensor, step: int) -> tuple[Tensor, Tensor, int]:
        """Quantise vectors [N, h, w, D] and move the codebook; a map [N, D, h, w], the commitment loss, codes moved."""
        flat = vectors.detach().reshape(-1, codebook.size)
        chosen = torch.randint(len(flat), (codebook.num_codes,))
        if not codebook.started:
            codebook.start(flat, chosen.to(flat.device))
        codes = codebook.nearest(flat)
        quantised = codebook(codes).reshape(vectors.shape)
        codebook.update(flat, codes)
        reviving = self._config.revive_below > 0 and step % REVIVE_EVERY == REVIVE_EVERY - 1
        revived = codebook.revive(flat[chosen.to(flat.device)]) if reviving else 0
        commitment = functional.mse_loss(vectors, quantised)
        straight = vectors + (quantised - vectors).detach()  # the gradient passes as if nothing had been rounded
        return straight.permute(0, 3, 1, 2), commitment, revived

    def _usage(self, codebook: Codebook) -> Tensor:
        even = codebook.counts.sum() / codebook.num_codes
        return (codebook.counts >= max(self._config.revive_below, 0.01) * even).float().mean()

    def _batch(self, step: int) -> Tensor:
        ids = np.concatenate([part for _, part in self._order.batch(step)])
        return to_input(self._images.batch(ids), self._device)

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
