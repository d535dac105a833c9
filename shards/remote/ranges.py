"""Which bytes of a tar to ask for, so that chosen images come in few requests and with few bytes beside them."""

import dataclasses
import itertools
from collections.abc import Sequence

WASTE = 0.04  # bytes beside the images that may come with them, as a share
MAX_RANGE_BYTES = 2**23


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """Bytes `start <= i < stop` of a tar, and the images inside: (place in the list asked for, offset, length)."""

    start: int
    stop: int
    images: tuple[tuple[int, int, int], ...]


def merge_ranges(offsets: Sequence[int], lengths: Sequence[int], *, waste: float = WASTE) -> list[Range]:
    """Return the requests for some images of one tar.

    Neighbours are joined over the smallest gaps first, while what lies in the gaps stays within `waste` of the images'
    bytes and a request within MAX_RANGE_BYTES (or one image).

    Args:
        offsets: of the images in bytes.
        lengths: of the images in bytes.
        waste: 0 asks for every image alone, unless they touch.
    """
    order = sorted(range(len(offsets)), key=lambda place: offsets[place])
    gaps = sorted(
        (offsets[after] - offsets[before] - lengths[before], number)
        for number, (before, after) in enumerate(itertools.pairwise(order))
    )
    left, joined = waste * sum(lengths), set()
    for gap, number in gaps:
        if gap > left:
            break
        left -= max(0, gap)
        joined.add(number)
    ranges: list[Range] = []
    for number, place in enumerate(order):
        image = (place, offsets[place], lengths[place])
        stop = offsets[place] + lengths[place]
        if number and number - 1 in joined and stop - ranges[-1].start <= MAX_RANGE_BYTES:
            ranges[-1] = Range(start=ranges[-1].start, stop=stop, images=(*ranges[-1].images, image))
        else:
            ranges.append(Range(start=offsets[place], stop=stop, images=(image,)))
    return ranges
