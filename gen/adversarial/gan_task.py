"""The training of generator and discriminator, as a task of the shared engine."""

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from caskit.gen.adversarial.collapse import (
    GOOD_NAME,
    Collapsed,
    Verdict,
    Watch,
    draw_looked_at,
    looked_at,
    variance_within,
)
from caskit.gen.adversarial.config import GanConfig
from caskit.gen.adversarial.generator import GeneratorNetwork
from caskit.gen.adversarial.losses import discriminator_loss, generator_loss, saturation
from caskit.gen.adversarial.orthogonal import add_gradients
from caskit.gen.adversarial.spectral import folded, iterate
from caskit.gen.adversarial.standing import norms
from caskit.manifests.errors import InputError, RunFailed
from caskit.train.augment import Augmenter
from caskit.train.distributed import World
from caskit.train.ema import Ema
from caskit.train.folder import write_atomic
from caskit.train.images import Images
from caskit.train.moments import RankMoments
from caskit.train.order import Order
from caskit.train.precision import autocast

LOOK_ITERATIONS = 20  # of the average's spectral norms, when its samples are looked at


class GanTask:
    """Some updates of the discriminator, then one of the generator, per step.

    A step is a pure function of the state, the step number and the seed: real images come by `Order`, noise from
    torch's generator, which the engine seeds before each step. Labels of samples are drawn evenly from all classes.

    The average of the generator's weights is that of the raw ones, before they are divided by their spectral norms; u
    and v are copied from the generator, and iterated on where the average is used (spectral.folded).
    """

    def __init__(
        self,
        images: Images,
        labels: np.ndarray,
        num_classes: int,
        config: GanConfig,
        *,
        folder: Path,
        world: World,
    ) -> None:
        """Take the data and draw the weights.

        Args:
            images: real images.
            labels: [N] int64.
            num_classes: labels there are.
            config: the fit.
            folder: where the last good generator is kept.
            world: the processes among which a batch is divided.
        """
        self.num_steps = config.num_steps
        self._images, self._labels, self._num_classes, self._config = images, labels, num_classes, config
        self._folder, self._world, self._device = folder, world, world.device
        share = world.share(config.batch_size)
        if (share.stop - share.start) % config.accumulation:
            raise InputError(
                f"accumulation is {config.accumulation}, must divide the {share.stop - share.start} images of a process"
            )
        self._part = (share.stop - share.start) // config.accumulation
        self._share = share
        self._order = Order(len(labels), config.batch_size, config.seed)
        flip = "random" if config.mirrored else "none"
        self._augmenter = Augmenter(len(labels), config.seed, flip=flip, shift=0)
        self.generator, self.discriminator = self._networks(images.channels)
        self.average = Ema(self.generator, config.ema_decay)
        for norm in norms(self.generator).values():
            norm.moments = RankMoments(world)
        self._optimizers = {
            "generator": self._adam(self.generator, config.generator_rate),
            "discriminator": self._adam(self.discriminator, config.discriminator_rate),
        }
        self.watch = Watch()
        self._look_ids = looked_at(labels, config.collapse)
        self._data_variance: float | None = None

    def _networks(self, channels: int) -> tuple[GeneratorNetwork, nn.Module]:
        torch.manual_seed(self._config.seed)
        generator, discriminator = self._config.build(num_classes=self._num_classes, channels=channels)
        self._config.prepare(generator, discriminator)
        for network in (generator, discriminator):
            network.to(self._device).to(memory_format=torch.channels_last)
        return generator, discriminator

    def _adam(self, network: nn.Module, rate: float) -> torch.optim.Adam:
        return torch.optim.Adam(network.parameters(), lr=rate, betas=self._config.betas, eps=self._config.adam_epsilon)

    def step(self, step: int) -> Mapping[str, float | Tensor]:
        """Do one update of the generator, and those of the discriminator before it.

        Returns:
            Both losses, mean scores of real and generated images, the averages of `Watch`, gradient norms, the factor
            of the rates.

        Raises:
            Collapsed: on all ranks alike, see collapse.py.
        """
        config = self._config
        factor = config.rate_factor(step)
        rates = {"generator": config.generator_rate, "discriminator": config.discriminator_rate}
        for name, optimizer in self._optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = factor * rates[name]
        numbers: dict[str, float] = {}
        for place in range(config.discriminator_steps):
            numbers = self._update_discriminator(step * config.discriminator_steps + place)
        numbers |= self._update_generator()
        if step < config.ema_start:
            self.average.model.load_state_dict(self.generator.state_dict())
        else:
            self.average.update(self.generator)
        score = numbers.pop("score")
        self.watch.average(numbers.pop("saturated"), score, config.collapse.window)
        self._judge(step + 1, {**numbers, "score": score})
        watched = {"saturation": self.watch.saturation, "score": self.watch.score, "diversity": self.watch.diversity}
        return {**numbers, **watched, "rate": factor}

    def _update_discriminator(self, number: int) -> dict[str, float]:
        """Do update `number` of the discriminator; return what is the same on all ranks."""
        real, labels = self._real(number)
        self.discriminator.requires_grad_(True)
        self._optimizers["discriminator"].zero_grad()
        totals = torch.zeros(5, device=self._device)
        for images, classes in zip(torch.split(real, self._part), torch.split(labels, self._part), strict=True):
            latents, drawn = self._noise(len(images))
            with autocast(self._device, self._config.precision):
                with torch.no_grad():
                    fake = self.generator(latents, drawn)
                scores = self.discriminator(torch.cat((images, fake.to(images.dtype))), torch.cat((classes, drawn)))
            of_real, of_fake = scores.chunk(2)
            loss = discriminator_loss(of_real, of_fake)
            (loss / self._config.accumulation).backward()  # type: ignore[no-untyped-call]
            measured = (loss, of_real.mean(), of_fake.mean(), saturation(of_real, of_fake), scores.abs().mean())
            totals += torch.stack([value.detach() for value in measured])
        norm = self._finish("discriminator", self.discriminator)
        names = ("discriminator_loss", "real", "fake", "saturated", "score")
        means = self._over_ranks(totals / self._config.accumulation)
        return dict(zip(names, means, strict=True)) | {"discriminator_gradient": norm}

    def _update_generator(self) -> dict[str, float]:
        self.discriminator.requires_grad_(False)
        self._optimizers["generator"].zero_grad()
        total = torch.zeros(1, device=self._device)
        for _ in range(self._config.accumulation):
            latents, drawn = self._noise(self._part)
            with autocast(self._device, self._config.precision):
                loss = generator_loss(self.discriminator(self.generator(latents, drawn), drawn))
            (loss / self._config.accumulation).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        norm = self._finish("generator", self.generator)
        return {
            "generator_loss": self._over_ranks(total / self._config.accumulation)[0],
            "generator_gradient": norm,
        }

    def _finish(self, name: str, network: nn.Module) -> float:
        """Average gradients over the ranks, regularise the generator, and do the update; return the gradient's norm."""
        parameters = list(network.parameters())
        self._world.average_gradients(parameters)
        if name == "generator":
            add_gradients(network, self._config.orthogonal)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        self._optimizers[name].step()
        # Now, not before the next update: the other network's update and the average already use the new weights.
        iterate(network)
        return norm

    def _over_ranks(self, values: Tensor) -> list[float]:
        means: list[float] = self._world.sum_(values).div_(self._world.size).tolist()
        return means

    def _real(self, number: int) -> tuple[Tensor, Tensor]:
        """Return this rank's share of the real images of an update: [N, C, H, W] in -1..1, and labels [N]."""
        pairs = self._order.batch(number)
        # Whole batches are augmented and then divided: cheap beside a step, and no rank can differ.
        images = np.concatenate([self._augmenter.apply(self._images.batch(ids), epoch, ids) for epoch, ids in pairs])
        labels = np.concatenate([self._labels[ids] for _, ids in pairs])
        return self._input(images[self._share]), torch.from_numpy(labels[self._share]).to(self._device)

    def _input(self, images: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self._device)
        return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)

    def _noise(self, num: int) -> tuple[Tensor, Tensor]:
        latents = torch.randn(num, self.generator.latent_size, device=self._device)
        return latents, torch.randint(self._num_classes, (num,), device=self._device)

    def _judge(self, step: int, numbers: Mapping[str, float]) -> None:
        """Look at samples if it is time; raise Collapsed where training has, on all ranks alike."""
        config = self._config.collapse
        looking = step % config.check_every == 0 or step == self.num_steps
        if looking:
            with self._world.agreed():
                # Rank 0 alone draws, with the moments of its own batches; the verdict has to be one.
                diversity = self._diversity() if self._world.first else 0.0
            self.watch.diversity = float(self._world.sum_(torch.tensor(diversity, dtype=torch.float64)))
        fault = self.watch.fault(config, step, numbers)
        if fault is not None:
            measure, value, allowed = fault
            kept = self.watch.good if self.watch.good >= 0 else None
            raise Collapsed(Verdict(step=step, measure=measure, value=value, allowed=allowed, kept=kept))
        if looking and step >= config.grace:
            with self._world.agreed():
                if self._world.first:
                    self._keep(step)
            self.watch.good = step

    def _diversity(self) -> float:
        """Return the variance of samples within classes over that of the data; not finite for samples that are not."""
        classes = torch.cat([torch.full((len(ids),), label) for label, ids in self._look_ids.items()])
        if self._data_variance is None:
            real = self._input(self._images.batch(np.concatenate(list(self._look_ids.values())))).cpu()
            self._data_variance = variance_within(real, classes)
        average: Any = self.average.model
        drawn = variance_within(draw_looked_at(folded(average, LOOK_ITERATIONS), classes), classes)
        return drawn / max(self._data_variance, 1e-12)

    def _keep(self, step: int) -> None:
        buffer = io.BytesIO()
        torch.save({"step": step, "model": self.average.model.state_dict()}, buffer)
        write_atomic(self._folder / GOOD_NAME, lambda path: _write_bytes(path, buffer.getvalue()))

    def load_good(self, step: int) -> None:
        """Put the last good generator in the place of the average, on the rank that has the folder.

        Raises:
            RunFailed: the file is not there, or of another step.
        """
        path = self._folder / GOOD_NAME
        try:
            record = torch.load(path, map_location="cpu", weights_only=True)
            found = int(record["step"])
            self.average.model.load_state_dict(record["model"])
        except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
            raise RunFailed(f"{path}: cannot be read, the generator of step {step} was to be kept in it") from error
        if found != step:
            raise RunFailed(f"{path}: holds the generator of step {found}, that of step {step} was to be kept in it")

    def _parts(self) -> dict[str, Any]:
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        optimizers = {f"{name}_optimizer": optimizer for name, optimizer in self._optimizers.items()}
        return {**networks, **optimizers, "average": self.average, "watch": self.watch}

    def state_dict(self) -> dict[str, Any]:
        """Return everything a later step depends on."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state of `state_dict` back."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)
