"""Draws maps of codes from a PixelSNAIL, position by position, and checks such maps in one pass."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from caskit.gen.autoregressive.cached import CachedAttention, CachedConv, CachedLayer, CachedPointwise
from caskit.gen.autoregressive.draws import DrawRule, choose, excess
from caskit.gen.autoregressive.pixelsnail import NUM_COORDINATES, Attention, Block, PixelSnail

CHECK_BATCH = 64  # maps whose logits are held at once; a memory bound


class CachedBlock:
    """A Block one position at a time."""

    def __init__(self, block: Block, coordinates: Tensor, *, num: int) -> None:
        """Take the block and the coordinates of all positions, [H, W, 2]."""
        height, self._width, _ = coordinates.shape
        self._before = block.before
        self.layers = [CachedLayer(layer, num=num, width=self._width) for layer in block.layers]  # type: ignore[arg-type]
        self._coordinates = coordinates[:, :, None].expand(-1, -1, num, -1)
        self._attention: tuple[CachedLayer, CachedLayer, CachedAttention, CachedLayer] | None = None
        if block.attention is None:
            assert block.out is not None
            conv = CachedPointwise(block.out)
            self._weight = conv.weight[:-NUM_COORDINATES]
            self._bias = coordinates @ conv.weight[-NUM_COORDINATES:] + conv.bias  # [H, W, hidden]
        else:
            module: Attention = block.attention
            key, query, out = (
                CachedLayer(layer, num=num, width=self._width)
                for layer in (module.key_layer, module.query_layer, module.out_layer)
            )
            attention = CachedAttention(module.attention, num=num, positions=height * self._width)
            self._attention = key, query, attention, out

    def step(self, row: int, column: int, x: Tensor) -> Tensor:
        """Return the output of a position, [N, C], from its input."""
        out = x
        for layer in self.layers:
            out = layer.step(column, out)
        if self._attention is None:
            return torch.addmm(self._bias[row, column], out, self._weight)
        key, query, attention, last = self._attention
        before = x if self._before is None else self._before(x)
        coordinates = self._coordinates[row, column]
        keys = key.step(column, torch.cat([before, out, coordinates], dim=1))
        queries = query.step(column, torch.cat([out, coordinates], dim=1))
        return last.step(column, out, side=attention.step(row * self._width + column, queries, keys))


class CachedSampler:
    """A PixelSNAIL set up to draw `num` maps at a time. The weights are read when it is made."""

    def __init__(self, model: PixelSnail, num: int) -> None:
        self.num = num
        self._model = model.eval()
        coordinates = model.coordinates.permute(1, 2, 0)
        self._first = CachedConv(model.first, num=num, width=model.width)
        self._blocks = [CachedBlock(block, coordinates, num=num) for block in model.blocks]  # type: ignore[arg-type]
        self._out_layers = [CachedLayer(layer, num=num, width=model.width) for layer in model.out_layers]  # type: ignore[arg-type]
        self._logits = CachedPointwise(model.logits)
        self._layers = [layer for block in self._blocks for layer in block.layers]
        table, positions = model.embedding.table, model.positions.detach()
        one_hot = torch.eye(model.num_codes, dtype=positions.dtype, device=positions.device)
        self._vectors = one_hot if table is None else table.weight.detach()  # [K, E]
        self._positions = positions.permute(1, 2, 0)[:, :, None].contiguous()  # [H, W, 1, hidden]
        self._added = self._positions  # of the maps' labels, [H, W, 1 or num, hidden]

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
        codes = torch.empty(self.num, model.height, model.width, dtype=torch.int64, device=self._positions.device)
        condition, rows, columns = None, 1, 1
        if model.condition is not None:
            assert above is not None, "this prior has a condition"
            condition = model.condition(above).permute(0, 2, 3, 1)  # [num, h, w, K]
            # of the map per row and column of the condition; of pixels in colour there are more columns than rows
            rows, columns = model.height // condition.shape[1], model.width // condition.shape[2]
        self._reset(labels)
        for row in range(model.height):
            if condition is not None and row % rows == 0:
                self._begin_condition(condition[:, row // rows], columns)
            for column in range(model.width):
                codes[:, row, column] = chosen = choose_code(self._step(row, column), row, column)
                self._first.store(column, functional.embedding(chosen, self._vectors))
            if row + 1 < model.height:
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
        # One logit that is not finite makes this sum so for good; finite float32 numbers do not, in float64.
        sums = torch.zeros(self.num, dtype=torch.float64, device=uniforms.device)

        def draw(logits: Tensor, row: int, column: int) -> Tensor:
            logits = logits.double()
            sums.add_(logits.sum(dim=-1))
            return choose(rule.cumulative(logits), uniforms[:, row, column])

        return self.run(labels, above, draw), sums.isfinite()

    def _reset(self, labels: Tensor | None) -> None:
        self._first.reset()
        classes = self._model.class_positions
        if classes is not None:
            assert labels is not None, "this prior has class vectors"
            self._added = self._positions + classes.detach()[labels].permute(2, 3, 0, 1)
        for layer in self._layers:
            layer.reset(labels)

    def _begin_condition(self, condition: Tensor, columns: int) -> None:
        for layer in self._layers:
            layer.begin_condition(condition, columns)

    def _end_row(self) -> None:
        self._first.end_row()
        for layer in self._layers:
            layer.end_row()

    def _step(self, row: int, column: int) -> Tensor:
        """Return the logits of a position, [num, K]."""
        out = self._first.read(column).add_(self._added[row, column])
        for block in self._blocks:
            out = block.step(row, column, out)
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


@torch.no_grad()
def map_nats(model: PixelSnail, codes: Tensor, labels: Tensor | None, above: Tensor | None = None) -> Tensor:
    """Return -log of the probability of maps [N, H, W] int64 of known codes, [N] float64; see `score_maps`."""
    model.eval()
    parts = []
    for start in range(0, len(codes), CHECK_BATCH):
        part = slice(start, start + CHECK_BATCH)
        logits = model(codes[part], None if labels is None else labels[part], None if above is None else above[part])
        nats = functional.cross_entropy(logits.double(), codes[part], reduction="none")
        parts.append(nats.flatten(1).sum(dim=1))
    return torch.cat(parts)
