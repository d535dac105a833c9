"""Imported autoencoders compute what rosinality/vq-vae-2-pytorch's do; what does not fit is told in one message.

The reference below is written from that project's semantics with plain functions over its state dict.
"""

import argparse
import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from caskit.gen.autoregressive.images import to_input
from caskit.gen.autoregressive.stage import StageConfig
from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.foreign import read_state_dict
from caskit.gen.vqvae2.config import FitConfig
from caskit.gen.vqvae2.fitting import fit, fit_from_autoencoder
from caskit.gen.vqvae2.importing import load_autoencoder
from caskit.gen.vqvae2.weights import load_networks
from caskit.manifests.errors import InputError

State = dict[str, Tensor]
CPU = torch.device("cpu")
CHANNELS, RESIDUAL, BLOCKS, SIZE, CODES, COLOURS = 12, 5, 2, 6, 16, 3


def random_state(stride: int) -> State:
    """Their state dict with random values: keys and shapes as their class registers them."""
    generator = torch.Generator().manual_seed(0)
    state: State = {}

    def add(key: str, *shape: int, bias: int) -> None:
        fan_in = max(1, torch.Size(shape[1:]).numel())
        state[f"{key}.weight"] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        state[f"{key}.bias"] = torch.randn(bias, generator=generator) * 0.1

    def residuals(prefix: str, first: int) -> int:
        for number in range(first, first + BLOCKS):
            add(f"{prefix}.{number}.conv.1", RESIDUAL, CHANNELS, 3, 3, bias=RESIDUAL)
            add(f"{prefix}.{number}.conv.3", CHANNELS, RESIDUAL, 1, 1, bias=CHANNELS)
        return first + BLOCKS + 1  # a ReLU follows

    def encoder(prefix: str, inputs: int, factor: int) -> None:
        add(f"{prefix}.0", CHANNELS // 2, inputs, 4, 4, bias=CHANNELS // 2)
        if factor == 4:
            add(f"{prefix}.2", CHANNELS, CHANNELS // 2, 4, 4, bias=CHANNELS)
            add(f"{prefix}.4", CHANNELS, CHANNELS, 3, 3, bias=CHANNELS)
        else:
            add(f"{prefix}.2", CHANNELS, CHANNELS // 2, 3, 3, bias=CHANNELS)
        residuals(prefix, 5 if factor == 4 else 3)

    def decoder(prefix: str, inputs: int, outputs: int, factor: int) -> None:
        add(f"{prefix}.0", CHANNELS, inputs, 3, 3, bias=CHANNELS)
        last = residuals(prefix, 1)
        if factor == 4:
            add(f"{prefix}.{last}", CHANNELS, CHANNELS // 2, 4, 4, bias=CHANNELS // 2)
            add(f"{prefix}.{last + 2}", CHANNELS // 2, outputs, 4, 4, bias=outputs)
        else:
            add(f"{prefix}.{last}", CHANNELS, outputs, 4, 4, bias=outputs)

    encoder("enc_b.blocks", COLOURS, stride)
    encoder("enc_t.blocks", CHANNELS, 2)
    add("quantize_conv_t", SIZE, CHANNELS, 1, 1, bias=SIZE)
    decoder("dec_t.blocks", SIZE, SIZE, 2)
    add("quantize_conv_b", SIZE, SIZE + CHANNELS, 1, 1, bias=SIZE)
    add("upsample_t", SIZE, SIZE, 4, 4, bias=SIZE)
    decoder("dec.blocks", 2 * SIZE, COLOURS, stride)
    for level in "tb":
        state[f"quantize_{level}.embed"] = torch.randn(SIZE, CODES, generator=generator)
        state[f"quantize_{level}.cluster_size"] = torch.rand(CODES, generator=generator)
        state[f"quantize_{level}.embed_avg"] = torch.randn(SIZE, CODES, generator=generator)
    return state


class Reference:
    """Their forward pass."""

    def __init__(self, state: State, stride: int, in_place: bool) -> None:
        self.state, self.stride, self.in_place = state, stride, in_place

    def conv(self, key: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        return functional.conv2d(x, self.state[f"{key}.weight"], self.state[f"{key}.bias"], stride, padding)

    def up(self, key: str, x: Tensor) -> Tensor:
        weight, bias = self.state[f"{key}.weight"], self.state[f"{key}.bias"]
        return functional.conv_transpose2d(x, weight, bias, stride=2, padding=1)

    def residuals(self, prefix: str, first: int, x: Tensor) -> Tensor:
        for number in range(first, first + BLOCKS):
            x = x.clone()
            activated = x.relu_() if self.in_place else x.relu()  # in place, x itself is what is added below
            hidden = self.conv(f"{prefix}.{number}.conv.1", activated, padding=1).relu()
            x = self.conv(f"{prefix}.{number}.conv.3", hidden) + x
        return x.relu()

    def encoder(self, prefix: str, x: Tensor, factor: int) -> Tensor:
        x = self.conv(f"{prefix}.0", x, 2, 1).relu()
        if factor == 4:
            x = self.conv(f"{prefix}.2", x, 2, 1).relu()
            return self.residuals(prefix, 5, self.conv(f"{prefix}.4", x, 1, 1))
        return self.residuals(prefix, 3, self.conv(f"{prefix}.2", x, 1, 1))

    def decoder(self, prefix: str, x: Tensor, factor: int) -> Tensor:
        x = self.residuals(prefix, 1, self.conv(f"{prefix}.0", x, 1, 1))
        last = BLOCKS + 2
        return (
            self.up(f"{prefix}.{last + 2}", self.up(f"{prefix}.{last}", x).relu())
            if factor == 4
            else self.up(f"{prefix}.{last}", x)
        )

    def codes(self, level: str, x: Tensor) -> Tensor:
        vectors = self.conv(f"quantize_conv_{level}", x).permute(0, 2, 3, 1)
        distances = (vectors[..., None] - self.state[f"quantize_{level}.embed"]).square().sum(dim=-2)
        return distances.argmin(dim=-1)

    def quantised(self, level: str, codes: Tensor) -> Tensor:
        return self.state[f"quantize_{level}.embed"].t()[codes].permute(0, 3, 1, 2)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder("enc_b.blocks", images, self.stride)
        top = self.codes("t", self.encoder("enc_t.blocks", features, 2))
        decoded = self.decoder("dec_t.blocks", self.quantised("t", top), 2)
        return top, self.codes("b", torch.cat([decoded, features], dim=1))

    def decode(self, top: Tensor, bottom: Tensor) -> Tensor:
        above = self.up("upsample_t", self.quantised("t", top))
        return self.decoder("dec.blocks", torch.cat([above, self.quantised("b", bottom)], dim=1), self.stride)


@pytest.fixture
def foreign_config(tiny_config: Callable[..., FitConfig]) -> Callable[..., FitConfig]:
    sizes = {"channels": CHANNELS, "residual_channels": RESIDUAL, "residual_blocks": BLOCKS, "code_size": SIZE}
    return lambda **changes: tiny_config(
        **{**sizes, "num_codes": CODES, "num_bottom_codes": 0, "bottom_stride": 4, **changes}
    )


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("in_place", [False, True])
@torch.no_grad()
def test_an_imported_autoencoder_computes_what_theirs_does(
    foreign_config: Callable[..., FitConfig], stride: int, in_place: bool
) -> None:
    state = random_state(stride)
    config = foreign_config(bottom_stride=stride, add_to_activated=in_place)
    model, theirs = load_autoencoder(state, config, channels=COLOURS), Reference(state, stride, in_place)
    images = torch.rand(5, COLOURS, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    ours, expected = model.encode(images), theirs.encode(images)
    for codes, other in zip(ours, expected, strict=True):
        assert torch.equal(codes, other)
        assert len(codes.unique()) > 3
    decoded = theirs.decode(*expected)
    assert (model.decode_codes(*ours) - decoded).abs().max() < 1e-4
    other_kind = Reference(state, stride, not in_place)
    assert (other_kind.decode(*expected) - decoded).abs().max() > 1e-2  # so the flag is seen by this test
    assert torch.equal(model.top.counts, state["quantize_t.cluster_size"])
    assert torch.equal(model.bottom.sums, state["quantize_b.embed_avg"].t())


def test_a_file_is_read_plain_from_a_checkpoint_and_from_parallel_training(
    foreign_config: Callable[..., FitConfig], tmp_path: Path
) -> None:
    state = random_state(4)
    kinds: dict[str, Any] = {
        "plain": state,
        "checkpoint": {"model": state, "args": argparse.Namespace(lr=3e-4, path="somewhere")},
        "parallel": {f"module.{key}": value for key, value in state.items()},
    }
    for name, value in kinds.items():
        torch.save(value, tmp_path / f"{name}.pt")
        model = load_autoencoder(read_state_dict(tmp_path / f"{name}.pt"), foreign_config(), channels=COLOURS)
        assert torch.equal(model.top.weight, state["quantize_t.embed"].t())


class Trap:
    """Pickled, it would write a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    torch.save({"model": random_state(4), "args": Trap(tmp_path / "ran")}, tmp_path / "trap.pt")
    with pytest.raises(InputError, match=r"trap\.pt: not a file of tensors that can be read without running its code"):
        read_state_dict(tmp_path / "trap.pt")
    assert not (tmp_path / "ran").exists()


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.pt: no such file"):
        read_state_dict(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises(InputError, match=r"text\.pt: not a file of tensors"):
        read_state_dict(tmp_path / "text.pt")
    for name, value, message in (
        ("list", [1.0], "holds a list, must be a state dict"),
        ("empty", {}, "holds a dict, must be a state dict"),
        ("values", {"lr": 3e-4}, "'lr' is not a named tensor"),
    ):
        torch.save(value, tmp_path / f"{name}.pt")
        with pytest.raises(InputError, match=message):
            read_state_dict(tmp_path / f"{name}.pt")


def test_every_key_that_does_not_fit_is_in_one_message(foreign_config: Callable[..., FitConfig]) -> None:
    state = random_state(4)
    for key in ("dec.blocks.0.bias", "quantize_b.embed", "quantize_t.cluster_size", "upsample_t.weight"):
        del state[key]
    state["enc_c.blocks.0.weight"] = torch.zeros(1)
    state["dec_t.blocks.0.bias"] = torch.zeros(CHANNELS + 1)
    state["quantize_conv_b.bias"][0] = torch.nan
    with pytest.raises(InputError) as caught:
        load_autoencoder(state, foreign_config(), channels=COLOURS, name="some.pt")
    assert str(caught.value) == (
        "some.pt: nothing was loaded, tensors: "
        "4 missing (upsample_t.weight, dec.blocks.0.bias, quantize_t.cluster_size, ...); "
        "1 unknown (enc_c.blocks.0.weight); "
        "2 not as expected (dec_t.blocks.0.bias 13 instead of 12, quantize_conv_b.bias not finite)"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"residual_channels": 7}, "residual_channels is 7, the file's is 5"),
        ({"channels": 16}, "channels is 16, the file's is 12"),
        ({"num_codes": 32}, "num_codes is 32, the file's is 16"),
        ({"num_bottom_codes": 9}, "num_bottom_codes is 9, the file's is 0"),
        ({"code_size": 4}, "code_size is 4, the file's is 6"),
        ({"residual_blocks": 1}, "residual_blocks is 1, the file's is 2"),
        ({"bottom_stride": 2}, "bottom_stride is 2, the file's is 4"),
    ],
)
def test_a_field_that_does_not_fit_is_named(
    foreign_config: Callable[..., FitConfig], changes: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=f"some.pt: does not fit preset tiny: {message}; set them with --set"):
        load_autoencoder(random_state(4), foreign_config(**changes), channels=COLOURS, name="some.pt")


def test_other_colours_and_several_fields_are_named(foreign_config: Callable[..., FitConfig]) -> None:
    config = dataclasses.replace(foreign_config(), channels=16, num_codes=32)
    with pytest.raises(InputError, match="channels_of_images is 1, .*channels is 16, .*num_codes is 32, "):
        load_autoencoder(random_state(4), config, channels=1)


def one_colour(state: State) -> State:
    """The same autoencoder for grey images."""
    grey = {key: value.clone() for key, value in state.items()}
    grey["enc_b.blocks.0.weight"] = grey["enc_b.blocks.0.weight"][:, :1]
    last = f"dec.blocks.{BLOCKS + 2}"
    grey[f"{last}.weight"], grey[f"{last}.bias"] = grey[f"{last}.weight"][:, :1], grey[f"{last}.bias"][:1]
    return grey


def test_a_fit_starts_from_an_autoencoder_and_keeps_it_and_its_digest(
    foreign_config: Callable[..., FitConfig], tiny_set: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "vqvae.pt"
    torch.save(one_colour(random_state(2)), path)
    stage = StageConfig(num_steps=3, batch_size=16)
    config = foreign_config(bottom_stride=2, top=stage, bottom=stage)
    out = fit_from_autoencoder(path, tiny_set(), config, tmp_path / "fit", device=CPU)
    checkpoint = load_checkpoint(out)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert checkpoint.record["config"]["imported_autoencoder"] == digest
    autoencoder, _, read = load_networks(checkpoint)
    assert read.imported_autoencoder == digest
    expected = load_autoencoder(one_colour(random_state(2)), config, channels=1)
    images = torch.rand(4, 1, 8, 8) * 2 - 1
    for ours, theirs in zip(autoencoder.encode(images), expected.encode(images), strict=True):
        assert torch.equal(ours, theirs)
    codes = np.load(out / "_work/codes/bottom.npy")
    shown = to_input(tiny_set().images, CPU)
    assert np.array_equal(codes, expected.encode(shown)[1].numpy())

    with pytest.raises(InputError, match=r"config\.imported_autoencoder"):
        fit(tiny_set(), config, out, device=CPU)
    state = one_colour(random_state(2))
    state["upsample_t.bias"] += 1
    torch.save(state, path)
    with pytest.raises(InputError, match=r"config\.imported_autoencoder"):
        fit_from_autoencoder(path, tiny_set(), config, out, device=CPU)
    with pytest.raises(InputError, match="is fitted with --from-autoencoder"):
        fit(tiny_set(), read, tmp_path / "other", device=CPU)
    with pytest.raises(InputError, match="bottom_stride is 4, the file's is 2"):
        fit_from_autoencoder(path, tiny_set(), foreign_config(), tmp_path / "other", device=CPU)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("value", ["", "ab", "AB" * 32, 5])
def test_a_digest_that_is_none_is_refused(foreign_config: Callable[..., FitConfig], value: Any) -> None:
    with pytest.raises(InputError, match="imported_autoencoder is .*, must be 64 hex digits"):
        foreign_config(imported_autoencoder=value)
