"""Checking a frozen set: `quick` (records and sizes), `full` (every byte), `deep` (every pixel).

Where codes were recorded, `quick` looks at their sidecars' footers and `full` at every sample's codes.

`full` is what a set must pass before it is opened for training. It needs nothing but the set: rows are compared with
what the plan gives, tars with the rows, and roots with replica.json, so that whichever was edited disagrees with the
others.
"""

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from caskit.manifests.errors import InputError
from caskit.manifests.plan import Plan
from caskit.manifests.reconstruction import Reconstruction
from caskit.manifests.replica import Replica
from caskit.manifests.roots import content_root_of, packing_root, rows_root
from caskit.manifests.sets import SetReference
from caskit.manifests.view import View
from caskit.shards.code_checks import CodesCheck, check_codes_listing, due_sidecars
from caskit.shards.commit import committed_shards, read_commit, shard_name
from caskit.shards.fault import MAX_FAULTS, BrokenSet, Fault
from caskit.shards.packing import check_parent
from caskit.shards.receipt import stamps_before_check, write_receipt
from caskit.shards.records import Heads, Records, read_heads, read_records, read_replica
from caskit.shards.row_checks import check_rows, rows_by_shard
from caskit.shards.scan import scanned
from caskit.shards.shard_rows import HeldRows, ShardRows, key_behind
from caskit.shards.store import Store, open_store
from caskit.shards.tar_checks import PixelCheck, check_listing, check_shard_table, check_sizes, check_tar
from caskit.shards.view_checks import check_view

LEVELS = ("quick", "full", "deep")
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerifyProgress:
    """How far one stage is, in shards: `tars`, `codes`, `pixels`, or `parent` of a repacked set."""

    stage: str
    done: int
    total: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """A set that passed.

    Attributes:
        location: where it is.
        replica: its identity.
        level: how it was checked.
        checks: what was compared and how many of them, in order.
        num_duplicates: images with the pixels of another one; known at level deep.
    """

    location: str
    replica: Replica
    level: str
    checks: tuple[tuple[str, int], ...]
    num_duplicates: int | None = None


def verify(
    reference: str | SetReference, level: str = "full", *, progress: Callable[[VerifyProgress], None] = lambda _: None
) -> Report:
    """Check a frozen set; from level full on this leaves the receipt that opening it asks for.

    Args:
        reference: `PATH_OR_URL[@sha256:prefix]`. From level full on, what a URL names is fetched into the cache.
        level: quick, full or deep.
        progress: called after every shard.

    Raises:
        InputError: no frozen set there, another one than the reference asks for, or an unknown level.
        IntegrityError: a record cannot be read; BrokenSet with up to 20 faults where they disagree.
    """
    if level not in LEVELS:
        raise InputError(f"level is {level!r}, allowed: {', '.join(LEVELS)}")
    reference = SetReference.parse(reference) if isinstance(reference, str) else reference
    location = reference.location
    if "://" in location and level != "quick":
        from caskit.shards.remote.mirror import fetched  # it stands on this module

        reference = fetched(reference, progress)
    store = open_store(reference.location)
    replica = read_replica(store)
    reference.check(replica.replica_id)
    stamps = stamps_before_check(store, replica.kind)
    report = _verify_streamed(store, replica, level, progress)
    if report is None:
        report = verify_records(read_records(reference), level, progress=progress)
    if level != "quick":
        write_receipt(store, replica, stamps)
    return dataclasses.replace(report, location=location)


def _verify_streamed(
    store: Store, replica: Replica, level: str, progress: Callable[[VerifyProgress], None]
) -> Report | None:
    """Check a set in memory that does not grow with its rows; None where that cannot be, and nothing is said then.

    So it is where a record is wrong, since what names a row at fault needs all of them; with a view, whose proof does;
    and with a repacked set but for level quick, since its parent is computed from all rows.
    """
    try:
        heads = read_heads(store, replica)
    except InputError:
        return None
    if isinstance(heads.origin, View) or (heads.packing is not None and level != "quick"):
        return None
    digests = [] if level == "quick" else ["image_sha256"]
    digests += ["codes_sha256"] if level != "quick" and due_sidecars(heads.origin, 1) else []
    if level == "deep" and isinstance(heads.origin, Plan | Reconstruction) and heads.origin.pixel_digests:
        digests.append("pixel_sha256")
    sides = ["width", "height"] if level == "deep" else []
    with scanned(heads, bytes_columns=digests, number_columns=sides) as rows:
        if rows is None:
            _log.info("%s: its records are wrong, all rows are read to say where", store.location)
            return None
        return _Check(heads, rows, level, progress).run([])


def verify_records(
    records: Records, level: str, *, progress: Callable[[VerifyProgress], None] = lambda _: None
) -> Report:
    """Check a set whose records have been read. Raises BrokenSet."""
    check = check_view if isinstance(records.origin, View) else check_rows
    faults = list(itertools.islice(check(records), MAX_FAULTS))
    rows_fit = not faults
    if records.num_shards > 2 * len(records.shards) + MAX_FAULTS:
        # A few bytes can state billions of samples; the names of all their shards are not worth the memory.
        message = f"holds {len(records.shards)} shards, the histogram gives {records.num_shards}"
        raise BrokenSet(records.store.location, [*faults, Fault(file="shards.parquet", message=message)][:MAX_FAULTS])
    if rows_fit:
        faults += itertools.islice(check_shard_table(records), MAX_FAULTS)

    def at_last() -> Iterator[Fault]:
        faults = check_roots(records)
        yield from faults
        if not faults and level != "quick":
            yield from check_parent(records, progress=partial(_repacked, progress))

    return _Check(records, HeldRows(records), level, progress).run(faults, rows_fit=rows_fit, at_last=at_last)


class _Check:
    """The part of a verification that comes after the rows: what lies beside the records."""

    def __init__(self, heads: Heads, rows: ShardRows, level: str, progress: Callable[[VerifyProgress], None]) -> None:
        self.heads, self.rows, self.level, self.progress = heads, rows, level, progress

    def run(
        self, faults: list[Fault], *, rows_fit: bool = True, at_last: Callable[[], Iterable[Fault]] = tuple
    ) -> Report:
        """Go on after some faults. Raises BrokenSet.

        Args:
            faults: of the records.
            rows_fit: none of them is of the rows.
            at_last: checks that are made if nothing else was found, but for the pixels.
        """
        heads, rows, level = self.heads, self.rows, self.level
        faults += itertools.islice(check_listing(heads, rows), MAX_FAULTS)
        if level == "quick":
            faults += itertools.islice(check_sizes(heads, rows), MAX_FAULTS)
        else:
            faults += itertools.islice(self._check_tars(faults), MAX_FAULTS)
        if rows_fit:
            faults += itertools.islice(self._check_sidecars(), MAX_FAULTS)
        if not faults:
            faults += at_last()
        num_duplicates: int | None = None
        if level == "deep" and not faults:
            with PixelCheck(heads) as pixels:
                faults += itertools.islice(self._check_pixels(pixels), MAX_FAULTS)
                num_duplicates = None if faults else pixels.num_duplicates
        if faults:
            raise BrokenSet(heads.store.location, faults[:MAX_FAULTS])
        return self._report(num_duplicates)

    def _report(self, num_duplicates: int | None) -> Report:
        """Say what was compared. The rows are as many as replica.json says, or this point is not reached."""
        heads, level = self.heads, self.level
        num_shards, num_samples = len(heads.shards), heads.replica.num_samples
        checks = [("rows", num_samples), ("tar sizes", num_shards), ("roots", 3)]
        if level != "quick":
            checks += [("tars read", num_shards), ("image digests", num_samples)]
        if heads.packing is not None and level != "quick":
            checks.append(("shards of the parent", heads.origin.num_shards))
        if due_sidecars(heads.origin, heads.num_shards):
            checks += [("sidecars of codes", num_shards)] if level == "quick" else [("digests of codes", num_samples)]
        if level == "deep":
            checks.append(("images decoded", num_samples))
        return Report(
            location=heads.store.location,
            replica=heads.replica,
            level=level,
            checks=tuple(checks),
            num_duplicates=num_duplicates,
        )

    def _tell(self, stage: str, shard: int) -> None:
        self.progress(VerifyProgress(stage=stage, done=shard + 1, total=self.heads.num_shards))

    def _check_tars(self, known: list[Fault]) -> Iterator[Fault]:
        """Read every tar; a sample or tar about which something is known already is not reported again."""
        keys = {fault.key for fault in known if fault.key is not None}
        shards = {fault.shard for fault in known if fault.file == "shards.parquet"}
        for shard, rows in enumerate(self.rows):
            for fault in check_tar(self.heads, shard, rows):
                if fault not in known and fault.key not in keys and not (fault.file == "shards.parquet" and shards):
                    yield fault
            self._tell("tars", shard)

    def _check_sidecars(self) -> Iterator[Fault]:
        """Check which sidecars of codes there are; read their footers at level quick, else all of them."""
        listed = check_codes_listing(self.heads.store, self.heads, lambda shard: key_behind(self.rows.of(shard), 0))
        known = list(itertools.islice(listed, MAX_FAULTS))
        yield from known
        if not due_sidecars(self.heads.origin, self.heads.num_shards):
            return
        check = CodesCheck(self.heads.store)
        for shard, rows in enumerate(self.rows):
            quick = self.level == "quick"
            found = check.check_footer(shard, rows.num_rows) if quick else check.check_shard(shard, rows)
            yield from (fault for fault in found if fault not in known)
            self._tell("codes", shard)

    def _check_pixels(self, pixels: PixelCheck) -> Iterator[Fault]:
        for shard, rows in enumerate(self.rows):
            yield from pixels.check_shard(shard, rows)
            self._tell("pixels", shard)


def _repacked(progress: Callable[[VerifyProgress], None], done: int, total: int) -> None:
    progress(VerifyProgress(stage="parent", done=done, total=total))


def check_roots(records: Records) -> list[Fault]:
    """Compare replica.json with the counts and roots of the records, which are known to agree with each other."""
    num_classes = len(records.classes)
    due = {
        "num_samples": records.manifest.num_rows,
        "num_classes": num_classes,
        "num_shards": len(records.shards),
        "class_list_sha256": records.classes.digest,
        "content_root": content_root_of(records.manifest, num_classes),
        "rows_root": rows_root(records.manifest),
        "packing_root": packing_root(records.shards),
    }
    wrong = {field: value for field, value in due.items() if getattr(records.replica, field) != value}
    faults = [
        Fault(file="replica.json", message=f"{field} is {getattr(records.replica, field)}, the set gives {value}")
        for field, value in wrong.items()
    ]
    return (_rows_unlike_commits(records) if {"rows_root", "content_root"} & set(wrong) else []) + faults


def _rows_unlike_commits(records: Records) -> list[Fault]:
    """Find rows that are not those once committed: what names the key if only a path or a score was edited.

    Commits are scratch and may be gone; then the root says that a row was edited, not which.
    """
    faults = []
    committed = committed_shards(records.store)
    for shard, places in enumerate(rows_by_shard(records)):
        if shard not in committed:
            continue
        rows = records.manifest.take(places).to_pylist()
        for row, there in zip(rows, read_commit(records.store, shard)[0].to_pylist(), strict=True):
            columns = [column for column in row if row[column] != there[column]]
            if columns:
                message = f"{', '.join(columns)}: not what was committed"
                faults.append(Fault(file="manifest.parquet", shard=shard_name(shard), key=row["key"], message=message))
    return faults[:MAX_FAULTS]
