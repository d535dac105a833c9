"""Real images beside synthetic ones: the first of each class by ordinal, so that nobody picked them."""

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from caskit.evaluate.report.grid import contact_sheet
from caskit.evaluate.report.record import ClassScore, Score, SetRecord
from caskit.evaluate.report.text import Html, join, name_tag, percent, signed, tag
from caskit.manifests.errors import InputError
from caskit.shards.dataset import FrozenSet, open_set

NUM_IMAGES = 10  # of each class and set
MAX_CLASSES = 12  # with more, only the ends of the ranking are shown
_NUM_ENDS = MAX_CLASSES // 2
_MAX_TILE = 96  # pixels; larger images are reduced, or an ImageNet report would have tens of megabytes
_PIXELATED = 48  # images up to this side are enlarged without smoothing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strip:
    """The first images of one class in a row: one PNG, and the keys that it shows."""

    png: bytes
    keys: tuple[str, ...]
    side: int  # of the largest image as stored, pixels

    @property
    def pixelated(self) -> bool:
        """Whether the images are small enough to be enlarged without smoothing."""
        return self.side <= _PIXELATED


class Shelf:
    """The sets that scores name, opened once each; a set that is not at hand leaves the reason instead."""

    def __init__(self, locations: Mapping[str, str]) -> None:
        """Take locations by replica_id; they go before those that the scores remember."""
        self._locations = dict(locations)
        self._opened: dict[str, FrozenSet] = {}

    def location(self, record: SetRecord) -> str | None:
        """Return where a set is expected to be, as the current folder calls it."""
        location = self._locations.get(record.replica_id, record.location)
        if location is not None and Path(location).is_relative_to(Path.cwd()):
            return str(Path(location).relative_to(Path.cwd()))
        return location

    def strips(self, record: SetRecord, labels: Sequence[int]) -> dict[int, Strip] | str:
        """Return the first images of each label from the verified set of that id, or the reason why there are none."""
        try:
            return strips(self._open(record), labels)
        except (InputError, OSError) as error:
            return str(error)

    def images(self, record: SetRecord, keys: Sequence[Sequence[str]]) -> list[Strip] | str:
        """Return a strip per list of keys from the verified set of that id, or the reason why there is none."""
        try:
            found = self._open(record)
            places = {key: place for place, key in enumerate(found.keys)}
            return [_strip(found, [places[key] for key in some]) for some in keys]
        except KeyError as error:
            return f"{record.location}: has no key {error}"
        except (InputError, OSError) as error:
            return str(error)

    def _open(self, record: SetRecord) -> FrozenSet:
        location = self.location(record)
        if location is None:
            raise InputError("the score does not say where the set is.")
        if record.replica_id not in self._opened:
            self._opened[record.replica_id] = open_set(f"{location}@sha256:{record.replica_id}")
        return self._opened[record.replica_id]


def strips(found: FrozenSet, labels: Sequence[int], *, num: int = NUM_IMAGES) -> dict[int, Strip]:
    """Read the first `num` images by ordinal of each label; a label without images has no strip."""
    ordinals = found.table.column("ordinal").to_numpy()
    result = {}
    for label in labels:
        rows = np.flatnonzero((found.labels == label) & (ordinals < num))
        rows = rows[np.argsort(ordinals[rows], kind="stable")]
        if len(rows):
            result[label] = _strip(found, rows.tolist(), columns=num)
    return result


def _strip(found: FrozenSet, rows: Sequence[int], *, columns: int = NUM_IMAGES) -> Strip:
    keys, images = found.table.column("key"), [found.image(row) for row in rows]
    side = max(max(image.shape[:2]) for image in images)
    png = contact_sheet(images, columns=columns, tile=min(side, _MAX_TILE))
    return Strip(png=png, keys=tuple(keys[row].as_py() for row in rows), side=side)


def gallery_section(score: Score, shelf: Shelf, taken_for: Mapping[int, Html]) -> Html:
    """Show real test images above the images that the score is about, for the best and the worst classes."""
    ranked = score.ranked()
    everything = len(ranked) <= MAX_CLASSES
    chosen = ranked if everything else [*ranked[:_NUM_ENDS], *ranked[-_NUM_ENDS:]]
    records = _rows_of(score)
    shown, missing = {}, []
    for title, record in records.items():
        found = shelf.strips(record, [one.label for one in chosen])
        if isinstance(found, str):
            missing.append(tag("p", {"class": "warn"}, f"{title} images are not shown: {found}"))
        else:
            shown[title] = found
    if not shown:
        return join(tag("h3", None, "Images"), missing)
    ranks = {one.label: rank for rank, one in enumerate(ranked, start=1)}
    blocks = [_block(one, ranks[one.label], len(ranked), shown, taken_for) for one in chosen]
    parts = [tag("h3", None, "Images"), tag("p", {"class": "soft"}, _note(records, everything, shown)), missing]
    if everything:
        return join(parts, tag("div", {"class": "gallery"}, blocks))
    best, worst = blocks[:_NUM_ENDS], blocks[_NUM_ENDS:]
    parts += [tag("h3", None, f"Best {len(best)} classes"), tag("div", {"class": "gallery"}, best)]
    return join(parts, tag("h3", None, f"Worst {len(worst)} classes"), tag("div", {"class": "gallery"}, worst))


def _rows_of(score: Score) -> dict[str, SetRecord]:
    if score.metric == "GAN-test":
        return {"Real": score.train, "Synthetic": score.test}
    if score.metric == "real":
        return {"Test": score.test, "Training": score.train}
    return {"Real": score.test, "Reconstructed" if score.metric == "reconstructions" else "Synthetic": score.train}


def _note(records: Mapping[str, SetRecord], everything: bool, shown: Mapping[str, Mapping[int, Strip]]) -> str:
    which = "Every class" if everything else "The classes at both ends of the ranking above"
    sets = "; ".join(f"{title}: {record.title}" for title, record in records.items())
    note = (
        f"{which}, the first {NUM_IMAGES} images of each by ordinal: nothing was picked. Rows are {sets}. "
        "Point at one to read the keys of its images."
    )
    reduced = any(strip.side > _MAX_TILE for found in shown.values() for strip in found.values())
    return f"{note} Images are reduced to {_MAX_TILE} pixels." if reduced else note


def _block(
    one: ClassScore, rank: int, total: int, shown: Mapping[str, Mapping[int, Strip]], taken_for: Mapping[int, Html]
) -> Html:
    number = f"{percent(one.score.value, 1)} %"
    if one.difference is not None:
        number += f", {signed(100 * one.difference, 1)} points"
    head = tag("div", {"class": "class-head"}, tag("b", None, name_tag(one.name)), tag("span", None, number))
    rows = [_strip_row(title, found.get(one.label), one) for title, found in shown.items()]
    said = taken_for.get(one.label)
    wrong = tag("div", {"class": "taken"}, "taken for ", said) if said else None
    return tag("div", {"class": "class-block", "title": f"rank {rank} of {total}"}, head, rows, wrong)


def _strip_row(title: str, strip: Strip | None, one: ClassScore) -> Html:
    label = tag("span", {"class": "score-text" if title == "Synthetic" else "real-text"}, title)
    if strip is None:
        return tag("div", {"class": "strip-row"}, label, tag("span", {"class": "soft"}, "no image of this class"))
    source = "data:image/png;base64," + base64.b64encode(strip.png).decode("ascii")
    image = {
        "src": source,
        "class": "pixels" if strip.pixelated else None,
        "alt": f"{title}: the first {len(strip.keys)} images of class {one.name}",
        "title": " ".join(strip.keys),
    }
    return tag("div", {"class": "strip-row"}, label, tag("img", image))
