"""Signing a frozen set, and checking who signed it.

A signature is a DSSE envelope (github.com/secure-systems-lab/dsse, protocol v1.0.2) around `manifests.statement`, one
file per key below `signatures/`, made after freezing: nothing of a set's identity knows it. Whoever checks one makes
the statement from the set and compares bytes, so an envelope about anything else is refused before its signature is
looked at.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from caskit.manifests.canonical import MAX_JSON_BYTES, canonical_json
from caskit.manifests.errors import IntegrityError
from caskit.manifests.statement import PAYLOAD_TYPE, statement
from caskit.shards.records import read_replica
from caskit.shards.store import AlreadyExists, Store

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner, SSlibKey

SIGNATURES = "signatures"
MAX_ENVELOPE_BYTES = 2**16
MAX_SIGNATURES = 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class Signatures:
    """Who signed a set.

    Attributes:
        trusted: ids of trusted keys whose signature was checked and holds.
        unknown: ids that envelopes name and that are not among the trusted keys: nothing is known about them.
    """

    trusted: tuple[str, ...]
    unknown: tuple[str, ...]


def sign(store: Store, signer: "CryptoSigner") -> str:
    """Sign a frozen set and store the envelope; signing again with the same key changes nothing.

    Returns:
        the envelope's name.

    Raises:
        InputError: the set is not frozen.
        IntegrityError: its records, or the envelope that is there already for this key, are not what they have to be.
    """
    from securesystemslib.dsse import Envelope

    envelope = Envelope(due_statement(store), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    name = envelope_name(signer.public_key.keyid)
    try:
        store.create(name, canonical_json(envelope.to_dict()))
    except AlreadyExists:
        check(store, [signer.public_key])
    return name


def check(store: Store, trusted: "Sequence[SSlibKey]") -> Signatures:
    """Check the signatures of a set by trusted keys.

    Raises:
        InputError: the set is not frozen.
        IntegrityError: an envelope cannot be read, is about something else, or a trusted key did not sign it.
    """
    from securesystemslib.exceptions import VerificationError

    due = due_statement(store)
    keys = {key.keyid: key for key in trusted}
    found: list[str] = []
    unknown: list[str] = []
    for name in envelope_names(store):
        envelope = _read_envelope(store, name)
        keyid = next(iter(envelope.signatures))
        if keyid not in keys:
            unknown.append(keyid)
            continue
        if (envelope.payload_type, envelope.payload) != (PAYLOAD_TYPE, due):
            raise IntegrityError(f"{store.location}/{name}: what key {keyid[:16]} signed is not this set as it is now")
        try:
            envelope.verify([keys[keyid]], 1)
        except VerificationError as error:
            raise IntegrityError(f"{store.location}/{name}: not signed by key {keyid[:16]}, which it names") from error
        found.append(keyid)
    return Signatures(trusted=tuple(found), unknown=tuple(unknown))


def due_statement(store: Store) -> bytes:
    """Return the statement that a signature of the set has to be about, made from its records."""
    replica = read_replica(store)
    try:
        size = store.size("provenance.json")
    except FileNotFoundError as error:
        raise IntegrityError(f"{store.location}: provenance.json is missing, a signature covers it") from error
    if size > MAX_JSON_BYTES:
        raise IntegrityError(f"{store.location}/provenance.json: {size} bytes, at most {MAX_JSON_BYTES} are read")
    return statement(replica, store.read("provenance.json"))


def envelope_name(keyid: str) -> str:
    """Return where the envelope of a key lies in a set."""
    return f"{SIGNATURES}/{keyid}.json"


def envelope_names(store: Store) -> list[str]:
    """Return the names of a set's envelopes. Raises IntegrityError for more than anybody needs."""
    names = store.names(f"{SIGNATURES}/")
    if len(names) > MAX_SIGNATURES:
        raise IntegrityError(f"{store.location}/{SIGNATURES}: {len(names)} files, at most {MAX_SIGNATURES} are read")
    return names


def _read_envelope(store: Store, name: str) -> "Envelope":
    """Read an envelope by one key, under the name of that key. Raises IntegrityError."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import FormatError

    where = f"{store.location}/{name}"
    if store.size(name) > MAX_ENVELOPE_BYTES:
        raise IntegrityError(f"{where}: more than {MAX_ENVELOPE_BYTES} bytes, no signature of a set")
    try:
        value: Any = json.loads(store.read(name))
        envelope = Envelope.from_dict(value)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, FormatError) as error:
        raise IntegrityError(f"{where}: not a DSSE envelope ({type(error).__name__})") from error
    if [envelope_name(keyid) for keyid in envelope.signatures] != [name]:
        raise IntegrityError(f"{where}: has to hold one signature, by the key that it is named after")
    return envelope


def require(signatures: Signatures, location: str) -> None:
    """Raise IntegrityError unless a trusted key signed the set."""
    if not signatures.trusted:
        others = f"; {len(signatures.unknown)} by other keys" if signatures.unknown else ""
        raise IntegrityError(f"{location}: no signature by a trusted key{others}")
