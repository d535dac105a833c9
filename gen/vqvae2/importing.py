"""Autoencoders of rosinality/vq-vae-2-pytorch (class `VQVAE`) as ours. Its images are in -1..1 as well.

Until its commit ef5f67c (January 2021, its issue 60) a residual block began with an in-place ReLU, so that it added to
its activated input. No tensor tells; `FitConfig.add_to_activated` does. Its published stage-1 checkpoint is older than
that (its issue 55, December 2020).
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from caskit.gen.autoregressive.codebook import Codebook
from caskit.gen.autoregressive.residual import Residual
from caskit.gen.foreign import Ledger
from caskit.gen.vqvae2.config import FitConfig
from caskit.gen.vqvae2.network import Autoencoder
from caskit.manifests.errors import InputError

MODULES = {  # ours: theirs
    "encode_bottom": "enc_b.blocks",
    "encode_top": "enc_t.blocks",
    "project_top": "quantize_conv_t",
    "decode_top": "dec_t.blocks",
    "project_bottom": "quantize_conv_b",
    "upsample_top": "upsample_t",
    "decode_image": "dec.blocks",
}
CODEBOOKS = {"top": "quantize_t", "bottom": "quantize_b"}


def inferred_fields(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the fields of a FitConfig, and `channels_of_images`, that the shapes of their state dict tell.

    What cannot be read is left out; the tensors it stands in are then missing ones.
    """
    found: dict[str, int] = {}

    def shape(field: str, key: str, axis: int) -> None:
        if key in tensors and tensors[key].dim() > axis:
            found[field] = tensors[key].shape[axis]

    shape("channels_of_images", "enc_b.blocks.0.weight", 1)
    shape("channels", "quantize_conv_t.weight", 1)
    shape("code_size", "quantize_t.embed", 0)
    shape("num_codes", "quantize_t.embed", 1)
    shape("num_bottom_codes", "quantize_b.embed", 1)
    blocks = sorted(
        int(key.split(".")[2]) for key in tensors if key.startswith("enc_b.blocks.") and key.endswith(".conv.1.weight")
    )
    if blocks:
        shape("residual_channels", f"enc_b.blocks.{blocks[0]}.conv.1.weight", 0)
    found["residual_blocks"] = len(blocks)
    if "enc_b.blocks.2.weight" in tensors:  # a second strided convolution, or the last one, with a kernel of 3
        found["bottom_stride"] = 4 if tensors["enc_b.blocks.2.weight"].shape[-1] == 4 else 2
    return found


def check_fits(tensors: Mapping[str, Tensor], config: FitConfig, channels: int, name: str) -> None:
    """Raise InputError, naming the fields, unless the shapes are those of a config and of images with `channels`."""
    found = inferred_fields(tensors)
    expected = {**dataclasses.asdict(config), "channels_of_images": channels}
    for fields in (found, expected):  # 0 says the same as the number itself
        if fields.get("num_bottom_codes") == fields.get("num_codes"):
            fields["num_bottom_codes"] = 0
    wrong = [
        f"{field} is {expected[field]}, the file's is {value}"
        for field, value in found.items()
        if value != expected[field]
    ]
    if wrong:
        raise InputError(f"{name}: does not fit preset {config.preset}: {'; '.join(wrong)}; set them with --set")


def load_autoencoder(
    tensors: Mapping[str, Tensor], config: FitConfig, *, channels: int, name: str = "state dict"
) -> Autoencoder:
    """Build our autoencoder with the weights of theirs, codebooks and their moving averages included.

    Args:
        tensors: the state dict of a `VQVAE`.
        config: of which only the architecture is read.
        channels: of the images.
        name: of the state dict in errors.

    Raises:
        InputError: it does not fit the config, or keys are missing, unknown or of another shape: all of them in one
            message, and nothing is loaded.
    """
    check_fits(tensors, config, channels, name)
    model, ledger = Autoencoder(channels, config), Ledger(tensors, name)
    state: dict[str, Any] = {}
    for ours, theirs in MODULES.items():
        for our_key, their_key in _pairs(getattr(model, ours), ours, theirs):
            state[our_key] = ledger.take(their_key, *model.get_parameter(our_key).shape)
    for ours, theirs in CODEBOOKS.items():
        codebook: Codebook = getattr(model, ours)
        size, num = codebook.size, codebook.num_codes
        state[f"{ours}.weight"] = ledger.take(f"{theirs}.embed", size, num).t().contiguous()
        state[f"{ours}.sums"] = ledger.take(f"{theirs}.embed_avg", size, num).t().contiguous()
        state[f"{ours}.counts"] = ledger.take(f"{theirs}.cluster_size", num)
        state[f"{ours}.started"] = codebook.started.new_ones(())
    ledger.close()
    model.load_state_dict(state)
    return model.eval()


def _pairs(module: nn.Module, ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    """Yield our key and theirs of every parameter of a stack."""
    if isinstance(module, nn.Sequential):
        for number, part in enumerate(module):
            yield from _pairs(part, f"{ours}.{number}", f"{theirs}.{number}")
    elif isinstance(module, Residual):
        for our_part, their_part in (("conv_0", "conv.1"), ("conv_1", "conv.3")):
            yield from _pairs(getattr(module, our_part), f"{ours}.{our_part}", f"{theirs}.{their_part}")
    else:
        for name, _ in module.named_parameters():
            yield f"{ours}.{name}", f"{theirs}.{name}"


class ImportedAutoencoder:
    """Stands where the first stage of a fit trains: one step that changes nothing, so that the stage is on record."""

    def __init__(self, model: Autoencoder, device: torch.device) -> None:
        """Take the autoencoder and where to use it."""
        self.num_steps = 1
        self.model = model.to(device).to(memory_format=torch.channels_last)

    def step(self, step: int) -> Mapping[str, float | Tensor]:
        """Do nothing; returns the share of codes in use when its training ended, per level."""
        return {f"usage_{level}": (getattr(self.model, level).counts > 0.01).float().mean() for level in CODEBOOKS}

    def state_dict(self) -> dict[str, Any]:
        """Return the weights."""
        return {"model": self.model.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state of `state_dict` back."""
        self.model.load_state_dict(state["model"])
