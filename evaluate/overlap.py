"""Images of the test set among those that a classifier was trained on: compared by what they decode to.

One such image is enough to take the name CAS from a score: what is measured then is memory, not the generator. Images
of one colour are left out, for nobody can tell whose they are; and where the real training set is at hand, so are test
images that it holds as well, for a generator that was fitted to it may know them from there.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from caskit.manifests.errors import InputError, NotFinished
from caskit.manifests.sets import SetReference
from caskit.shards.dataset import FrozenSet, open_set
from caskit.train.provenance import parts_of

COMPARED = "sha256 of the decoded pixels"
MAX_PAIRS = 20
DIGEST_BYTES = 32
_THREADS = 2
_CHUNK = 512
_KEPT = 4  # sets whose digests stay in memory: the seeds of a score share them


def pixel_digests(data: FrozenSet, *, stop: Callable[[], bool] = lambda: False) -> np.ndarray:
    """Return the SHA-256 of every image's size and decoded pixels, [N] of 32 bytes; zeros for images of one colour.

    Each image is decoded once; the digests of the sets used last are kept.

    Raises:
        IntegrityError: an image is damaged.
        NotFinished: `stop` said so.
    """
    return _digests(_Handle(data, stop))


class _Handle:
    """A set, equal to any other one of the same samples: what digests are kept by."""

    def __init__(self, data: FrozenSet, stop: Callable[[], bool]) -> None:
        self.data, self.stop = data, stop
        self._key = (data.replica.content_root, data.expression.set_id, data.channels, data.store.location)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Handle) and other._key == self._key

    def __hash__(self) -> int:
        return hash(self._key)


@functools.lru_cache(maxsize=_KEPT)
def _digests(handle: _Handle) -> np.ndarray:
    data = handle.data
    found = np.zeros(len(data), dtype=f"V{DIGEST_BYTES}")

    def fill(start: int) -> None:
        for place in range(start, min(start + _CHUNK, len(data))):
            found[place] = np.void(image_digest(data.image(place)))

    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(data), _CHUNK * _THREADS):
            if handle.stop():
                raise NotFinished(f"score: stopped after {start} of {len(data)} images were looked for in the test set")
            list(pool.map(fill, range(start, min(start + _CHUNK * _THREADS, len(data)), _CHUNK)))
    found.flags.writeable = False
    return found


def image_digest(pixels: np.ndarray) -> bytes:
    """Return the SHA-256 of an image's size and pixels [H, W, C] uint8; 32 zeros for an image of one colour."""
    if pixels.min() == pixels.max():
        return bytes(DIGEST_BYTES)
    size = ",".join(map(str, pixels.shape)).encode()
    return hashlib.sha256(size + b"\0" + pixels.tobytes()).digest()


def is_blank(digests: np.ndarray) -> np.ndarray:
    """Return which digests [N] are those of images of one colour."""
    blank: np.ndarray = digests == np.void(bytes(DIGEST_BYTES))
    return blank


def find_overlap(
    trained: Sequence[FrozenSet],
    test: FrozenSet,
    *,
    real_train: FrozenSet | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Look for the images of a test set among those of the sets that a classifier was trained on.

    Args:
        trained: the sets; real ones beside synthetic ones are left out, for they are not the generator's.
        test: the test set.
        real_train: what the generator was fitted to, where it is at hand; decoded only if something was found.
        stop: asked now and then.

    Returns:
        The block `overlap` of score.json (docs/scores.md).
    """
    made = [data for data in trained if data.kind != "real"] or list(trained)
    places: dict[bytes, int] = {}
    for place, digest in enumerate(pixel_digests(test, stop=stop).tolist()):
        places.setdefault(digest, place)
    places.pop(bytes(DIGEST_BYTES), None)
    pairs: list[tuple[str, int]] = []
    for data in made:
        digests = pixel_digests(data, stop=stop).tolist()
        pairs += [(data.keys[n], places[digest]) for n, digest in enumerate(digests) if digest in places]
    found = {place for _, place in pairs}
    known = None
    if found and real_train is not None:
        theirs = set(pixel_digests(real_train, stop=stop).tolist())
        known = {place for digest, place in places.items() if place in found and digest in theirs}
    leaked = found - (known or set())
    named = [pair for pair in pairs if pair[1] in leaked] or pairs
    return {
        "compared": COMPARED,
        "images": sum(len(data) for data in made),
        "train_images": len(pairs),
        "test_images": len(found),
        "in_real_train": None if known is None else len(known),
        "leaked": len(leaked),
        "pairs": [{"train": key, "test": test.keys[place]} for key, place in named[:MAX_PAIRS]],
    }


def open_parts(described: Mapping[str, Any], location: Any) -> list[FrozenSet] | None:
    """Open the set, or the sets of a mixture, that a classifier says it was trained on; None where one is not there.

    Raises:
        IntegrityError: a set is there and is damaged.
    """
    parts = parts_of(dict(described))
    places = location if isinstance(location, list) else [location] * len(parts)
    if len(places) != len(parts):
        return None
    found = []
    for part, place in zip(parts, places, strict=True):
        opened = _open(part, place)
        if opened is None:
            return None
        found.append(opened)
    return found


def open_real_train(baseline: Mapping[str, Any] | None) -> FrozenSet | None:
    """Open what the Real row's classifier was trained on, from the record of its score; None where it is not there."""
    train = {} if baseline is None else baseline["classifier"]["train"]
    return None if "parts" in train else _open(train, train.get("location"))


def _open(described: Mapping[str, Any], location: Any) -> FrozenSet | None:
    if not isinstance(location, str) or not Path(location).is_dir():
        return None
    reference = SetReference(location=location, prefix=str(described["replica_id"]))
    try:
        data = open_set(reference)
    except InputError as error:
        if type(error) is InputError:
            return None  # another set is there now
        raise
    return data.selected(str(described["expression"]["sources"][0]["select"]))


def leaked_images(overlap: Mapping[str, Any] | None, judgement: Mapping[str, Any] | None = None) -> int:
    """Return how many test images are among those trained on and cannot be known from the real training set.

    Args:
        overlap: the block of that name, of equal pixels.
        judgement: the block `duplicates`, of near ones too.
    """
    return max(int(block["leaked"]) for block in (overlap, judgement, {"leaked": 0}) if block is not None)


def overlap_caveats(overlap: Mapping[str, Any] | None, metric: str) -> list[str]:
    """Say what was found, or that nobody has looked."""
    if overlap is None:
        return [
            "The images that the classifier was trained on were not at hand when it was scored, so nobody has looked "
            "whether images of the test set are among them."
        ]
    if not overlap["test_images"] or (metric == "leaked" and not overlap["leaked"]):
        return []
    many = f"{overlap['test_images']:,} of the test images are, pixel by pixel, among those trained on"
    if metric == "leaked":
        return [
            f"This is no CAS: {many}, {overlap['leaked']:,} of which no real training image explains. A classifier "
            "that has seen the test set is not tested by it."
        ]
    if overlap["in_real_train"]:
        many += f"; the real training set holds {overlap['in_real_train']:,} of these as well"
    return [f"{many[0].upper()}{many[1:]}."]
