"""What the rows of a set must be, computed from its record of origin alone, and where they are not."""

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from caskit.manifests.classes import sample_key
from caskit.manifests.imported import Import
from caskit.manifests.ingest import Ingest
from caskit.manifests.plan import Plan
from caskit.manifests.reconstruction import Reconstruction
from caskit.manifests.seeds import stream_keys
from caskit.manifests.view import View
from caskit.shards.codecs import MAX_PIXELS
from caskit.shards.commit import shard_name
from caskit.shards.fault import MAX_FAULTS, Fault
from caskit.shards.records import Described, Part, Records
from caskit.shards.tar import layout

FILE = "manifest.parquet"
ROWS_AT_ONCE = 2**16  # as Python objects


def numbers(part: Part, column: str) -> np.ndarray:
    """Return a column of numbers in manifest order, [N] int64."""
    values: np.ndarray = part.manifest.column(column).to_numpy()
    return values


def check_rows(records: Records) -> Iterator[Fault]:
    """Yield the faults of the rows, as far as they show without reading a tar."""
    num, num_rows = records.origin.num, records.manifest.num_rows
    if num > 2 * num_rows + MAX_FAULTS or records.replica.num_samples > 2 * num_rows + MAX_FAULTS:
        # A few bytes can state a histogram of billions; the keys of all of them are not worth the memory.
        yield Fault(file=FILE, message=f"holds {num_rows} rows, the histogram gives {num} samples")
        return
    if num != num_rows or not keys_are_due(records):
        yield from _key_faults(records, expected_keys(records), records.manifest.column("key").to_pylist())
        return  # rows no longer stand where they are due, so nothing else can be compared by place
    faults = list(itertools.islice(_place_faults(records), MAX_FAULTS))
    yield from faults
    if not faults:
        yield from offset_faults(records)
    yield from own_faults(records)


def own_faults(part: Part) -> Iterator[Fault]:
    """Yield the faults of rows that show in each row alone, once its key is known to be right."""
    yield from _image_size_faults(part)
    yield from _origin_faults(part)


def expected_keys(records: Records) -> list[str]:
    """Return the key of every sample in manifest order, as the histogram gives them."""
    return keys_at(records, *expected_places(records))


def keys_at(records: Described, labels: np.ndarray, ordinals: np.ndarray) -> list[str]:
    """Return the keys of samples given by label and ordinal, [n] int64 each."""
    ids = records.classes.ids
    return [sample_key(ids[label], n) for label, n in zip(labels.tolist(), ordinals.tolist(), strict=True)]


def keys_are_due(part: Part) -> bool:
    """Say whether every row has the key that is due in its place, ROWS_AT_ONCE at a time."""
    labels, ordinals = due_places(part)
    for start in range(0, len(labels), ROWS_AT_ONCE):
        window = slice(start, start + ROWS_AT_ONCE)
        present = part.manifest.column("key").slice(start, ROWS_AT_ONCE).to_pylist()
        if present != keys_at(part, labels[window], ordinals[window]):
            return False
    return True


def due_places(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Return label and ordinal that are due in the place of every row, each [N] int64; so many samples there are."""
    return places_at(part, np.arange(part.first, part.first + part.manifest.num_rows))


def places_at(described: Described, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return label and ordinal of the samples in some places of the manifest [n], each [n] int64."""
    ends = np.cumsum(described.histogram)
    labels = np.searchsorted(ends, places, side="right")
    return labels, places - (ends - described.histogram)[labels]


def expected_places(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """Return label and ordinal of every sample in manifest order, each [N] int64."""
    histogram = records.histogram
    starts = np.cumsum(histogram) - histogram
    return np.repeat(np.arange(len(histogram)), histogram), np.arange(histogram.sum()) - np.repeat(starts, histogram)


def planned_sample_ids(plan: Plan | Import) -> np.ndarray:
    """Return the sample_id of every sample in manifest order, [N] int64."""
    labels, ordinals = plan.draw_order.assign(0, plan.num)
    return np.lexsort((ordinals, labels))


def _key_faults(records: Records, expected: list[str], present: list[str]) -> Iterator[Fault]:
    counts = Counter(present)
    missing = [place for place, key in enumerate(expected) if key not in counts]
    known = set(expected)
    for row, key in enumerate(present):
        if key not in known:
            yield row_fault(records, row, "this key is not in the set: an added or edited row")
        elif counts[key] > 1:
            counts[key] = 1
            yield row_fault(records, row, "more than one row has this key")
    if missing:
        shards = _shards_of_missing(records, missing)
        for place in missing:
            yield Fault(file=FILE, shard=shards.get(place), key=expected[place], message="its row is missing")
    elif len(present) == len(expected):
        row = next(n for n, key in enumerate(present) if key != expected[n])
        yield row_fault(records, row, f"rows are not in the order of (label, ordinal), key {expected[row]} is due here")


def _shards_of_missing(records: Records, missing: list[int]) -> dict[int, str]:
    """Find which shards hold samples without rows: from the plan, or by the one sample_id that is not taken."""
    origin = records.origin
    if isinstance(origin, Plan | Import):
        sample_ids = planned_sample_ids(origin)
    else:
        free = np.setdiff1d(np.arange(origin.num), numbers(records, "sample_id"))
        if len(free) != 1 or len(missing) != 1:
            return {}
        sample_ids = np.full(origin.num, free[0])
    return {place: shard_name(int(sample_ids[place]) // records.samples_per_shard) for place in missing}


def _place_faults(records: Records) -> Iterator[Fault]:
    """Compare label, ordinal and the place in the tars; keys are known to be right."""
    origin = records.origin
    labels, ordinals = expected_places(records)
    yield from _differing(records, "label", labels)
    yield from _differing(records, "ordinal", ordinals)
    if isinstance(origin, Plan | Import):
        sample_ids = planned_sample_ids(origin)
        yield from _differing(records, "sample_id", sample_ids)
        yield from _differing(records, "shard", sample_ids // records.samples_per_shard)
        yield from _differing(records, "index_in_shard", sample_ids % records.samples_per_shard)
    else:
        yield from order_faults(records, ordinals == 0)


def order_faults(records: Records, first_of_class: np.ndarray) -> Iterator[Fault]:
    """Check that samples in the order of a source or a parent are numbered 0..N-1, and up in each class."""
    sample_ids, size = numbers(records, "sample_id"), records.samples_per_shard
    places = numbers(records, "shard") * size + numbers(records, "index_in_shard")
    if (places != sample_ids).any() or (numbers(records, "index_in_shard") >= size).any():
        yield from _differing(records, "sample_id", places)
        yield from _differing(records, "index_in_shard", sample_ids % size)
        return
    wrong = ~first_of_class & (np.diff(sample_ids, prepend=0) <= 0)
    wrong |= (sample_ids < 0) | (sample_ids >= len(sample_ids))
    _, first, inverse = np.unique(sample_ids, return_index=True, return_inverse=True)
    wrong |= first[inverse] != np.arange(len(sample_ids))
    for row in np.flatnonzero(wrong):
        yield row_fault(records, int(row), f"sample_id is {sample_ids[row]}: taken, out of range or out of order")


def offset_faults(records: Records) -> Iterator[Fault]:
    """Compare offsets with the one layout that the sizes before them allow; a wrong size shifts those after it."""
    offsets, nbytes = numbers(records, "tar_offset"), numbers(records, "nbytes")
    for rows in rows_by_shard(records):
        if int(nbytes[rows].min()) < 1:
            row = int(rows[np.argmin(nbytes[rows])])
            yield row_fault(records, row, f"nbytes is {nbytes[row]}, must be positive")
            continue
        expected, _ = layout(nbytes[rows])
        wrong = np.flatnonzero(offsets[rows] != expected)
        if len(wrong):
            row = int(rows[wrong[0]])
            message = f"tar_offset is {offsets[row]}, the sizes of the images before it give {expected[wrong[0]]}"
            yield row_fault(records, row, message)


def rows_by_shard(records: Records) -> Iterator[np.ndarray]:
    """Yield for each shard of the set the places of its rows in the manifest, ordered by index_in_shard."""
    shards = numbers(records, "shard")
    order = np.lexsort((numbers(records, "index_in_shard"), shards))
    bounds = np.searchsorted(shards[order], np.arange(records.num_shards + 1))
    for start, stop in itertools.pairwise(bounds):
        yield order[start:stop]


def rows_of_shard(records: Records, shard: int) -> pa.Table:
    """Return the rows of one shard, ordered by index_in_shard."""
    places = np.flatnonzero(numbers(records, "shard") == shard)
    return records.manifest.take(places[np.argsort(numbers(records, "index_in_shard")[places])])


def _image_size_faults(part: Part) -> Iterator[Fault]:
    origin = part.origin
    assert not isinstance(origin, View), "views are checked in view_checks.py"
    if not isinstance(origin, Ingest):
        yield from _differing(part, "width", np.full(part.manifest.num_rows, origin.width))
        yield from _differing(part, "height", np.full(part.manifest.num_rows, origin.height))
        return
    width, height = numbers(part, "width"), numbers(part, "height")
    bad = (np.minimum(width, height) < 1) | (np.maximum(width, height) > MAX_PIXELS) | (width * height > MAX_PIXELS)
    for row in np.flatnonzero(bad):
        yield row_fault(part, int(row), f"image of {width[row]}x{height[row]} pixels, at most {MAX_PIXELS} in all")


def _origin_faults(part: Part) -> Iterator[Fault]:
    """Compare the columns that say how a sample came to be: its stream, its path, or the key it was made from."""
    origin = part.origin
    synthetic = isinstance(origin, Plan)
    filled = {
        "stream_key": synthetic,
        "attempt": synthetic,
        "source": not synthetic,
        "filter_score": isinstance(origin, Plan) and origin.rejection is not None,
        "pixel_sha256": isinstance(origin, Plan | Reconstruction) and origin.pixel_digests,
        "codes_sha256": isinstance(origin, Plan) and origin.record_codes,
    }
    for column, must in filled.items():
        null = pc.is_null(part.manifest.column(column)).to_numpy()
        for place in np.flatnonzero(null == must):
            message = f"{column} is {'missing' if must else 'there'} in a {origin.KIND} set"
            if synthetic and column == "filter_score":
                message += f" with{'' if must else 'out'} rejection"
            yield row_fault(part, int(place), message)
    if isinstance(origin, Reconstruction):
        yield from _parent_key_faults(part)
    if not isinstance(origin, Plan):
        return
    yield from _stream_faults(part, origin)
    if origin.rejection is not None:
        yield from _score_faults(part)


def _stream_faults(part: Part, plan: Plan) -> Iterator[Fault]:
    """Compare stream keys with those that the plan's seed gives, ROWS_AT_ONCE at a time."""
    labels, ordinals = due_places(part)
    for start in range(0, part.manifest.num_rows, ROWS_AT_ONCE):
        some = part.manifest.select(["stream_key", "attempt"]).slice(start, ROWS_AT_ONCE)
        streams, tried = some.column("stream_key").to_pylist(), some.column("attempt")
        attempts = pc.fill_null(tried, -1).to_numpy()
        allowed = (attempts >= 0) & (attempts < plan.num_attempts)
        stop = start + some.num_rows
        due = stream_keys(plan.seed, labels[start:stop], ordinals[start:stop], np.where(allowed, attempts, 0))
        for place, (stream, key, fits) in enumerate(zip(streams, due, allowed.tolist(), strict=True)):
            if not fits:
                message = f"attempt is {tried[place].as_py()}, the plan allows 0..{plan.num_attempts - 1}"
                yield row_fault(part, start + place, message)
            elif stream != key:
                yield row_fault(part, start + place, "stream_key is not the one that the plan's seed gives")


def _parent_key_faults(part: Part) -> Iterator[Fault]:
    """Compare each reconstruction's key, which is known to be right, with the one it was made from: they are equal.

    Both sets have one class list, and a key spells class and ordinal.
    """
    columns = (part.manifest.column(name).to_pylist() for name in ("key", "source"))
    for row, (key, source) in enumerate(zip(*columns, strict=True)):
        if source is not None and source != key:  # none at all is a fault already
            yield row_fault(part, row, f"source is {source!a}, a reconstruction has the key of its real image")


def _score_faults(part: Part) -> Iterator[Fault]:
    """Check that scores are logarithms of probabilities; whether the judge gives them, only drawing again can tell."""
    scores = part.manifest.column("filter_score").to_numpy()  # null is NaN, a fault already
    known = ~pc.is_null(part.manifest.column("filter_score")).to_numpy()
    for row in np.flatnonzero(known & ~(np.isfinite(scores) & (scores <= 0))):
        yield row_fault(part, int(row), f"filter_score is {scores[row]}, a log-probability is finite and at most 0")


def _differing(part: Part, column: str, expected: np.ndarray) -> Iterator[Fault]:
    actual = numbers(part, column)
    for row in np.flatnonzero(actual != expected):
        yield row_fault(part, int(row), f"{column} is {actual[row]}, must be {expected[row]}")


def row_fault(part: Part, row: int, message: str) -> Fault:
    """Return what is wrong with a row, by its place in the manifest."""
    values: Any = part.manifest.select(["key", "shard"]).slice(row, 1).to_pylist()[0]
    shard = values["shard"] if 0 <= values["shard"] < part.num_shards else None
    return Fault(file=FILE, shard=None if shard is None else shard_name(shard), key=values["key"], message=message)
