"""The generator laid out for sampling: the same images as `Generator` in evaluation, with less work.

- A norm in evaluation is `slope * x + shift`, both linear in the condition. Statistics, the bias of the convolution
  before it and gain and offset are folded into one matrix; one product gives slopes and shifts of all norms.
- Maps are channels-last matrices, so 1x1 convolutions are matrix products. The first of a block takes the norm after it
  into a weight per sample; the last adds to the skip where it stands.
- A 3x3 convolution of a map that was doubled by repeating sees each pixel of the small map up to four times. It is four
  2x2 convolutions of the small map with summed weights, 4/9 of the arithmetic; the norm after it writes the four
  results to where they belong.
"""

import copy
import dataclasses
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from caskit.gen.biggan_deep.network import Attention, Block, ConditionalNorm, Generator

# Of the images that are computed together. A CPU is fastest where maps stay in its caches: at 2^16 it draws 30 % more
# images of 256x256 per second than at 2^19. Elsewhere the number bounds memory.
PIXELS_AT_ONCE = {"cpu": 1 << 16}
PIXELS_ELSEWHERE = 1 << 19


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoldedBlock:
    """The weights of a block, in the order of use.

    Attributes:
        places: of the four norms in the matrix of all norms, `(start, channels)`.
        shrink: [inputs, middle].
        middle: of the second convolution: [middle, middle, 3, 3], or [4 middle, middle, 2, 2] where it doubles.
        last: of the third, [middle, middle, 3, 3].
        grow: [middle, outputs].
        bias: [outputs], of the block's sum.
    """

    places: tuple[tuple[int, int], ...]
    shrink: Tensor
    middle: Tensor
    last: Tensor
    grow: Tensor
    bias: Tensor
    doubles: bool


class FoldedGenerator:
    """A generator whose norms have one row of statistics each (`statistics.choose_statistics`), folded for speed."""

    def __init__(self, generator: Generator, device: torch.device) -> None:
        """Fold a generator; its weights are read, not changed.

        Args:
            generator: the network, on any device.
            device: where to sample.
        """
        self.config, self.device = generator.config, device
        self._slopes: list[Tensor] = []  # [C, condition_size] and the constants, per norm
        self._shifts: list[Tensor] = []
        self._slope_constants: list[Tensor] = []
        self._shift_constants: list[Tensor] = []
        self._num_places = 0
        with torch.no_grad():
            self._embedding = generator.embedding.weight.detach().to(device)
            self._first = generator.first.weight.t().contiguous().to(device)
            self._first_bias = generator.first.bias.detach().to(device)
            self._blocks = [self._fold_block(_as_block(block), device) for block in generator.blocks]
            self._attention = None if generator.attention is None else _to(generator.attention, device)
            norm = generator.norm
            root = torch.rsqrt(norm.variances[norm.row] + norm.epsilon)
            self._slope = (generator.gain * root).to(device)
            self._shift = (generator.offset - norm.means[norm.row] * generator.gain * root).to(device)
            self._image = _channels_last(generator.image.weight, device)
            self._image_bias = generator.image.bias.detach().to(device) if generator.image.bias is not None else None
            self._projection = torch.cat([*self._slopes, *self._shifts]).t().contiguous().to(device)
            self._constants = torch.cat([*self._slope_constants, *self._shift_constants]).to(device)
        self._slopes = self._shifts = self._slope_constants = self._shift_constants = []

    @property
    def limit(self) -> int:
        """How many images are computed together at most: network and kind of device alone say, as it decides bits."""
        pixels = PIXELS_AT_ONCE.get(self.device.type, PIXELS_ELSEWHERE)
        return max(1, pixels // self.config.image_size**2)

    def __call__(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Draw images [N, channels, H, W] in -1..1 from latents [N, latent_size] and labels [N].

        They are computed in parts of one size, the last one padded, so that the place in a batch decides no bits.
        """
        num = len(labels)
        num_parts = math.ceil(num / self.limit)
        size = math.ceil(num / num_parts)
        filled = torch.split(torch.arange(num_parts * size, device=labels.device).clamp(max=num - 1), size)
        return torch.cat([self._draw(latents[part], labels[part]) for part in filled])[:num]

    def _fold_norm(self, norm: ConditionalNorm, bias: Tensor | None) -> tuple[int, int]:
        """Add a norm to the matrix of all; `bias` [C] is what its input still lacks. Returns its place."""
        inner = norm.norm
        mean, variance = inner.means[inner.row], inner.variances[inner.row]
        centre = mean if bias is None else mean - bias
        root = torch.rsqrt(variance + inner.epsilon)
        slope = norm.scale.weight * root[:, None]
        self._slopes.append(slope)
        self._slope_constants.append(root)
        self._shifts.append(norm.offset.weight - centre[:, None] * slope)
        self._shift_constants.append(-centre * root)
        place = (self._num_places, len(mean))
        self._num_places += len(mean)
        return place

    def _fold_block(self, block: Block, device: torch.device) -> FoldedBlock:
        first, second, third, fourth = (_as_convolution(part) for part in block.convolutions)
        biases = (None, first.bias, second.bias, third.bias)
        norms = [part for part in block.norms if isinstance(part, ConditionalNorm)]
        assert fourth.bias is not None, "a block's convolutions have biases"
        middle = double_weights(second.weight) if block.doubles else second.weight
        return FoldedBlock(
            places=tuple(self._fold_norm(norm, bias) for norm, bias in zip(norms, biases, strict=True)),
            shrink=first.weight.flatten(1).t().contiguous().to(device),
            middle=_channels_last(middle, device),
            last=_channels_last(third.weight, device),
            grow=fourth.weight.flatten(1).t().contiguous().to(device),
            bias=fourth.bias.detach().to(device),
            doubles=block.doubles,
        )

    def _draw(self, latents: Tensor, labels: Tensor) -> Tensor:
        condition = torch.cat((latents, self._embedding[labels]), dim=1)
        slopes, shifts = torch.addmm(self._constants, condition, self._projection).float().chunk(2, dim=1)
        side = self.config.start_size
        maps = torch.addmm(self._first_bias, condition, self._first).float()
        maps = maps.reshape(len(condition), side, side, -1).permute(0, 3, 1, 2)  # channels-last
        for number, block in enumerate(self._blocks):
            if self._attention is not None and number == 2 * self.config.attention_after:
                maps = self._attention(maps)
            maps = _apply_block(block, maps, slopes, shifts)
        maps = torch.addcmul(_maps(self._shift), maps, _maps(self._slope)).relu_()
        return torch.tanh(functional.conv2d(maps, self._image, self._image_bias, padding=1).float())


def _apply_block(block: FoldedBlock, maps: Tensor, slopes: Tensor, shifts: Tensor) -> Tensor:
    """Map [N, inputs, H, W] to [N, outputs, H, W], in the same memory, or to twice the sides."""
    num, inputs, height, width = maps.shape
    gains = [slopes[:, start : start + size] for start, size in block.places]
    offsets = [shifts[:, start : start + size] for start, size in block.places]
    hidden = torch.addcmul(_maps(offsets[0]), maps, _maps(gains[0])).relu_()
    weights = block.shrink * gains[1][:, None, :]  # the second norm's slope, per sample
    flat = torch.baddbmm(offsets[1][:, None, :], _flat(hidden), weights).float().relu_()
    hidden = flat.reshape(num, height, width, -1).permute(0, 3, 1, 2)
    if block.doubles:
        hidden = _convolve_doubled(hidden, block.middle, gains[2], offsets[2])
    else:
        hidden = functional.conv2d(hidden, block.middle, padding=1)
        hidden = torch.addcmul(_maps(offsets[2]), hidden, _maps(gains[2]))
    hidden = functional.conv2d(hidden.relu_(), block.last, padding=1)
    hidden = torch.addcmul(_maps(offsets[3]), hidden, _maps(gains[3])).relu_()
    outputs = len(block.bias)
    if block.doubles:
        shape = (num, height, 2, width, 2, outputs)
        skip = maps[:, :outputs].permute(0, 2, 3, 1)[:, :, None, :, None, :].expand(shape)
        total = torch.add(skip, block.bias, out=torch.empty(shape, device=maps.device)).reshape(-1, outputs)
    else:
        total = _flat(maps).reshape(-1, inputs).add_(block.bias)
    total.addmm_(_flat(hidden).reshape(len(total), -1), block.grow)
    factor = 2 if block.doubles else 1
    return total.reshape(num, factor * height, factor * width, outputs).permute(0, 3, 1, 2)


def _convolve_doubled(maps: Tensor, weights: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    """Convolve the doubled maps [N, C, H, W] with `double_weights` and apply a norm; [N, C, 2H, 2W]."""
    num, channels, height, width = maps.shape
    phases = functional.conv2d(maps, weights, padding=1)  # [N, 4C, H + 1, W + 1]
    doubled = torch.empty(num, 2 * height, 2 * width, channels, device=maps.device).permute(0, 3, 1, 2)
    for phase, part in enumerate(torch.split(phases, channels, dim=1)):
        row, column = divmod(phase, 2)
        part = part[:, :, row : row + height, column : column + width]
        torch.addcmul(_maps(offset), part, _maps(gain), out=doubled[:, :, row::2, column::2])
    return doubled


def double_weights(weights: Tensor) -> Tensor:
    """Return what a 3x3 convolution [O, I, 3, 3] of a doubled map is on the small one: [4 O, I, 2, 2], phase by phase.

    Pixel 2y of the large map sees its rows 2y - 1, 2y and 2y + 1, which are rows y - 1, y and y of the small one; pixel
    2y + 1 sees y, y and y + 1. So with columns. Phase (row, column) is number `2 row + column`.
    """
    sums = torch.zeros(2, 2, 3)  # [phase, tap of the small kernel, tap of the large one]
    sums[0, 0, 0] = sums[0, 1, 1] = sums[0, 1, 2] = 1.0
    sums[1, 0, 0] = sums[1, 0, 1] = sums[1, 1, 2] = 1.0
    sums = sums.to(weights)
    return torch.einsum("oiyx,ruy,svx->rsoiuv", weights, sums, sums).flatten(0, 2)


def _maps(values: Tensor) -> Tensor:
    return values[..., None, None]


def _flat(maps: Tensor) -> Tensor:
    """View channels-last maps [N, C, H, W] as matrices [N, H W, C]."""
    return maps.permute(0, 2, 3, 1).reshape(len(maps), -1, maps.shape[1])


def _channels_last(weights: Tensor, device: torch.device) -> Tensor:
    return weights.detach().to(device).contiguous(memory_format=torch.channels_last)


def _to(attention: Attention, device: torch.device) -> Attention:
    return copy.deepcopy(attention).eval().to(device).to(memory_format=torch.channels_last)


def _as_block(module: nn.Module) -> Block:
    assert isinstance(module, Block), "a generator's blocks are blocks"
    return module


def _as_convolution(module: nn.Module) -> nn.Conv2d:
    assert isinstance(module, nn.Conv2d), "a block's convolutions are convolutions"
    return module
