"""A checkpoint's network: its tensors under the names of `Generator`, its layers in `network` of the config."""

from collections.abc import Mapping
from typing import Any

from caskit.gen.adversarial.weights import read_generator
from caskit.gen.biggan_deep.config import NetworkConfig
from caskit.gen.biggan_deep.network import Generator
from caskit.gen.biggan_deep.statistics import num_statistics, statistics_of
from caskit.gen.checkpoint import Checkpoint
from caskit.manifests.errors import InputError


def network_of(config: Mapping[str, Any]) -> NetworkConfig:
    """Return the layers that a checkpoint's config states. Raises InputError for one of another form."""
    try:
        return NetworkConfig(**config["network"])
    except (KeyError, TypeError) as error:
        raise InputError(f"config: network is not that of this family ({error})") from error


def load_network(checkpoint: Checkpoint) -> tuple[Generator, Mapping[str, Any]]:
    """Build the generator of a checkpoint, in evaluation and on the CPU, and say what its statistics are.

    Raises:
        InputError: the config or the tensors are not those of this family.
    """
    record = checkpoint.record
    try:
        statistics, config = statistics_of(record["config"]), network_of(record["config"])
    except InputError as error:
        raise InputError(f"{checkpoint.path}: {error}") from error

    def build() -> Generator:
        return Generator(
            config,
            num_classes=len(checkpoint.classes),
            channels=record["channels"],
            num_statistics=num_statistics(statistics),
        )

    return read_generator(checkpoint, build, config.image_size), statistics
