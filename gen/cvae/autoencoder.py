"""The first stage of a fit: encoder and decoder on the variational bound, as a task of the shared engine."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caskit.gen.cvae.config import FitConfig
from caskit.gen.cvae.network import Decoder, Encoder
from caskit.train.order import Order

WARMUP_FRACTION = 0.1
GRADIENT_NORM = 200.0  # of a loss in nats per image
NOISE_FLOOR = 1e-5  # keeps the learned noise variance away from zero
ENCODE_BATCH = 500


class AutoencoderTask:
    """Trains encoder and decoder; one step is a pure function of the weights, the step number and the seed."""

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        num_classes: int,
        config: FitConfig,
        *,
        device: torch.device,
    ) -> None:
        """Take uint8 images [N, H, W, C] and labels [N]."""
        self.num_steps = config.num_steps
        self._config = config
        self._images = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(device)
        self._labels = torch.from_numpy(labels.astype(np.int64)).to(device)
        self._order = Order(len(labels), config.batch_size, config.seed)
        _, height, width, channels = images.shape
        torch.manual_seed(config.seed)
        self.encoder = (
            Encoder(
                height=height,
                width=width,
                channels=channels,
                num_classes=num_classes,
                latent_size=config.latent_size,
                width_base=config.encoder_width,
            )
            .to(device)
            .to(memory_format=torch.channels_last)
        )
        self.decoder = (
            Decoder(
                height=height,
                width=width,
                channels=channels,
                num_classes=num_classes,
                latent_size=config.latent_size,
                label_size=config.label_size,
                widths=config.decoder_widths,
            )
            .to(device)
            .to(memory_format=torch.channels_last)
        )
        self._parameters = [*self.encoder.parameters(), *self.decoder.parameters()]
        self._optimizer = torch.optim.Adam(self._parameters, lr=config.learning_rate, betas=(0.9, 0.99))

    def step(self, step: int) -> Mapping[str, float | Tensor]:
        """Do one optimizer step; returns losses and KL (nats per image), mean squared error and learning rate."""
        images, labels = self._batch(step)
        rate = learning_rate(step, num_steps=self.num_steps, peak=self._config.learning_rate)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        mean, log_variance = self.encoder(images, labels)
        latents = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        decoded, log_deviation = self.decoder(latents, labels)
        error = decoded - images
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()
        bound = reconstruction_nats(error) + self._config.beta * divergence
        noise = noise_nats(error.detach(), log_deviation)
        self._optimizer.zero_grad()
        (bound + noise).backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, GRADIENT_NORM)
        self._optimizer.step()
        return {
            "loss": bound.detach(),
            "noise": noise.detach(),
            "mse": error.detach().square().mean(),
            "kl": divergence.detach(),
            "lr": rate,
        }

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return images [N, C, H, W] in 0..1 and labels [N] of a step."""
        ids = np.concatenate([part for _, part in self._order.batch(step)])
        chosen = torch.from_numpy(ids).to(self._labels.device)
        images = self._images[chosen].float().div_(255)
        if self._config.flip:
            mirrored = torch.rand(len(ids)) < 0.5
            images[mirrored] = images[mirrored].flip(-1)
        return images.contiguous(memory_format=torch.channels_last), self._labels[chosen]

    @torch.no_grad()
    def encode(self) -> tuple[Tensor, Tensor]:
        """Encode all images; posterior means and variances, [N, latent_size] float64 each."""
        self.encoder.eval()
        means, variances = [], []
        for start in range(0, len(self._labels), ENCODE_BATCH):
            images = self._images[start : start + ENCODE_BATCH].float().div_(255)
            mean, log_variance = self.encoder(
                images.contiguous(memory_format=torch.channels_last),
                self._labels[start : start + ENCODE_BATCH],
            )
            means.append(mean.double().cpu())
            variances.append(log_variance.double().exp().cpu())
        self.encoder.train()
        return torch.cat(means), torch.cat(variances)

    def state_dict(self) -> dict[str, Any]:
        """Return everything a later step depends on."""
        return {
            "encoder": self.encoder.state_dict(),
            "decoder": self.decoder.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state of `state_dict` back."""
        self.encoder.load_state_dict(state["encoder"])
        self.decoder.load_state_dict(state["decoder"])
        self._optimizer.load_state_dict(state["optimizer"])


def reconstruction_nats(error: Tensor) -> Tensor:
    """Return minus the log-likelihood per image, up to a constant, under normal noise of the best shared variance.

    With the variance at its optimum, the mean squared error, the likelihood is -D/2 log MSE (Rybkin et al. 2021,
    section 4, "optimal sigma-VAE"): the balance against the KL needs no tuning, and reconstructions come out sharp.

    Args:
        error: [N, C, H, W].
    """
    return 0.5 * error[0].numel() * torch.log(error.square().mean() + NOISE_FLOOR)


def noise_nats(error: Tensor, log_deviation: Tensor) -> Tensor:
    """Return minus the log-likelihood per image of errors [N, C, H, W] under normal noise, up to a constant."""
    squares = error.square() * (-2 * log_deviation).exp()
    return (log_deviation + 0.5 * squares).flatten(1).sum(dim=1).mean()


def learning_rate(step: int, *, num_steps: int, peak: float) -> float:
    """Return the rate of a step: a linear warm-up over a tenth of the steps, then half a cosine down to zero."""
    warmup = max(1, round(WARMUP_FRACTION * num_steps))
    if step < warmup:
        return peak * (step + 1) / warmup
    return 0.5 * peak * (1 + math.cos(math.pi * (step - warmup) / max(1, num_steps - warmup)))
