"""Drawing with codes kept: for a plan that records them the codes are drawn first and then decoded."""

import dataclasses
from collections.abc import Mapping
from typing import cast

import numpy as np

from caskit.gen.family import CodedGenerator, Generator
from caskit.gen.streams import Streams
from caskit.manifests.codes import CodeLevel, check_levels
from caskit.manifests.errors import InputError, RunFailed
from caskit.manifests.plan import Numerics

_METHODS = ("code_shapes", "sample_codes", "decode_codes", "score_codes")

# How far outside its code's interval a uniform may lie when the CDF is computed again. Another batch size, other
# threads or another instruction set change logits by a few units in their last place, 1e-6 of a logit of 10 in
# float32, and CDFs by no more than the logits. 1e-4 leaves room for deep models; a forger gains from it only codes
# whose uniform lies that close to an edge, about 1e-4 of them per edge.
EPSILON_FLOAT32 = 1e-4
EPSILON_REDUCED = 1e-2  # bfloat16 and TensorFloat-32 keep 8 and 11 bits of a number

Codes = Mapping[str, np.ndarray]  # a map [N, h, w] uint16 per level


@dataclasses.dataclass(frozen=True, kw_only=True)
class Microbatch:
    """What a generator gave for one microbatch.

    Attributes:
        images: [n, H, W, C] uint8.
        finite: [n] bool.
        codes: what the images were decoded from, if they are recorded.
    """

    images: np.ndarray
    finite: np.ndarray
    codes: Codes | None = None

    def take(self, chosen: np.ndarray | slice) -> "Microbatch":
        """Return some of its samples."""
        codes = None if self.codes is None else {name: maps[chosen] for name, maps in self.codes.items()}
        return Microbatch(images=self.images[chosen], finite=self.finite[chosen], codes=codes)


def default_epsilon(numerics: Numerics) -> float:
    """Return how far a uniform may lie outside its code's interval, by the precision of the matrix products."""
    reduced = numerics.precision != "float32" or numerics.tf32
    return EPSILON_REDUCED if reduced else EPSILON_FLOAT32


def has_codes(generator: Generator) -> bool:
    """Say whether a loaded generator is a CodedGenerator."""
    return all(hasattr(generator, name) for name in _METHODS)


def as_coded(generator: Generator, family: str) -> CodedGenerator:
    """Return a generator as one with codes. Raises InputError if it has none."""
    if not has_codes(generator):
        raise InputError(f"record_codes is true, family {family} draws no codes; use false")
    return cast(CodedGenerator, generator)


def code_levels(generator: CodedGenerator) -> tuple[CodeLevel, ...]:
    """Return the levels of a generator's codes in the order in which they are drawn."""
    shapes = generator.code_shapes.items()
    levels = tuple(CodeLevel(name=name, height=height, width=width) for name, (height, width) in shapes)
    check_levels(levels)
    return levels


def draw(generator: Generator, labels: np.ndarray, streams: Streams, *, family: str, with_codes: bool) -> Microbatch:
    """Draw one image per label; with codes, by way of them.

    Raises:
        RunFailed: the codes are not what the interface promises.
    """
    if not with_codes:
        images, finite = generator.sample(labels, streams)
        return Microbatch(images=images, finite=finite)
    coded = as_coded(generator, family)
    codes = coded.sample_codes(labels, streams)
    check_codes(codes, code_levels(coded), len(labels), family)
    images, finite = coded.decode_codes(labels, codes)
    return Microbatch(images=images, finite=finite, codes=codes)


def check_codes(codes: Codes, levels: tuple[CodeLevel, ...], num: int, family: str) -> None:
    """Raise RunFailed unless a generator returned the maps of codes that its interface promises."""
    if list(codes) != [level.name for level in levels]:
        expected = ", ".join(level.name for level in levels)
        raise RunFailed(f"family {family}: sample_codes() returned levels {', '.join(codes)}, must be {expected}")
    for level in levels:
        given, shape = codes[level.name], (num, level.height, level.width)
        if not isinstance(given, np.ndarray) or given.dtype != np.uint16 or given.shape != shape:
            kind = f"{given.dtype} {given.shape}" if isinstance(given, np.ndarray) else type(given).__name__
            raise RunFailed(f"family {family}: sample_codes() returned {kind} for {level.name}, must be uint16 {shape}")
