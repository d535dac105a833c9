"""The search for copies: within a set, of its training images, of test images; and what a collapse leaves."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caskit.evaluate.duplicates import findings
from caskit.evaluate.duplicates.features import NULL_IMAGES, TEST, TRAIN, Looked, find_near_copies
from caskit.evaluate.duplicates.findings import Found
from caskit.evaluate.duplicates.folder import DUPLICATES_VERSION, block_of
from caskit.evaluate.duplicates.pixels import MAX_BYTES, Pixels, largest_side
from caskit.evaluate.duplicates.search import Search, spaced
from caskit.evaluate.duplicates.verdicts import verdicts
from caskit.evaluate.fidelity.extractor import Extractor
from caskit.manifests.errors import InputError
from caskit.manifests.origin import ORIGIN_FILES
from caskit.manifests.plan import FORMAT_VERSION
from caskit.shards.dataset import FrozenSet
from caskit.train.engine import Progress
from caskit.train.provenance import describe_set


@dataclasses.dataclass(frozen=True, kw_only=True)
class DuplicatesConfig:
    """How copies are looked for.

    Attributes:
        tolerance: up to this rms difference of the reduced images, in grey levels, two images are near.
        side: of the reduced images, pixels; None for the largest that vectors of 1024 values allow, or the images' own.
        first: look at the first so many images of the set, which in a replica are of all classes; None for all.
    """

    tolerance: float = 4.0
    side: int | None = None
    first: int | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        if not 0 <= self.tolerance <= 64:
            raise InputError(f"tolerance is {self.tolerance:g} grey levels, allowed: 0 to 64")
        if self.side is not None and self.side < 1:
            raise InputError(f"side is {self.side}, allowed: 1 or more")
        if self.first is not None and self.first < 2:
            raise InputError(f"first is {self.first}, allowed: 2 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was found.

    Attributes:
        record: of duplicates.json, without its id and pictures.
        pairs: per part (`within`, `train`, `test`, and TRAIN and TEST of features.py) the images of the nearest pairs,
            ours and theirs, [H, W, C] uint8.
    """

    record: dict[str, Any]
    pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]]


def inspect_duplicates(
    data: FrozenSet,
    *,
    real_train: FrozenSet | None = None,
    real_test: FrozenSet | None = None,
    config: DuplicatesConfig | None = None,
    extractor: Extractor | None = None,
    weights: Path | None = None,
    device: torch.device,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Inspection:
    """Look for copies in a set, and in it of real images.

    Args:
        data: the set, as a rule a replica.
        real_train: what its generator was fitted to; without it nothing is said of memory.
        real_test: what it is scored on; without it there is no null for memory and no search for a leak.
        config: how.
        extractor: a network that sees near copies, which pixels do not show; needs both real sets.
        weights: where its weights are, for the record.
        device: where to compute.
        progress: told how far each stage is; steps are images.
        stop: asked now and then.

    Raises:
        InputError: the sets do not fit together, or are too large for the memory that is allowed.
        IntegrityError: an image is damaged.
        NotFinished: `stop` said so.
        RunFailed: a feature is not finite.
    """
    config = config or DuplicatesConfig()
    chosen = data if config.first is None else data.selected(f"first:{config.first}")
    side = _check(chosen, real_train, real_test, config)
    if extractor is not None and (real_train is None or real_test is None):
        raise InputError(f"extractor {extractor.identity.name}: needs both real sets, for features have no other null")
    search = Search(device=device, progress=progress, stop=stop)
    ours = search.read(chosen, "the set", side)
    train = None if real_train is None else search.read(real_train, "the training set", side)
    test = None if real_test is None else search.read(real_test, "the test set", side)
    inside = search.find(ours.vectors, ours.vectors, "within the set", same=np.arange(len(ours)))
    record: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "duplicates_version": DUPLICATES_VERSION,
        "method": _method(config, side, data.channels),
        "set": _described(chosen),
        "real_train": None if real_train is None else _described(real_train),
        "real_test": None if real_test is None else _described(real_test),
        "images": _images(ours, chosen),
        "within": findings.within_numbers(ours, inside, config.tolerance),
        "train": None,
        "test": None,
        "features": None,
    }
    pairs = {"within": findings.worst_pairs(inside, ~ours.blank, ours, ours, once=True)}
    to_train = None if train is None else search.find(ours.vectors, train.vectors, "nearest training images")
    real_near = None
    if train is not None and to_train is not None:
        record["within"]["null"], real_near = _null_within(train, len(ours), search, config, len(data.classes))
        record["train"] = _train(ours, train, test, to_train, search, config)
        pairs["train"] = findings.worst_pairs(to_train, ~ours.blank, ours, train, once=False)
    if test is not None:
        to_test = search.find(ours.vectors, test.vectors, "nearest test images")
        record["test"], leaked = _test(ours, train, test, to_train, to_test, config.tolerance)
        pairs["test"] = findings.worst_pairs(to_test, leaked if leaked.any() else ~ours.blank, ours, test, once=False)
    if extractor is not None and real_train is not None and real_test is not None:
        assert train is not None and test is not None, "both were read"
        mine, theirs, tested = (
            Looked(data=one, pixels=pixels) for one, pixels in ((chosen, ours), (real_train, train), (real_test, test))
        )
        seen = find_near_copies(extractor, mine, theirs, tested, search, weights=weights)
        record["features"] = seen.record
        pairs |= seen.pairs
    near = inside.nearest <= config.tolerance
    record["classes"] = _named(findings.class_numbers(ours, near, train, real_near, len(data.classes)), data)
    record["origin"] = _origin(data, ours, real_train, train, test)
    record["findings"] = verdicts(record)
    others = {"within": chosen, "train": real_train, "test": real_test, TRAIN: real_train, TEST: real_test}
    pictures = {}
    for part, found in pairs.items():
        other = others[part]
        assert other is not None, "pairs are of a set that is there"
        places = [pair.pop("places") for pair in found]
        block_of(record, part)["pairs"] = found
        pictures[part] = [(chosen.image(mine), other.image(theirs)) for mine, theirs in places]
    return Inspection(record=record, pairs=pictures)


def _check(data: FrozenSet, real_train: FrozenSet | None, real_test: FrozenSet | None, config: DuplicatesConfig) -> int:
    """Return the side of the reduced images. Raises InputError for sets that cannot be compared."""
    location, total = data.store.location, len(data)
    for other, splits in ((real_train, ("train", None)), (real_test, ("test", None))):
        if other is None:
            continue
        where = other.store.location
        total += len(other)
        if other.kind != "real" or other.split not in splits:
            found = other.kind if other.kind != "real" else f"a {other.split} split"
            raise InputError(f"{where}: is {found}, wanted is the real {splits[0]} set")
        if data.kind == "real" and other.replica.content_root == data.replica.content_root:
            raise InputError(f"{where}: holds the very images of {location}; a set is not compared with itself")
        if other.classes.digest != data.classes.digest:
            raise InputError(f"{where}: class list differs from that of {location}")
        if other.channels != data.channels:
            raise InputError(f"{where}: images have {other.channels} channels, those of {location} {data.channels}")
        if len(other) < findings.NUM_NEIGHBOURS:
            raise InputError(f"{where}: has {len(other)} images, at least {findings.NUM_NEIGHBOURS} are needed")
    if len(data) <= findings.NUM_NEIGHBOURS:
        raise InputError(f"{location}: has {len(data)} images, more than {findings.NUM_NEIGHBOURS} are needed")
    sizes = [int(data.table.column(name).to_numpy().min()) for name in ("height", "width")]
    side = config.side or min(largest_side(data.channels), *sizes)
    if side > largest_side(data.channels):
        allowed = f"1..{largest_side(data.channels)} for images of {data.channels} channels"
        raise InputError(f"side is {side}, allowed: {allowed}")
    if total * side * side * data.channels > MAX_BYTES:
        raise InputError(
            f"{location}: {total:,} images of {side}x{side} take {total * side * side * data.channels:,} bytes, "
            f"{MAX_BYTES:,} are allowed; look at fewer with --first, or at smaller ones with --side"
        )
    return side


def _method(config: DuplicatesConfig, side: int, channels: int) -> dict[str, Any]:
    return {
        "vectors": "pixels",
        "side": side,
        "channels": channels,
        "tolerance": config.tolerance,
        "first": config.first,
        "neighbours": findings.NUM_NEIGHBOURS,
        "null_quantile": findings.NULL_QUANTILE,
        "null_images": NULL_IMAGES,
        "excess": findings.EXCESS,
    }


def _described(data: FrozenSet) -> dict[str, Any]:
    return {**describe_set(data), "location": str(Path(data.store.location).resolve())}


def _images(ours: Pixels, data: FrozenSet) -> dict[str, Any]:
    """Count images of one colour, and those that were drawn again because a generator's output was not finite."""
    attempts = data.table.column("attempt").drop_null().to_numpy()
    filtered = data.plan is not None and data.plan.rejection is not None  # whose attempts are candidates
    redrawn = int(np.count_nonzero(attempts)) if len(attempts) and not filtered else None
    keys = [ours.keys[place] for place in np.flatnonzero(ours.blank)[: findings.MAX_PAIRS].tolist()]
    return {"num": len(ours), "blank": int(ours.blank.sum()), "blank_keys": keys, "redrawn": redrawn}


def _null_within(
    train: Pixels, num: int, search: Search, config: DuplicatesConfig, num_classes: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Return how many of the real training images are near another one, among as many as the set has; and by label."""
    among = spaced(len(train), num)
    asked = spaced(len(among), NULL_IMAGES)
    vectors = train.vectors[among]
    found = search.find(vectors[asked], vectors, "within the training set", same=asked)
    _, first = np.unique(train.digests[among].view("S32"), return_index=True)
    repeated = np.ones(len(among), dtype=bool)
    repeated[first] = False
    near, labels = found.nearest <= config.tolerance, train.labels[among][asked]
    counts = np.maximum(np.bincount(labels, minlength=num_classes), 1)
    numbers = {
        "exact": findings.share(repeated),
        "near": findings.share(near),
        "distance": findings.spread_of(found.nearest),
    }
    return numbers, np.bincount(labels, weights=near, minlength=num_classes) / counts


def _train(
    ours: Pixels, train: Pixels, test: Pixels | None, to_train: Found, search: Search, config: DuplicatesConfig
) -> dict[str, Any]:
    """Count copies of training images, beside what real test images have."""
    null, threshold = None, None
    if test is not None:
        asked = spaced(len(test), NULL_IMAGES)
        found = search.find(test.vectors[asked], train.vectors, "test to training images")
        threshold = float(np.quantile(found.ratios[~test.blank[asked]], findings.NULL_QUANTILE))
        equal = findings.equal_to(test, train)[asked]
        null = findings.copy_numbers(equal, found, test.blank[asked], config.tolerance, threshold)
    equal = findings.equal_to(ours, train)
    numbers = findings.copy_numbers(equal, to_train, ours.blank, config.tolerance, threshold)
    return {**numbers, "threshold": threshold, "null": null, "memorised": findings.memorised(numbers, null)}


def _test(
    ours: Pixels, train: Pixels | None, test: Pixels, to_train: Found | None, to_test: Found, tolerance: float
) -> tuple[dict[str, Any], np.ndarray]:
    """Count copies of test images. A leak is what no training image explains as well."""
    equal, near = findings.equal_to(ours, test), (to_test.nearest <= tolerance) & ~ours.blank
    leaked, nearer = equal | near, None
    if train is not None and to_train is not None:
        leaked &= ~findings.equal_to(ours, train) & (to_test.nearest < to_train.nearest)
        share = findings.share(to_test.nearest < to_train.nearest)
        nearer = {**share, "expected": len(test) / (len(test) + len(train))}
    numbers = findings.copy_numbers(equal, to_test, ours.blank, tolerance, None)
    images = len(np.unique(to_test.places[leaked, 0]))
    block = {**numbers, "leaked": {**findings.share(leaked), "test_images": images}, "nearer_than_train": nearer}
    return block, leaked


def _named(rows: list[dict[str, Any]], data: FrozenSet) -> list[dict[str, Any]]:
    classes = zip(data.classes.ids, data.classes.names, rows, strict=True)
    return [{**row, "id": one, "name": name} for one, name, row in classes]


def _origin(
    data: FrozenSet, ours: Pixels, real_train: FrozenSet | None, train: Pixels | None, test: Pixels | None
) -> dict[str, Any]:
    """Say what the set says it is, and how many of its images are real ones."""
    real = np.zeros(len(ours), dtype=bool)
    for other in (train, test):
        if other is not None:
            real |= findings.equal_to(ours, other)
    looked = train is not None or test is not None
    parent = None if data.reconstruction is None else data.reconstruction.parent.replica_id
    return {
        "kind": data.kind,
        "record": ORIGIN_FILES[data.kind],
        "origin_id": data.replica.origin_sha256,
        "real": findings.share(real) if looked else None,
        "parent_is_train": None if parent is None or real_train is None else parent == real_train.replica.replica_id,
    }
