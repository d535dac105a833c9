"""Imported priors compute the logits that rosinality/vq-vae-2-pytorch's do; what does not fit is told in one message.

The reference below is written from that project's semantics with plain functions over its state dict.
"""

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from caskit.gen.autoregressive.importing import load_prior
from caskit.gen.autoregressive.sampler import CachedSampler
from caskit.manifests.errors import InputError

State = dict[str, Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Theirs:
    """The arguments of their class."""

    height: int = 6
    width: int = 5
    codes: int = 7
    channel: int = 8
    kernel: int = 5
    blocks: int = 2
    layers: int = 2
    residual: int = 6
    heads: int = 2
    attention: bool = True
    condition_layers: int = 0
    condition_channel: int = 0
    out_layers: int = 0


TOP = Theirs()
TOP_OUT = Theirs(out_layers=2, kernel=3)
BOTTOM = Theirs(height=6, width=8, attention=False, condition_layers=2, condition_channel=5)


class Maker:
    """Their state dict with random values, weights not yet masked, as after the start of a training."""

    def __init__(self, theirs: Theirs) -> None:
        self.state: State = {}
        self._generator = torch.Generator().manual_seed(0)
        self._fill(theirs)

    def _random(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator)

    def conv(self, key: str, outputs: int, inputs: int, *kernel: int, bias: bool = True) -> None:
        self.state[f"{key}.weight_g"] = self._random(outputs, 1, *(1 for _ in kernel)) * 0.6 + 0.8
        self.state[f"{key}.weight_v"] = self._random(outputs, inputs, *kernel)
        if bias:
            self.state[f"{key}.bias"] = self._random(outputs)

    def layer(self, key: str, channel: int, hidden: int, kernel: int, *, causal: bool = False, side: int = 0) -> None:
        wrapped = ".conv.conv" if causal else ".conv"
        self.conv(f"{key}.conv1{wrapped}", hidden, channel, kernel, kernel)
        self.conv(f"{key}.conv2{wrapped}", 2 * channel, hidden, kernel, kernel)
        if side:
            self.conv(f"{key}.aux_conv.conv", hidden, side, 1, 1)

    def _fill(self, t: Theirs) -> None:
        half = t.kernel // 2
        self.conv("horizontal.conv.conv", t.channel, t.codes, half, t.kernel)
        self.conv("vertical.conv.conv", t.channel, t.codes, half + 1, half)
        rows = ((torch.arange(t.height) - t.height / 2) / t.height)[:, None].expand(t.height, t.width)
        columns = ((torch.arange(t.width) - t.width / 2) / t.width)[None].expand(t.height, t.width)
        self.state["background"] = torch.stack([rows, columns])[None].clone()
        for number in range(t.blocks):
            key, c = f"blocks.{number}", t.channel
            for layer in range(t.layers):
                self.layer(f"{key}.resblocks.{layer}", c, t.residual, t.kernel, causal=True)
                if t.condition_channel:
                    name = f"{key}.resblocks.{layer}.condition.conv"
                    self.conv(name, 2 * c, t.condition_channel, 1, 1, bias=False)
            if t.attention:
                self.layer(f"{key}.key_resblock", 2 * c + 2, c, 1)
                self.layer(f"{key}.query_resblock", c + 2, c, 1)
                self.conv(f"{key}.causal_attention.query", c // 2, c + 2)
                self.conv(f"{key}.causal_attention.key", c // 2, 2 * c + 2)
                self.conv(f"{key}.causal_attention.value", c // 2, 2 * c + 2)
                self.layer(f"{key}.out_resblock", c, c, 1, side=c // 2)
            else:
                self.conv(f"{key}.out.conv", c, c + 2, 1, 1)
        if t.condition_layers:
            self.conv("cond_resnet.blocks.0.conv", t.condition_channel, t.codes, 3, 3)
            for layer in range(t.condition_layers):
                self.layer(f"cond_resnet.blocks.{layer + 1}", t.condition_channel, t.condition_channel, 3)
        for layer in range(t.out_layers):
            self.layer(f"out.{layer}", t.channel, t.residual, 1)
        self.conv(f"out.{t.out_layers + 1}.conv", t.codes, t.channel, 1, 1)


class Reference:
    """Their forward pass; with `in_place`, activations overwrite what they are given, as in their early revisions."""

    def __init__(self, theirs: Theirs, state: State, in_place: bool) -> None:
        self.t, self.state, self.in_place = theirs, {key: value.clone() for key, value in state.items()}, in_place

    def weight(self, key: str) -> Tensor:
        v, g = self.state[f"{key}.weight_v"], self.state[f"{key}.weight_g"]
        return g * v / v.square().sum(dim=tuple(range(1, v.dim())), keepdim=True).sqrt()

    def conv(self, key: str, x: Tensor, padding: int = 0) -> Tensor:
        return functional.conv2d(x, self.weight(key), self.state.get(f"{key}.bias"), padding=padding)

    def causal(self, key: str, x: Tensor) -> Tensor:
        half = self.t.kernel // 2
        self.state[f"{key}.weight_v"][:, :, -1, half:] = 0
        return self.conv(key, functional.pad(x, (half, half, self.t.kernel - 1, 0)))

    def elu(self, x: Tensor) -> Tensor:
        return functional.elu_(x) if self.in_place else functional.elu(x)

    def layer(
        self, key: str, x: Tensor, *, causal: bool = False, side: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        wrapped = ".conv.conv" if causal else ".conv"

        def conv(name: str, value: Tensor) -> Tensor:
            if causal:
                return self.causal(name, value)
            return self.conv(name, value, self.state[f"{name}.weight_v"].shape[-1] // 2)

        hidden = conv(f"{key}.conv1{wrapped}", self.elu(x))
        if side is not None:
            hidden = hidden + self.conv(f"{key}.aux_conv.conv", self.elu(side))
        out = conv(f"{key}.conv2{wrapped}", self.elu(hidden))
        if condition is not None:
            out = out + self.conv(f"{key}.condition.conv", condition)
        values, gates = out.chunk(2, dim=1)
        return values * torch.sigmoid(gates) + x

    def attention(self, key: str, query: Tensor, keys: Tensor) -> Tensor:
        num, _, height, width = query.shape
        positions, heads = height * width, self.t.heads

        def project(name: str, x: Tensor) -> Tensor:
            flat = x.flatten(2).transpose(1, 2) @ self.weight(f"{key}.{name}").t() + self.state[f"{key}.{name}.bias"]
            return flat.reshape(num, positions, heads, -1).transpose(1, 2)

        q, k, v = project("query", query), project("key", keys), project("value", keys)
        scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
        earlier = torch.ones(positions, positions).tril(-1).bool()
        shares = scores.masked_fill(~earlier, -1e4).softmax(dim=-1)
        shares[:, :, 0] = 0
        return (shares @ v).transpose(1, 2).reshape(num, height, width, -1).permute(0, 3, 1, 2)

    def condition(self, above: Tensor) -> Tensor:
        x = functional.one_hot(above, self.t.codes).permute(0, 3, 1, 2).float()
        x = self.conv("cond_resnet.blocks.0.conv", x, 1)
        for layer in range(self.t.condition_layers):
            x = self.layer(f"cond_resnet.blocks.{layer + 1}", x)
        return functional.interpolate(x, scale_factor=2.0)

    def __call__(self, codes: Tensor, above: Tensor | None = None) -> Tensor:
        t, half = self.t, self.t.kernel // 2
        x = functional.one_hot(codes, t.codes).permute(0, 3, 1, 2).float()
        over = self.conv("horizontal.conv.conv", functional.pad(x, (half, half, half - 1, 0)))
        left = self.conv("vertical.conv.conv", functional.pad(x, (half - 1, 0, half, 0)))
        shifted_down = functional.pad(over, (0, 0, 1, 0))[:, :, : t.height]
        shifted_right = functional.pad(left, (1, 0, 0, 0))[:, :, :, : t.width]
        out = shifted_down + shifted_right
        condition = None if above is None else self.condition(above)
        background = self.state["background"].expand(len(codes), -1, -1, -1)
        for number in range(t.blocks):
            key, before = f"blocks.{number}", out
            for layer in range(t.layers):
                out = self.layer(f"{key}.resblocks.{layer}", out, causal=True, condition=condition)
            if t.attention:
                keys = self.layer(f"{key}.key_resblock", torch.cat([before, out, background], dim=1))
                query = self.layer(f"{key}.query_resblock", torch.cat([out, background], dim=1))
                attended = self.attention(f"{key}.causal_attention", query, keys)
                out = self.layer(f"{key}.out_resblock", out, side=attended)
            else:
                out = self.conv(f"{key}.out.conv", torch.cat([out, background], dim=1))
        for layer in range(t.out_layers):
            out = self.layer(f"out.{layer}", out)
        return self.conv(f"out.{t.out_layers + 1}.conv", functional.elu(out))


def maps(theirs: Theirs, num: int = 3) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(theirs.codes, (num, theirs.height, theirs.width), generator=generator)
    if not theirs.condition_layers:
        return codes, None
    return codes, torch.randint(theirs.codes, (num, theirs.height // 2, theirs.width // 2), generator=generator)


@pytest.mark.parametrize("theirs", [TOP, TOP_OUT, BOTTOM], ids=["top", "out-stack", "bottom"])
@pytest.mark.parametrize("in_place", [False, True])
@torch.no_grad()
def test_an_imported_prior_gives_their_logits(theirs: Theirs, in_place: bool) -> None:
    state = Maker(theirs).state
    model = load_prior(state, heads=theirs.heads, in_place=in_place)
    assert (model.height, model.width, model.num_codes) == (theirs.height, theirs.width, theirs.codes)
    assert (model.config.blocks, model.config.layers) == (theirs.blocks, theirs.layers)
    assert (model.config.condition_layers, model.config.out_layers) == (theirs.condition_layers, theirs.out_layers)
    codes, above = maps(theirs)
    expected = Reference(theirs, state, in_place)(codes, above)
    assert (model(codes, None, above) - expected).abs().max() < 1e-4
    other = Reference(theirs, state, not in_place)(codes, above)
    assert (other - expected).abs().max() > 1e-2  # so the flag is seen by this test
    cached = torch.zeros_like(expected)

    def follow(logits: Tensor, row: int, column: int) -> Tensor:
        cached[:, :, row, column] = logits
        return codes[:, row, column]

    CachedSampler(model, len(codes)).run(None, above, follow)
    assert (cached - expected).abs().max() < 1e-4


def test_every_key_that_does_not_fit_is_in_one_message() -> None:
    state = Maker(TOP).state
    del state["blocks.1.out_resblock.aux_conv.conv.weight_g"]
    del state["blocks.0.causal_attention.value.bias"]
    state["blocks.1.resblocks.1.conv2.conv.conv.bias"] = torch.zeros(3)
    state["blocks.0.resblocks.7.conv1.conv.conv.bias"] = torch.zeros(3)
    state["background"] = state["background"] * 2
    with pytest.raises(InputError) as caught:
        load_prior(state, heads=2, in_place=True, name="top.pt")
    assert str(caught.value) == (
        "top.pt: nothing was loaded, tensors: "
        "2 missing (blocks.0.causal_attention.value.bias, blocks.1.out_resblock.aux_conv.conv.weight_g); "
        "1 unknown (blocks.0.resblocks.7.conv1.conv.conv.bias); "
        "2 not as expected (blocks.1.resblocks.1.conv2.conv.conv.bias 3 instead of 16, background other coordinates)"
    )


def test_a_state_dict_of_another_model_is_refused() -> None:
    with pytest.raises(InputError, match=r"vqvae\.pt: no PixelSNAIL's state dict, horizontal\.conv\.conv\.weight_v"):
        load_prior({"enc_b.blocks.0.weight": torch.zeros(1)}, in_place=True, name="vqvae.pt")
    state = Maker(TOP).state
    del state["background"]
    with pytest.raises(InputError, match="background is missing"):
        load_prior(state, heads=2, in_place=True)


def test_heads_that_cannot_be_are_refused() -> None:
    for heads in (0, 3, 8):
        with pytest.raises(InputError, match=f"heads is {heads}, must divide the 4 channels of the attention"):
            load_prior(Maker(TOP).state, heads=heads, in_place=True)
