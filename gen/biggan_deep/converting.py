"""A published file of weights as a checkpoint."""

from pathlib import Path

from caskit.gen.biggan_deep.importing import CHANNELS, NUM_STATISTICS, import_generator, published_network
from caskit.gen.biggan_deep.statistics import TABLE
from caskit.gen.checkpoint import Checkpoint, save_checkpoint
from caskit.gen.foreign import read_state_dict
from caskit.shards.sources.imagenet import imagenet_classes

FORMAT = "pytorch-pretrained-biggan"


def convert(path: Path, preset: str, out: Path, *, sha256: str) -> Checkpoint:
    """Write the checkpoint of a preset from a `pytorch_model.bin` of pytorch-pretrained-biggan. No code in it runs.

    Args:
        path: the file.
        preset: one of `importing.PUBLISHED`.
        out: folder of the checkpoint.
        sha256: the file's digest, for the record.

    Raises:
        InputError: the file is damaged, holds another network, or asks for code; nothing is written.
    """
    network = published_network(preset)
    classes = imagenet_classes()
    tensors = import_generator(read_state_dict(path), network, num_classes=len(classes), name=path.name)
    config = {
        "preset": preset,
        "network": network.to_json(),
        "statistics": {"kind": TABLE, "num": NUM_STATISTICS},
        "imported": {"format": FORMAT, "sha256": sha256},
    }
    return save_checkpoint(
        out,
        family="biggan_deep",
        preset=preset,
        config=config,
        classes=classes,
        height=network.image_size,
        width=network.image_size,
        channels=CHANNELS,
        tensors=tensors,
    )
