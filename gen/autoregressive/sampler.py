"""Draws maps of codes from a PixelSNAIL, position by position, and checks such maps in one pass."""

from collections.abc import Callable

import torch
from torch import Tensor

from caskit.gen.autoregressive.cached import CachedAttention, CachedConv, CachedLayer, CachedPointwise
from caskit.gen.autoregressive.draws import DrawRule, choose, excess
from caskit.gen.autoregressive.pixelsnail import Attention, Block, PixelSnail

CHECK_BATCH = 64  # maps whose logits are held at once; a memory bound


class CachedBlock:
    """A Block one position at a time."""

    def __init__(self, block: Block, *, num: int, height: int, width: int) -> None:
        self._width, self._before = width, block.before
        self.layers = [CachedLayer(layer, num=num, width=width) for layer in block.layers]  # type: ignore[arg-type]
        self._out = None if block.out is None else CachedPointwise(block.out)
        self._attention: tuple[CachedLayer, CachedLayer, CachedAttention, CachedLayer] | None = None
        if block.attention is not None:
            module: Attention = block.attention
            key, query, out = (
                CachedLayer(layer, num=num, width=width)
                for layer in (module.key_layer, module.query_layer, module.out_layer)
            )
            cached = CachedAttention(module.attention, num=num, positions=height * width)
            self._attention = key, query, cached, out

    def step(self, row: int, column: int, x: Tensor, coordinates: Tensor) -> Tensor:
        """Return the output of a position, [N, C], from its input and its coordinates, [N, 2]."""
        out = x
        for layer in self.layers:
            out = layer.step(column, out)
        if self._attention is None:
            assert self._out is not None
            return self._out(torch.cat([out, coordinates], dim=1))
        key, query, attention, last = self._attention
        before = x if self._before is None else self._before(x)
        keys = key.step(column, torch.cat([before, out, coordinates], dim=1))
        queries = query.step(column, torch.cat([out, coordinates], dim=1))
        return last.step(column, out, side=attention.step(row * self._width + column, queries, keys))


class CachedSampler:
    """A PixelSNAIL set up to draw `num` maps at a time. The weights are read when it is made."""

    def __init__(self, model: PixelSnail, num: int) -> None:
        self.num = num
        self._model = model.eval()
        size = {"num": num, "width": model.width}
        self._first = CachedConv(model.first, **size)
        self._blocks = [CachedBlock(block, height=model.height, **size) for block in model.blocks]  # type: ignore[arg-type]
        self._out_layers = [CachedLayer(layer, **size) for layer in model.out_layers]  # type: ignore[arg-type]
        self._logits = CachedPointwise(model.logits)
        self._layers = [layer for block in self._blocks for layer in block.layers]
        table = model.embedding.table
        self._vectors = torch.eye(model.num_codes) if table is None else table.weight.detach()
        self._positions = model.positions.detach().permute(1, 2, 0).contiguous()
        self._coordinates = model.coordinates.permute(1, 2, 0).contiguous()

    @torch.no_grad()
    def run(
        self, labels: Tensor | None, above: Tensor | None, choose_code: Callable[[Tensor, int, int], Tensor]
    ) -> Tensor:
        """Go through the positions in raster order.

        Args:
            labels: [num] int64, for a class-conditional prior.
            above: [num, h, w] int64, for a prior with a condition.
            choose_code: gets the logits [num, K], row and column of a position and returns its codes, [num] int64.

        Returns:
            [num, H, W] int64.
        """
        model = self._model
        self._reset(labels)
        codes = torch.empty(self.num, model.height, model.width, dtype=torch.int64, device=self._positions.device)
        condition = None
        if model.condition is not None:
            assert above is not None, "this prior has a condition"
            condition = model.condition(above).permute(0, 2, 3, 1)
        for row in range(model.height):
            self._begin_row(row, condition)
            for column in range(model.width):
                codes[:, row, column] = chosen = choose_code(self._step(row, column), row, column)
                self._first.store(column, self._vectors[chosen])
            self._end_row()
        return codes

    def sample(
        self, labels: Tensor | None, uniforms: Tensor, rule: DrawRule, above: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw maps.

        Args:
            labels: [num] int64, for a class-conditional prior.
            uniforms: [num, H, W] float64, one per code.
            rule: temperature and top-p.
            above: [num, h, w] int64, for a prior with a condition.

        Returns:
            codes [num, H, W] int64, and finite [num] bool: whether all logits of a map were finite numbers.
        """
        finite = torch.ones(self.num, dtype=torch.bool, device=uniforms.device)

        def draw(logits: Tensor, row: int, column: int) -> Tensor:
            cumulative = rule.cumulative(logits)
            finite.logical_and_(cumulative[:, -1].isfinite())
            return choose(cumulative, uniforms[:, row, column])

        return self.run(labels, above, draw), finite

    def _reset(self, labels: Tensor | None) -> None:
        self._first.reset()
        for layer in self._layers:
            layer.reset(labels)

    def _begin_row(self, row: int, condition: Tensor | None) -> None:
        self._first.begin_row(row)
        scale = 1 if condition is None else self._model.height // condition.shape[1]
        above = None if condition is None else condition[:, row // scale]
        for layer in self._layers:
            layer.begin_row(row, above, scale)

    def _end_row(self) -> None:
        self._first.end_row()
        for layer in self._layers:
            layer.end_row()

    def _step(self, row: int, column: int) -> Tensor:
        """Return the logits of a position, [num, K]."""
        out = self._first.read(column) + self._positions[row, column]
        coordinates = self._coordinates[row, column].expand(self.num, -1)
        for block in self._blocks:
            out = block.step(row, column, out, coordinates)
        for layer in self._out_layers:
            out = layer.step(column, out)
        return self._logits(self._model.activation(out))


@torch.no_grad()
def score_maps(
    model: PixelSnail,
    codes: Tensor,
    labels: Tensor | None,
    uniforms: Tensor,
    rule: DrawRule,
    above: Tensor | None = None,
) -> Tensor:
    """Tell how far each uniform lies outside its code's interval, all positions in one pass (teacher forcing).

    Args:
        model: the prior.
        codes: [N, H, W] int64, as drawn.
        labels: as in `CachedSampler.sample`, like the next three: what the codes were drawn with.
        uniforms: see there.
        rule: see there.
        above: see there.

    Returns:
        [N, H, W] float64, see `draws.excess`; infinite for a code outside 0..K-1.
    """
    model.eval()
    parts = []
    for start in range(0, len(codes), CHECK_BATCH):
        part = slice(start, start + CHECK_BATCH)
        known = (codes[part] >= 0) & (codes[part] < model.num_codes)
        read = torch.where(known, codes[part], 0)
        logits = model(read, None if labels is None else labels[part], None if above is None else above[part])
        outside = excess(rule.cumulative(logits.permute(0, 2, 3, 1)), uniforms[part], read)
        parts.append(torch.where(known, outside, torch.inf))
    return torch.cat(parts)
