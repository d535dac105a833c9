"""Checking a set of reconstructions against the real set that it was made from."""

from caskit.manifests.errors import InputError, IntegrityError
from caskit.shards.dataset import FrozenSet

# What a reconstruction has in common with the image it was made from, which its `source` names by key.
SHARED_COLUMNS = ("sample_id", "label", "ordinal")


def check_parent(made: FrozenSet, parent: FrozenSet) -> None:
    """Check that a set of reconstructions has a row for every row of its parent, of the same label and place.

    Both sets are open, so their rows are those of their ids.

    Raises:
        InputError: `made` holds no reconstructions, or those of another set.
        IntegrityError: a row does not stand for a real image, naming its key.
    """
    record, where = made.reconstruction, made.store.location
    if record is None:
        raise InputError(f"{where}: is a {made.kind} set, only reconstructions have a parent")
    if record.parent.replica_id != parent.replica.replica_id:
        raise InputError(
            f"{where}: was made from replica_id {record.parent.replica_id}, {parent.store.location} is "
            f"{parent.replica.replica_id}"
        )
    for name, value in (("content_root", parent.replica.content_root), ("split", parent.split)):
        if getattr(record.parent, name) != value:
            raise IntegrityError(f"{where}/{record.FILE}: {name} of the parent is not {value}, what its set says")
    if made.classes != parent.classes:
        raise IntegrityError(f"{where}: the class list is not that of the parent")
    if len(made) != len(parent):
        raise IntegrityError(f"{where}: {len(made)} reconstructions of {len(parent)} images")
    theirs = dict(zip(parent.keys, zip(*_columns(parent), strict=True), strict=True))
    sources = made.table.column("source").to_pylist()
    for key, source, *ours in zip(made.keys, sources, *_columns(made), strict=True):
        if source not in theirs:
            raise IntegrityError(f"{where}: key {key}: source {source!a} is no key of the parent")
        if tuple(ours) != theirs[source]:
            columns = zip(SHARED_COLUMNS, ours, theirs[source], strict=True)
            name, ours_value, value = next(values for values in columns if values[1] != values[2])
            raise IntegrityError(f"{where}: key {key}: {name} is {ours_value}, that of source {source} is {value}")


def _columns(data: FrozenSet) -> list[list[int]]:
    return [data.table.column(name).to_pylist() for name in SHARED_COLUMNS]
