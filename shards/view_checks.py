"""What the rows of a view must be: samples of the set that it is a part of, all that it says, in their order."""

import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow.compute as pc

from caskit.manifests.classes import sample_key
from caskit.manifests.imported import Import
from caskit.manifests.membership import proven_root
from caskit.manifests.plan import Plan
from caskit.manifests.rows import iterate_rows
from caskit.manifests.seeds import stream_key
from caskit.manifests.view import CLASSES, KEYS, View, chosen_ordinals
from caskit.shards.fault import MAX_FAULTS, Fault
from caskit.shards.records import Records
from caskit.shards.row_checks import FILE, numbers, offset_faults, order_faults, row_fault


def check_view(records: Records) -> Iterator[Fault]:
    """Yield the faults of a view's rows, as far as they show without reading a tar."""
    view = records.origin
    assert isinstance(view, View), "only views are checked here"
    if records.manifest.num_rows != view.num:
        yield Fault(file=FILE, message=f"holds {records.manifest.num_rows} rows, view.json says {view.num}")
        return
    faults = list(itertools.islice(itertools.chain(_key_faults(records, view), _select_faults(view)), MAX_FAULTS))
    if not faults:
        faults = list(itertools.islice(_place_faults(records, view), MAX_FAULTS))
        faults += itertools.islice(_origin_faults(records, view), MAX_FAULTS)
    yield from faults
    if not faults:
        yield from offset_faults(records)
        yield from _proof_faults(records, view)


def _key_faults(records: Records, view: View) -> Iterator[Fault]:
    """Check that keys spell label and ordinal, that they are the parent's, ascending, and as many as stated."""
    whole, last = view.origin.histogram, (-1, -1)
    counts = [0] * len(whole)
    columns = records.manifest.select(["key", "label", "ordinal"])
    for row, found in enumerate(iterate_rows(columns)):
        key, label, ordinal = found["key"], found["label"], found["ordinal"]
        if not 0 <= label < len(whole) or not 0 <= ordinal < whole[label]:
            yield row_fault(
                records, row, f"ordinal {ordinal} of label {label} is not of the set that this is a view of"
            )
            return
        if key != sample_key(view.classes.ids[label], ordinal):
            yield row_fault(records, row, f"does not spell class {label}, ordinal {ordinal}")
        if (label, ordinal) <= last:
            yield row_fault(records, row, "rows are not in the order of (label, ordinal), or one is there twice")
        last = (label, ordinal)
        counts[label] += 1
    if tuple(counts) != view.histogram:
        yield Fault(file=FILE, message="rows per class are not those of view.json")


def _select_faults(view: View) -> Iterator[Fault]:
    """Check that a view of whole classes or shards is whole; which samples it then has, the histogram decides."""
    if view.select == KEYS:
        return
    kind, _, text = view.select.partition(":")
    if kind == CLASSES:
        labels = [int(number) for number in text.split(",")]
        due = tuple(n if label in labels else 0 for label, n in enumerate(view.origin.histogram))
        if due != view.histogram or labels != sorted(set(labels)):
            yield Fault(file=View.FILE, message=f"select is {view.select}, the histogram is of other samples")
        return
    if not isinstance(view.origin, Plan | Import) or int(text) > view.origin.num_shards:
        yield Fault(file=View.FILE, message=f"select is {view.select}, the parent has no such first shards")
    elif view.num != min(view.origin.num, int(text) * view.samples_per_shard):
        yield Fault(file=View.FILE, message=f"select is {view.select}, these have another number of samples")


def _place_faults(records: Records, view: View) -> Iterator[Fault]:
    """Check sample_ids and places; in a view of first shards also which samples they are."""
    labels = numbers(records, "label")
    first_of_class = np.diff(labels, prepend=-1) != 0
    yield from order_faults(records, first_of_class)
    if view.select.startswith("first-shards"):
        chosen = chosen_ordinals(view.origin, view.select)
        due = np.array([ordinal for label in sorted(chosen) for ordinal in chosen[label]], dtype=np.int64)
        wrong = np.flatnonzero(numbers(records, "ordinal") != due)
        if len(wrong):
            yield row_fault(records, int(wrong[0]), f"is not in the shards that {view.select} names")


def _origin_faults(records: Records, view: View) -> Iterator[Fault]:
    """Check streams against the parent's plan, and that no codes are promised: a view leaves them behind."""
    if records.manifest.column("codes_sha256").null_count != records.manifest.num_rows:
        yield Fault(file=FILE, message="a row names codes, a view has none")
    plan = view.origin
    streams, attempts = (records.manifest.column(name) for name in ("stream_key", "attempt"))
    if not isinstance(plan, Plan):
        if not (pc.all(pc.is_null(streams)).as_py() and pc.all(pc.is_null(attempts)).as_py()):
            yield Fault(file=FILE, message=f"a row has a stream, the parent is a {plan.KIND} set")
        return
    columns = (records.manifest.column(name).to_pylist() for name in ("label", "ordinal", "stream_key", "attempt"))
    for row, (label, ordinal, stream, attempt) in enumerate(zip(*columns, strict=True)):
        if attempt is None or not 0 <= attempt < plan.num_attempts:
            yield row_fault(records, row, f"attempt is {attempt}, the plan allows 0..{plan.num_attempts - 1}")
        elif stream != stream_key(plan.seed, label, ordinal, attempt):
            yield row_fault(records, row, "stream_key is not the one that the plan's seed gives")


def _proof_faults(records: Records, view: View) -> Iterator[Fault]:
    columns = (records.manifest.column(name).to_pylist() for name in ("key", "label", "ordinal", "image_sha256"))
    try:
        root = proven_root(view.origin.histogram, zip(*columns, strict=True), view.proof)
    except ValueError as error:
        yield Fault(file=View.FILE, message=f"proof: {error}")
        return
    if root != view.parent.content_root:
        message = f"the samples and their proof give content_root {root}, the parent has {view.parent.content_root}"
        yield Fault(file=View.FILE, message=message)
