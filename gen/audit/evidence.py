"""Reads what a replica holds of its samples, each image and each set of codes against the digest in its row."""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from caskit.gen.audit.report import Findings
from caskit.manifests.codes import CodeLevel, codes_digest
from caskit.manifests.errors import IntegrityError
from caskit.manifests.plan import Plan
from caskit.shards.codecs import UndecodableImage, decode
from caskit.shards.codes import array_of, codes_path, open_codes
from caskit.shards.commit import shard_path
from caskit.shards.records import Records


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """One sample as stored.

    Attributes:
        key, label, ordinal, attempt, filter_score: of its row, which was compared with the plan.
        stored: the image's bytes.
        pixels: decoded, [H, W, C] uint8.
        codes: a map [h, w] uint16 per level; empty where none are recorded.
    """

    key: str
    label: int
    ordinal: int
    attempt: int
    filter_score: float | None
    stored: bytes
    pixels: np.ndarray
    codes: Mapping[str, np.ndarray]


class Evidence:
    """The samples of a replica whose rows agree with its plan.

    Args:
        records: of the replica.
        plan: its plan.
        levels: of the codes that the generator draws; empty where none are recorded.
        findings: gets what cannot be read.
    """

    def __init__(self, records: Records, plan: Plan, levels: tuple[CodeLevel, ...], findings: Findings) -> None:
        self._records, self._plan, self._levels, self._findings = records, plan, levels, findings
        self.table = records.manifest.sort_by("sample_id")
        self._rows: tuple[int, list[dict[str, Any]]] | None = None  # of the shard asked for last

    def by_shard(self, sample_ids: np.ndarray) -> Iterator[tuple[int, list[int]]]:
        """Yield the shards of some samples, with the samples' places in them."""
        shards, places = np.divmod(sample_ids, self._plan.samples_per_shard)
        for shard in np.unique(shards).tolist():
            yield shard, places[shards == shard].tolist()

    def rows(self, shard: int) -> list[dict[str, Any]]:
        """Return the rows of a shard in its order."""
        if self._rows is None or self._rows[0] != shard:
            start, stop = self._plan.shard_range(shard)
            self._rows = shard, self.table.slice(start, stop - start).to_pylist()
        return self._rows[1]

    def items(self, shard: int, places: Sequence[int]) -> dict[int, Item]:
        """Read samples of one shard, by place; those that cannot be read are noted and left out."""
        rows = self.rows(shard)
        codes = self._codes(shard, rows, places) if self._levels else {place: {} for place in places}
        items = {}
        for place in places:
            stored, pixels = self._image(shard, rows[place])
            if pixels is not None and place in codes:
                fields = ("key", "label", "ordinal", "attempt", "filter_score")
                row = {name: rows[place][name] for name in fields}
                items[place] = Item(**row, stored=stored, pixels=pixels, codes=codes[place])
        return items

    def _image(self, shard: int, row: Mapping[str, Any]) -> tuple[bytes, np.ndarray | None]:
        plan, name = self._plan, shard_path(row["shard"])  # where it lies, in a repacked set not where it was drawn
        try:
            data = self._records.store.read(name, row["tar_offset"], row["nbytes"])
            if hashlib.sha256(data).digest() != row["image_sha256"]:
                raise IntegrityError(f"{name}: the image's bytes are not those whose SHA-256 its row holds")
            pixels = decode(
                data, extension=plan.codec.extension, channels=plan.channels, max_pixels=plan.height * plan.width
            )
        except (FileNotFoundError, IntegrityError, UndecodableImage) as error:
            reason = f"{name}: missing" if isinstance(error, FileNotFoundError) else str(error)
            self._findings.fail(kind="image", key=row["key"], message=reason)
            return b"", None
        if pixels.shape != (plan.height, plan.width, plan.channels):
            size = f"{pixels.shape[1]}x{pixels.shape[0]}"
            self._findings.fail(kind="image", key=row["key"], message=f"{name}: image of {size}")
            return b"", None
        return data, pixels

    def _codes(
        self, shard: int, rows: Sequence[Mapping[str, Any]], places: Sequence[int]
    ) -> dict[int, dict[str, np.ndarray]]:
        """Read the codes of some places of a shard, from the sidecars that hold them: one, if it was not repacked."""
        found: dict[int, dict[str, np.ndarray]] = {}
        for number in sorted({rows[place]["shard"] for place in places}):
            due = [place for place, row in enumerate(rows) if row["shard"] == number]
            found |= self._codes_of(number, rows, due, set(places) & set(due))
        return found

    def _codes_of(
        self, number: int, rows: Sequence[Mapping[str, Any]], due: Sequence[int], wanted: set[int]
    ) -> dict[int, dict[str, np.ndarray]]:
        """Read codes of one sidecar; `due` are the places that lie in it, one after the other."""
        found = {}
        name, first = codes_path(number), int(rows[due[0]]["index_in_shard"])
        try:
            with open_codes(self._records.store, number, max_rows=self._records.samples_per_shard) as codes:
                if codes.levels != self._levels:
                    raise IntegrityError(f"{name}: {_shown(codes.levels)}, the generator draws {_shown(self._levels)}")
                for place, sample in zip(due, itertools.islice(codes, first, None), strict=False):
                    if sample.key != rows[place]["key"]:
                        raise IntegrityError(f"{name}: holds key {sample.key[:99]!a} where another one is due")
                    if place not in wanted:
                        continue
                    wanted.discard(place)
                    if codes_digest(codes.levels, sample.maps) != rows[place]["codes_sha256"]:
                        reason = f"{name}: the codes are not those whose SHA-256 its row holds"
                        self._findings.fail(kind="codes", key=sample.key, message=reason)
                        continue
                    pairs = zip(codes.levels, sample.maps, strict=True)
                    found[place] = {level.name: array_of(level, stored) for level, stored in pairs}
                    if not wanted:
                        break
            reason = f"{name}: its codes are missing"
        except (FileNotFoundError, IntegrityError) as error:
            reason = f"{name}: missing" if isinstance(error, FileNotFoundError) else str(error)
        for place in sorted(wanted):
            self._findings.fail(kind="codes", key=rows[place]["key"], message=reason)
        return found


def _shown(levels: tuple[CodeLevel, ...]) -> str:
    return "levels " + ", ".join(f"{level.name} {level.height}x{level.width}" for level in levels)
