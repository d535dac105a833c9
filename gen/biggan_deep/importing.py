"""Weights of huggingface/pytorch-pretrained-BigGAN (`pytorch_model.bin` of BigGAN-deep-128, -256, -512) as ours.

Its `from_pretrained` loads with `strict=False`, which hides what does not fit; here every key is accounted for.
Spectral norms are folded once with the stored vectors, as torch's `spectral_norm` does it in evaluation (Miyato et al.
2018): a weight over `u W v`. Of the last convolution's outputs the first three are the image, the rest are never used.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from caskit.gen.biggan_deep.config import NetworkConfig
from caskit.gen.biggan_deep.network import Generator
from caskit.gen.foreign import Ledger
from caskit.manifests.errors import InputError

CHANNELS = 3
NUM_CLASSES = 1000
NUM_STATISTICS = 51
PUBLISHED = {  # presets, and the multipliers of their layers
    "imagenet-128": (16, 16, 8, 4, 2, 1),
    "imagenet-256": (16, 16, 8, 8, 4, 2, 1),
    "imagenet-512": (16, 16, 8, 8, 4, 2, 1, 1),
}
ATTENTION = {"query": "theta", "key": "phi", "value": "g", "out": "o_conv"}  # ours: theirs, after snconv1x1_
_BLOCK = re.compile(r"generator\.layers\.(\d{1,3})\.conv_0\.weight_orig")
_ATTENTION = re.compile(r"generator\.layers\.(\d{1,3})\.gamma")


def published_network(preset: str) -> NetworkConfig:
    """Return the layers of a preset of published weights. Raises InputError for another one."""
    if preset not in PUBLISHED:
        raise InputError(f"weights were published for {', '.join(PUBLISHED)}, not for {preset!r}")
    return NetworkConfig(multipliers=PUBLISHED[preset])


def inferred_fields(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the fields of a NetworkConfig, `num_classes` and `num_statistics` that the shapes of a state dict tell.

    What cannot be read is left out; the tensors it stands in are then missing ones.
    """
    found: dict[str, Any] = {}

    def side(key: str, axis: int) -> int | None:
        tensor = tensors.get(key)
        return tensor.shape[axis] if tensor is not None and tensor.dim() > axis else None

    fields = {
        "width": side("generator.conv_to_rgb.weight_orig", 0),
        "num_classes": side("embeddings.weight", 1),
        "embedding_size": side("embeddings.weight", 0),
        "num_statistics": side("generator.bn.running_means", 0),
    }
    found |= {field: value for field, value in fields.items() if value is not None}
    condition, embedding = side("generator.gen_z.weight_orig", 1), fields["embedding_size"]
    if condition is not None and embedding is not None:
        found["latent_size"] = condition - embedding
    slots = sorted(int(match[1]) for key in tensors if (match := _BLOCK.fullmatch(key)))
    attention = [int(match[1]) for key in tensors if (match := _ATTENTION.fullmatch(key))]
    if len(attention) == 1 and attention[0] % 2 == 0:
        found["attention_after"] = attention[0] // 2
    inputs = [side(f"generator.layers.{slot}.conv_0.weight_orig", 1) for slot in slots[::2]]
    last = [side(f"generator.layers.{slot}.conv_3.weight_orig", 0) for slot in slots[-1:]]
    channels = [*inputs, *last]
    if found.get("width") and channels and all(channels):
        found["multipliers"] = tuple(count / found["width"] for count in channels if count is not None)
    return found


def check_fits(tensors: Mapping[str, Tensor], config: NetworkConfig, *, num_classes: int, name: str) -> None:
    """Raise InputError, naming what differs, unless the shapes of a state dict are those of a network."""
    expected = {**dataclasses.asdict(config), "num_classes": num_classes, "num_statistics": NUM_STATISTICS}
    found = inferred_fields(tensors)
    wrong = [
        f"{field} must be {_text(expected[field])}, the file's is {_text(value)}"
        for field, value in found.items()
        if value != expected[field]
    ]
    if wrong:
        known = [preset for preset, multipliers in PUBLISHED.items() if found.get("multipliers") == multipliers]
        hint = f"; its layers are those of {known[0]}" if known and config.multipliers != PUBLISHED[known[0]] else ""
        raise InputError(f"{name}: not the network that was asked for: {'; '.join(wrong)}{hint}")


def _text(value: Any) -> str:
    return " ".join(f"{part:g}" for part in value) if isinstance(value, tuple) else str(value)


def import_generator(
    tensors: dict[str, Tensor], config: NetworkConfig, *, num_classes: int = NUM_CLASSES, name: str = "state dict"
) -> dict[str, Tensor]:
    """Return the tensors of our `Generator`, norms with their table, from theirs.

    Args:
        tensors: the state dict of their `BigGAN`. It is emptied on the way: 56 million parameters need not be twice in
            memory.
        config: what it must hold.
        num_classes: labels that it must know.
        name: of the state dict in errors.

    Raises:
        InputError: it is of another network, or keys are missing, unknown or of another shape: all of them in one
            message, and nothing is loaded.
    """
    check_fits(tensors, config, num_classes=num_classes, name=name)
    ledger = Ledger(tensors, name)
    tensors.clear()
    with torch.device("meta"):
        model = Generator(config, num_classes=num_classes, channels=CHANNELS, num_statistics=NUM_STATISTICS)
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    state: dict[str, Tensor] = {}
    for ours, theirs in _modules(config):
        for key in [f"{ours}.weight", f"{ours}.bias"]:
            if key not in shapes:
                continue
            shape = shapes[key]
            if ours == "image":  # theirs has `width` outputs
                shape = (config.width, *shape[1:])
            their_key = f"{theirs}.{key.rpartition('.')[2]}"
            state[key] = _folded(ledger, their_key, shape) if key.endswith("weight") else ledger.take(their_key, *shape)
            if ours == "image":
                state[key] = state[key][:CHANNELS].clone()
    for ours, theirs in _norms(config):
        for key, their_key in (("means", "running_means"), ("variances", "running_vars")):
            state[f"{ours}.{key}"] = ledger.take(f"{theirs}.{their_key}", *shapes[f"{ours}.{key}"])
        if (state[f"{ours}.variances"] < 0).any():
            ledger.note(f"{theirs}.running_vars negative")
    num, size = shapes["embedding.weight"]
    state["embedding.weight"] = ledger.take("embeddings.weight", size, num).t().contiguous()
    state["gain"] = ledger.take("generator.bn.weight", *shapes["gain"])
    state["offset"] = ledger.take("generator.bn.bias", *shapes["offset"])
    if config.attention_after:
        slot = 2 * config.attention_after
        state["attention.gamma"] = ledger.take(f"generator.layers.{slot}.gamma", 1).reshape(())
    ledger.close()
    assert set(state) == set(shapes), f"{set(state) ^ set(shapes)} left out"
    return state


def _folded(ledger: Ledger, key: str, shape: tuple[int, ...]) -> Tensor:
    """Take a weight and the two vectors of its spectral norm, and return it over its norm."""
    weight = ledger.take(f"{key}_orig", *shape)
    left, right = ledger.take(f"{key}_u", shape[0]), ledger.take(f"{key}_v", weight[0].numel())
    norm = torch.dot(left, torch.mv(weight.flatten(1), right))  # may be negative before any power iteration
    folded = weight / norm
    if all(ledger.has(f"{key}_{part}") for part in ("orig", "u", "v")) and not folded.isfinite().all():
        ledger.note(f"{key} over its spectral norm of {float(norm):g}")
    return folded


def _slots(config: NetworkConfig) -> list[int]:
    """Return at which place of their list of layers each block stands: the attention takes one of its own."""
    attention = 2 * config.attention_after
    return [number + (0 < attention <= number) for number in range(len(config.blocks))]


def _modules(config: NetworkConfig) -> Iterator[tuple[str, str]]:
    """Yield our name and theirs of every layer with a spectral norm."""
    yield "first", "generator.gen_z"
    for number, slot in enumerate(_slots(config)):
        for part in range(4):
            yield f"blocks.{number}.convolutions.{part}", f"generator.layers.{slot}.conv_{part}"
            for projection in ("scale", "offset"):
                yield f"blocks.{number}.norms.{part}.{projection}", f"generator.layers.{slot}.bn_{part}.{projection}"
    if config.attention_after:
        for ours, theirs in ATTENTION.items():
            yield f"attention.{ours}", f"generator.layers.{2 * config.attention_after}.snconv1x1_{theirs}"
    yield "image", "generator.conv_to_rgb"


def _norms(config: NetworkConfig) -> Iterator[tuple[str, str]]:
    """Yield our name and theirs of every table of statistics."""
    for number, slot in enumerate(_slots(config)):
        for part in range(4):
            yield f"blocks.{number}.norms.{part}.norm", f"generator.layers.{slot}.bn_{part}"
    yield "norm", "generator.bn"
