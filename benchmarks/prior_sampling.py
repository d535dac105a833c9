"""The cached sampler of a prior against the usual way, a full forward pass over the map for every position.

Run: python benchmarks/prior_sampling.py > benchmarks/prior_sampling.md (about a minute on a quiet core, `--short` ten
seconds; `--family ham` for the pixels of 28x28 images given 7x7 codes). Same weights, same uniforms of the streams,
same batch on both sides. Exits with 1 unless the maps are equal and, from 28x28 on, a position is at least a hundred
times cheaper. The last line is one JSON object for programs.

Equal means: logits at most `LOGITS` apart, at the positions the usual way was run at, and at all positions of the drawn
maps in one pass (which by causality gives what the usual way would); and the code the usual way's logits lead to is the
cached one wherever the uniform is farther than `EDGE` from an edge of its CDF. After a difference the rest of that map
is another one, so all comparisons force the same codes through both.
"""

import argparse
import dataclasses
import datetime
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from caskit.gen import ham
from caskit.gen.autoregressive.config import PriorConfig
from caskit.gen.autoregressive.draws import DrawRule, choose
from caskit.gen.autoregressive.pixels import NUM_VALUES
from caskit.gen.autoregressive.pixelsnail import PixelSnail
from caskit.gen.autoregressive.sampler import CachedSampler
from caskit.gen.streams import Streams
from caskit.manifests.seeds import stream_key

LOGITS = 1e-4
EDGE = 1e-5  # of the CDF, which ends at 1
REQUIRED, REQUIRED_FROM = 100, 28
BATCH, NUM_CLASSES = 16, 10
RULE = DrawRule()

# ImageNet's priors (VQ-VAE-2, table 5) at an eighth of their width and about a third of their depth.
TOP = PriorConfig(
    hidden=64, residual=128, blocks=2, layers=3, columns=5, heads=8, head_size=8, out_layers=1, embedding=64
)
BOTTOM = dataclasses.replace(
    TOP, heads=0, residual=64, out_layers=0, condition_layers=3, condition_hidden=64, condition_residual=64
)
PIXELS = ham.PRESETS["fashion-mnist"]().levels[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """The priors of a family, and the maps they are timed on.

    Attributes:
        priors: by name.
        num_codes: of the maps that are drawn.
        above_codes: of the map above.
        stride: sides of a map over those of the map above.
        upsamplings: learned doublings of the condition.
        grids: sides of the maps; all are multiples of `stride`.
    """

    priors: dict[str, PriorConfig]
    num_codes: int
    above_codes: int
    stride: int
    upsamplings: int
    grids: tuple[int, ...]


FAMILIES = {
    "vqvae2": Family(
        priors={
            "top, with attention": TOP,
            "top, without attention": dataclasses.replace(TOP, heads=0),
            "bottom, given the top": BOTTOM,
        },
        num_codes=512,
        above_codes=512,
        stride=2,
        upsamplings=0,
        grids=(8, 16, 32),
    ),
    # The decoder of ham:fashion-mnist as it is.
    "ham": Family(
        priors={"pixels, given the codes": PIXELS.decoder},
        num_codes=NUM_VALUES,
        above_codes=PIXELS.num_codes,
        stride=PIXELS.stride,
        upsamplings=PIXELS.upsamplings,
        grids=(8, 16, 28),
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A prior on a grid, and what BATCH maps are drawn from: labels, uniforms, the map above."""

    model: PixelSnail
    labels: Tensor
    uniforms: Tensor
    above: Tensor | None

    @property
    def positions(self) -> list[tuple[int, int]]:
        """All positions in raster order."""
        return [(row, column) for row in range(self.model.height) for column in range(self.model.width)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What one case showed.

    Attributes:
        naive_positions: positions that the usual way was run at; its time is an average over them.
        max_difference: of logits, over all positions.
        num_near: codes whose uniform lies within EDGE of an edge of their CDF.
        num_different: positions at which the two lead to other codes after equal codes.
        num_maps: drawn maps that are not the usual way's.
        equal: as defined above.
        naive_s, cached_s: CPU seconds of one thread per position of a batch, medians.
    """

    naive_positions: int = 0
    max_difference: float = 0.0
    num_near: int = 0
    num_different: int = 0
    num_maps: int = 0
    equal: bool = False
    naive_s: float
    cached_s: float

    @property
    def ratio(self) -> float:
        """The usual way's time over the cached sampler's."""
        return self.naive_s / self.cached_s


def build(family: Family, config: PriorConfig, grid: int) -> Case:
    """Make a prior with random weights that all matter, and its streams."""
    torch.manual_seed(0)
    model = PixelSnail(
        config,
        height=grid,
        width=grid,
        num_codes=family.num_codes,
        num_classes=NUM_CLASSES,
        condition_codes=family.above_codes if config.condition_layers else 0,
        condition_upsamplings=family.upsamplings if config.condition_layers else 0,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    labels = [index % NUM_CLASSES for index in range(BATCH)]
    streams = Streams([stream_key(0, label, index, 0) for index, label in enumerate(labels)])
    uniforms = torch.from_numpy(streams.uniform("benchmark/codes", (grid, grid)))
    side = grid // family.stride
    above = torch.from_numpy(streams.uniform("benchmark/above", (side, side))).mul(family.above_codes).long()
    return Case(
        model=model.eval().to(memory_format=torch.channels_last),
        labels=torch.tensor(labels),
        uniforms=uniforms,
        above=above if config.condition_layers else None,
    )


def timed(work: Callable[[], None]) -> float:
    """Return the CPU seconds of a call: other work on the machine weighs less on them than on the clock."""
    start = time.process_time()
    work()
    return time.process_time() - start


def draw_naive(case: Case, codes: Tensor, row: int, column: int, logits: list[Tensor]) -> None:
    """Draw one position of `codes` the usual way, and keep its logits, [N, K]."""
    logits.append(case.model(codes, case.labels, case.above)[:, :, row, column])
    codes[:, row, column] = choose(RULE.cumulative(logits[-1]), case.uniforms[:, row, column])


def forced_logits(case: Case, sampler: CachedSampler, codes: Tensor) -> Tensor:
    """Return the cached sampler's logits [N, P, K] when it has to take the codes [N, H, W]."""
    steps: list[Tensor] = []

    def force(logits: Tensor, row: int, column: int) -> Tensor:
        steps.append(logits.clone())
        return codes[:, row, column]

    sampler.run(case.labels, case.above, force)
    return torch.stack(steps, dim=1)


@torch.no_grad()
def draw_both(case: Case, sampler: CachedSampler, num_naive: int, repeats: int) -> tuple[Tensor, Tensor, Result]:
    """Draw maps with the cached sampler, and the first positions of them the usual way, alternating.

    Returns:
        the maps [N, P], the usual way's logits [N, num_naive, K], and a result that holds the times only.
    """
    model, positions = case.model, case.positions
    usual = torch.zeros(BATCH, model.height, model.width, dtype=torch.int64)
    drawn: list[Tensor] = []
    logits: list[Tensor] = []
    cached_times: list[float] = []
    naive_times: list[float] = []
    for repeat in range(repeats):
        time_s = timed(lambda: drawn.append(sampler.sample(case.labels, case.uniforms, RULE, case.above)[0]))
        cached_times.append(time_s / len(positions))
        for row, column in positions[num_naive * repeat // repeats : num_naive * (repeat + 1) // repeats]:
            naive_times.append(timed(partial(draw_naive, case, usual, row, column, logits)))
    assert all(torch.equal(again, drawn[0]) for again in drawn), "the cached sampler drew other maps the second time"
    times = Result(naive_s=statistics.median(naive_times), cached_s=statistics.median(cached_times))
    return drawn[0].flatten(1), torch.stack(logits, dim=1), times


@torch.no_grad()
def measure(case: Case, *, num_naive: int, repeats: int) -> Result:
    """Draw the maps both ways and compare."""
    sampler = CachedSampler(case.model, BATCH)
    num_naive = min(num_naive, len(case.positions))
    uniforms = case.uniforms.flatten(1)
    drawn, stepwise, times = draw_both(case, sampler, num_naive, repeats)
    # Both get the codes that the usual way drew and, where it was not run, the cached ones.
    codes = torch.cat([choose(RULE.cumulative(stepwise), uniforms[:, :num_naive]), drawn[:, num_naive:]], dim=1)
    maps = codes.unflatten(1, case.uniforms.shape[1:])
    full = case.model(maps, case.labels, case.above).flatten(2).transpose(1, 2)  # [N, P, K]
    usual = torch.cat([stepwise, full[:, num_naive:]], dim=1)
    forced = forced_logits(case, sampler, maps)
    difference = max(float((forced - usual).abs().max()), float((forced - full).abs().max()))

    cumulative = RULE.cumulative(usual)
    edges = cumulative / cumulative[..., -1:]
    near = (edges - uniforms[..., None]).abs().amin(dim=-1) < EDGE
    usual_codes = choose(cumulative, uniforms)
    different = choose(RULE.cumulative(forced), uniforms) != usual_codes
    wrong = drawn != usual_codes
    first_wrong = wrong & (wrong.cumsum(dim=1) == 1)
    return dataclasses.replace(
        times,
        naive_positions=num_naive,
        max_difference=difference,
        num_near=int(near.sum()),
        num_different=int(different.sum()),
        num_maps=int(wrong.any(dim=1).sum()),
        equal=difference <= LOGITS and not bool(((different | first_wrong) & ~near).any()),
    )


def processor() -> str:
    """Return the name of the CPU where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.machine()


def print_head(name: str, command: str, load: float) -> None:
    """Print date, machine and what is compared."""
    family = FAMILIES[name]
    print(f"# Drawing maps of codes: cached against a full pass per position, {name}\n")
    print(f"{datetime.date.today()}, {processor()}, load {load:.1f}, Python {platform.python_version()},")
    print(f"torch {torch.__version__}, one thread, float32, {BATCH} maps at a time, {family.num_codes} codes.")
    print(f"Command: `{command}`. Times are CPU seconds, medians, both sides alternating in one process.\n")
    for prior, config in family.priors.items():
        changed = {k: v for k, v in dataclasses.asdict(config).items() if k not in ("dropout", "activation")}
        print(f"- {prior}: " + ", ".join(f"{k} {v}" for k, v in changed.items() if v not in (0, False, True)))
    print(
        "\n| prior | grid | full passes timed | largest difference of logits | codes | uniforms near an edge |"
        " other choices | other maps | full pass per position, ms | cached, ms per position | ratio |"
    )
    print("|---" * 11 + "|")


def print_row(name: str, grid: int, result: Result) -> None:
    """Print the row of one case."""
    print(
        f"| {name} | {grid}x{grid} | {result.naive_positions} of {grid * grid} | {result.max_difference:.1e} |"
        f" {BATCH * grid * grid} | {result.num_near} | {result.num_different} | {result.num_maps} |"
        f" {result.naive_s * 1e3:.1f} | {result.cached_s * 1e3:.2f} | {result.ratio:.0f} |",
        flush=True,
    )


def main() -> None:
    """Measure all priors of a family on grids up to the one asked for."""
    parser = argparse.ArgumentParser(description="The cached sampler of a prior against a full pass per position.")
    parser.add_argument("--grid", type=int, help="sides of the largest map, a multiple of 4 (default 32; ham 28)")
    parser.add_argument("--short", action="store_true", help="fewer maps, one repetition")
    parser.add_argument("--family", choices=sorted(FAMILIES), default="vqvae2")
    options = parser.parse_args()
    family = FAMILIES[options.family]
    largest = family.grids[-1] if options.grid is None else options.grid
    if largest < 8 or largest % 4:
        parser.error(f"--grid is {largest}, must be a multiple of 4, 8 at least")
    torch.set_num_threads(1)
    grids = [8] if options.short else [grid for grid in family.grids if grid < largest]
    grids = sorted({*grids, largest})
    num_naive, repeats = (4, 1) if options.short else (12, 3)
    print_head(options.family, " ".join(["python", *sys.argv]), os.getloadavg()[0])
    equal, ratio = True, float("inf")
    for name, config in family.priors.items():
        if options.short and "without" in name:
            continue
        for grid in grids:
            # The smallest maps are drawn whole both ways.
            full = grid == 8 and not options.short
            result = measure(build(family, config, grid), num_naive=64 if full else num_naive, repeats=repeats)
            print_row(name, grid, result)
            equal = equal and result.equal
            if grid == largest:
                ratio = min(ratio, result.ratio)
    print(
        f"\nNear is within {EDGE:g} of an edge of the CDF; other choices are after equal codes, each must be near one."
    )
    print("Where not all passes were timed, a whole map the usual way would take the time of one as often as it has")
    print("positions: a pass costs the same at each. The ratio below is the smallest of the largest grid.\n")
    print(json.dumps({"equal": equal, "ratio": round(ratio, 1)}))
    sys.exit(0 if equal and (largest < REQUIRED_FROM or ratio >= REQUIRED) else 1)


if __name__ == "__main__":
    main()
