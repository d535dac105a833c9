"""What somebody who was handed a set can know about it: what is proven, what is only said, what nobody can show."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from caskit.shards.receipt import has_receipt, stamps_before_check
from caskit.shards.records import Records, read_provenance
from caskit.shards.signatures import check, envelope_names

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

PROVEN, OPEN, CLAIMED, NEVER = "proven", "not checked", "claimed", "cannot be shown"
STATES = (PROVEN, OPEN, CLAIMED, NEVER)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """The answer to one question about a set.

    Attributes:
        question: what it is about.
        state: `proven`, on this machine; `not checked`, which a command can change; `claimed` by whoever made it;
            `cannot be shown` by anything in the set.
        evidence: by what, or by which command.
    """

    question: str
    state: str
    evidence: str

    def __post_init__(self) -> None:
        assert self.state in STATES, f"{self.state} is no state"


def findings(records: Records, trusted: "Sequence[SSlibKey] | None") -> list[Finding]:
    """Return what is known about a frozen set.

    Args:
        records: the set's.
        trusted: keys whose signatures are checked; None, none are given.

    Raises:
        IntegrityError: a signature by a trusted key does not hold, or provenance.json is missing or broken.
    """
    store = records.store
    provenance = read_provenance(store)
    return [
        _bytes(records),
        _signature(records, trusted),
        *_origin(records, provenance),
        Finding(
            question="the licence",
            state=CLAIMED if provenance.get("licence") else NEVER,
            evidence=f"provenance.json says {provenance['licence']}" if provenance.get("licence") else "none is stated",
        ),
    ]


def _bytes(records: Records) -> Finding:
    location = records.store.location
    whole = has_receipt(records.store, records.replica, stamps_before_check(records.store, records.replica.kind))
    return Finding(
        question="every byte is the one that the replica_id stands for",
        state=PROVEN if whole else OPEN,
        evidence="verified in full on this machine, files untouched since" if whole else f"caskit verify {location}",
    )


def _signature(records: Records, trusted: "Sequence[SSlibKey] | None") -> Finding:
    question = "who stands for it"
    num = len(envelope_names(records.store))
    if trusted is None or not num:
        evidence = f"signatures: {num:,}; --trusted-keys FILE says whose count" if num else "nobody signed it"
        return Finding(question=question, state=OPEN if num else NEVER, evidence=evidence)
    signatures = check(records.store, trusted)
    if not signatures.trusted:
        evidence = f"signatures: {len(signatures.unknown):,}, none by a trusted key"
        return Finding(question=question, state=NEVER, evidence=evidence)
    names = ", ".join(keyid[:16] for keyid in signatures.trusted)
    return Finding(question=question, state=PROVEN, evidence=f"signed by trusted key {names}")


def _origin(records: Records, provenance: Mapping[str, Any]) -> Iterator[Finding]:
    location, origin = records.store.location, records.origin
    if records.replica.kind == "synthetic":
        codes = ", by its recorded codes" if getattr(origin, "record_codes", False) else ""
        yield Finding(
            question="the generator that its plan names drew it",
            state=OPEN,
            evidence=f"caskit audit {location}, with the checkpoint{codes}",
        )
        yield Finding(
            question="the generator was fitted to the data that its card says",
            state=NEVER,
            evidence="a checkpoint does not prove what it was fitted to",
        )
    elif records.replica.kind == "real":
        yield Finding(
            question="its images are those of the data set",
            state=CLAIMED,
            evidence="ingest.json has the digests of the input files: compare them with yours",
        )
    elif records.replica.kind == "reconstruction":
        yield Finding(
            question="every row stands for a real image",
            state=OPEN,
            evidence=f"caskit verify {location} --parent REAL",
        )
    else:
        yield Finding(
            question="another program made it from what it says",
            state=NEVER,
            evidence="; ".join(map(str, _lines(provenance))) or "there is no plan to draw again",
        )
    if records.replica.kind != "real":
        yield Finding(
            question="no image of it is one of the real test set",
            state=OPEN,
            evidence="no command of this version looks for them",
        )
    yield Finding(
        question="when, with which versions and by which code",
        state=CLAIMED,
        evidence="provenance.json, which a signature covers",
    )


def _lines(provenance: Mapping[str, Any]) -> list[Any]:
    stated = provenance.get("not_auditable")
    return stated if isinstance(stated, list) else []
