"""What the sidecars of codes of a set must be, given its rows: which there are, and every sample's codes."""

from collections.abc import Callable, Iterator

import pyarrow as pa

from caskit.manifests.codes import CodeLevel, codes_digest
from caskit.manifests.errors import IntegrityError
from caskit.manifests.plan import Plan
from caskit.shards.codes import CODES, CodesFile, codes_path, open_codes
from caskit.shards.fault import Fault
from caskit.shards.records import Described
from caskit.shards.shard_rows import key_behind
from caskit.shards.store import Store, names_there


def due_sidecars(origin: object, num_shards: int) -> dict[str, int]:
    """Return the shard of every sidecar that a set of so many shards must have, by name."""
    if not isinstance(origin, Plan) or not origin.record_codes:
        return {}
    return {codes_path(shard): shard for shard in range(num_shards)}


def check_codes_listing(store: Store, described: Described, first_key: Callable[[int], str | None]) -> Iterator[Fault]:
    """Yield sidecars that are missing or too many.

    Args:
        store: the set.
        described: what it is due to be.
        first_key: gives the first key of a shard.
    """
    due = due_sidecars(described.origin, described.num_shards)
    present = names_there(store, f"{CODES}/", due)
    for name in sorted(present - set(due)):
        yield Fault(file=name if name.isprintable() else ascii(name), message="an extra file, no sidecar of this set")
    for name, shard in due.items():
        if name not in present:
            yield _missing(name, first_key(shard))


class CodesCheck:
    """Compares sidecars with their rows, and the levels of each with those of the ones before it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._levels: tuple[CodeLevel, ...] = ()

    def check_footer(self, shard: int, num_rows: int) -> Iterator[Fault]:
        """Yield what is wrong with a sidecar as far as it shows without reading its codes."""
        try:
            with open_codes(self._store, shard, max_rows=num_rows) as codes:
                yield from self._level_faults(codes, shard)
                if codes.num_rows != num_rows:
                    message = f"has {codes.num_rows} rows, the shard has {num_rows} samples"
                    yield Fault(file=codes_path(shard), message=message)
        except FileNotFoundError:
            return  # check_codes_listing has said so
        except IntegrityError as error:
            yield self._damage(shard, None, error)

    def check_shard(self, shard: int, rows: pa.Table) -> Iterator[Fault]:
        """Read a sidecar and yield where it does not agree with its rows.

        Args:
            shard: its number.
            rows: its rows, ordered by index_in_shard.
        """
        due = rows.select(["key", "codes_sha256"]).to_pylist()
        name, place = codes_path(shard), 0
        try:
            with open_codes(self._store, shard, max_rows=len(due)) as codes:
                faults = list(self._level_faults(codes, shard))
                yield from faults
                for sample in codes if not faults else ():
                    if place >= len(due) or sample.key != due[place]["key"]:
                        yield _misplaced(name, sample.key, [row["key"] for row in due], place)
                        return
                    if codes_digest(codes.levels, sample.maps) != due[place]["codes_sha256"]:
                        message = "the codes are not those whose SHA-256 its row holds"
                        yield Fault(file=name, key=sample.key, message=message)
                    place += 1
                if place < len(due) and not faults:
                    yield Fault(file=name, key=due[place]["key"], message="has a row, its codes are missing")
        except FileNotFoundError:
            yield _missing(name, key_behind(rows, 0))  # as check_codes_listing says it, or it was there at that time
        except IntegrityError as error:
            yield self._damage(shard, due[place]["key"] if place < len(due) else None, error)

    def _level_faults(self, codes: CodesFile, shard: int) -> Iterator[Fault]:
        self._levels = self._levels or codes.levels
        if codes.levels != self._levels:
            theirs, ours = (
                ", ".join(f"{level.name} {level.height}x{level.width}" for level in levels)
                for levels in (codes.levels, self._levels)
            )
            yield Fault(file=codes_path(shard), message=f"levels are {theirs}, those of the shards before it {ours}")

    def _damage(self, shard: int, key: str | None, error: IntegrityError) -> Fault:
        name, reason = codes_path(shard), str(error)
        for known in (f"{self._store.location}/", f"{self._store.location}: ", f"{name}: ", f"{name} "):
            reason = reason.removeprefix(known)
        unread = "" if key is None else "; this key is the first not read"
        return Fault(file=name, key=key, message=reason + unread)


def _missing(name: str, key: str | None) -> Fault:
    return Fault(file=name, key=key, message="is missing, with the codes of this key and all after it")


def _misplaced(name: str, key: str, due: list[str], place: int) -> Fault:
    if key not in due:
        return Fault(file=name, key=key, message="the codes of this key are here, no such sample is in the shard")
    if place < len(due):
        message = f"its codes stand where those of {due[place]} are due; the shard's order is that of its samples"
        return Fault(file=name, key=key, message=message)
    return Fault(file=name, key=key, message="more codes than samples in the shard")
