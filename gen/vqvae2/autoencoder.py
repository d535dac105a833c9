"""The first stage of a fit: the autoencoder and its codebooks, as a task of the shared engine."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from caskit.gen.autoregressive.codebook import perplexity, quantise, revives, usage
from caskit.gen.autoregressive.images import to_input
from caskit.gen.autoregressive.variants import VariantImages
from caskit.gen.vqvae2.config import FitConfig
from caskit.gen.vqvae2.network import Autoencoder
from caskit.train.distributed import World
from caskit.train.images import Images
from caskit.train.order import Order
from caskit.train.precision import autocast

GRADIENT_NORM = 1.0
CLASSIFIER_HIDDEN = 128


def label_classifier(height: int, width: int, code_size: int, num_classes: int) -> nn.Module:
    """Return the classifier of `label_loss`, which reads quantised vectors, [N, D, h, w], and gives logits, [N, K].

    Each vector is normalised first: otherwise the loss falls by making one direction of all vectors long, and many
    codes become near copies on that line (docs/LOG.md).
    """
    return nn.Sequential(
        VectorNorm(code_size),
        nn.Flatten(),
        nn.Linear(height * width * code_size, CLASSIFIER_HIDDEN),
        nn.ReLU(),
        nn.Linear(CLASSIFIER_HIDDEN, num_classes),
    )


class VectorNorm(nn.LayerNorm):
    """Layer normalisation of each position's vector, [N, D, h, w], without weights."""

    def __init__(self, code_size: int) -> None:
        super().__init__(code_size, elementwise_affine=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return vectors of mean 0 and variance 1."""
        return super().forward(vectors.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class TrainingPass(nn.Module):
    """One forward pass of training, which also moves the codebooks: one module, so that gradients can be averaged."""

    def __init__(self, model: Autoencoder, classifier: nn.Module | None, config: FitConfig, world: World) -> None:
        super().__init__()
        self.model, self.classifier, self._config, self._world = model, classifier, config, world

    def forward(self, images: Tensor, labels: Tensor, reviving: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and the numbers to log.

        Args:
            images: [N, C, H, W].
            labels: [N], read by the classifier alone.
            reviving: move codes that are not used.
        """
        model = self.model
        with autocast(images.device, self._config.precision):
            features = model.encode_bottom(images)
            vectors = model.top_vectors(features)
        top, commit_top, revived_top = quantise(model.top, vectors, reviving, self._world)
        with autocast(images.device, self._config.precision):
            vectors = model.bottom_vectors(features, top)
        bottom, commit_bottom, revived_bottom = quantise(model.bottom, vectors, reviving, self._world)
        with autocast(images.device, self._config.precision):
            decoded = model.decode(top, bottom)
        mse = functional.mse_loss(decoded.float(), images)
        loss = mse + self._config.commitment * (commit_top + commit_bottom)
        named = {}
        if self.classifier is not None:
            logits = self.classifier(top)
            cross_entropy = functional.cross_entropy(logits, labels)
            loss = loss + self._config.label_loss * cross_entropy
            named = {"label": cross_entropy.detach(), "label_right": (logits.argmax(1) == labels).float().mean()}
        return loss, {
            "loss": loss.detach(),
            "mse": mse.detach(),
            **named,
            "commit_top": commit_top.detach(),
            "commit_bottom": commit_bottom.detach(),
            "perplexity_top": perplexity(model.top.counts),
            "perplexity_bottom": perplexity(model.bottom.counts),
            "usage_top": usage(model.top),
            "usage_bottom": usage(model.bottom),
            "revived": revived_top + revived_bottom,
        }


class AutoencoderTask:
    """Trains the autoencoder; one step is a pure function of the state, the step number and the seed."""

    def __init__(
        self, images: Images, labels: np.ndarray, num_classes: int, config: FitConfig, *, world: World
    ) -> None:
        """Take the images of a set and the label of each, [n] below `num_classes`.

        Mirror images are for the classifier of `label_loss` alone: without it nothing here overfits.
        """
        mirrored = config.mirrored and config.label_loss > 0
        self.num_steps = config.autoencoder.num_steps
        self._images = VariantImages(images, len(labels), mirrored=mirrored, shifts=0)
        self._labels, self._config, self._world = np.tile(labels, 2 if mirrored else 1), config, world
        self._share = world.share(config.autoencoder.batch_size)
        self._order = Order(len(self._images), config.autoencoder.batch_size, config.seed)
        torch.manual_seed(config.seed)
        self.model = Autoencoder(images.channels, config).to(world.device).to(memory_format=torch.channels_last)
        if not config.data_start:
            for codebook in (self.model.top, self.model.bottom):
                codebook.start(codebook.weight.clone(), codebook.num_codes)
        self._classifier: nn.Module | None = None  # helps while training, and is no part of what is fitted
        if config.label_loss:
            height, width = images.height // config.stride, images.width // config.stride
            self._classifier = label_classifier(height, width, config.code_size, num_classes).to(world.device)
        self._pass = world.wrap(TrainingPass(self.model, self._classifier, config, world))
        self._parameters = [*self.model.parameters(), *(self._classifier.parameters() if self._classifier else ())]
        self._optimizer = torch.optim.Adam(self._parameters, lr=config.autoencoder.learning_rate)

    def step(self, step: int) -> Mapping[str, float | Tensor]:
        """Do one update.

        Returns:
            loss; mse, of images in -1..1; with `label_loss` label, the cross entropy of the classifier, and
            label_right, the share of images it names right; commit_*, commitment losses; perplexity_*, of the codes'
            moving counts; usage_*, share of codes with at least `revive_below` of an even use; revived, codes moved in
            this step; lr.
        """
        rate = self._config.autoencoder.rate(step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        reviving = revives(step, self._config.revive_below)
        loss, numbers = self._pass(*self._batch(step), reviving)
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, GRADIENT_NORM)
        self._optimizer.step()
        return {**numbers, "lr": rate}

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        ids = np.concatenate([part for _, part in self._order.batch(step)])[self._share]
        labels = torch.from_numpy(self._labels[ids]).to(self._world.device)
        return to_input(self._images.batch(ids), self._world.device), labels

    def state_dict(self) -> dict[str, Any]:
        """Return everything a later step depends on."""
        classifier = {} if self._classifier is None else {"classifier": self._classifier.state_dict()}
        return {"model": self.model.state_dict(), **classifier, "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state of `state_dict` back."""
        self.model.load_state_dict(state["model"])
        if self._classifier is not None:
            self._classifier.load_state_dict(state["classifier"])
        self._optimizer.load_state_dict(state["optimizer"])
