"""Records of audits that somebody signed: a DSSE envelope around what the audit of a replica found.

The auditor need not be the maker of the set, and the record need not lie with it: it names the replica_id.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caskit.manifests.canonical import canonical_json, parse_canonical
from caskit.manifests.errors import InputError, IntegrityError
from caskit.manifests.plan import check_format_version
from caskit.manifests.statement import PAYLOAD_TYPE, audit_statement
from caskit.shards.untrusted import read_plain

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, Key, SSlibKey

MAX_AUDIT_BYTES = 2**24
# What a reader relies on: of which kind, in a record of any version 1.
_FIELDS = {"replica_id": str, "mode": str, "passed": bool, "num_failures": int, "counts": dict, "selection": dict}


def signed_audit(record: Mapping[str, Any], signer: "CryptoSigner") -> bytes:
    """Return an envelope around the record of an audit, canonical JSON."""
    from securesystemslib.dsse import Envelope

    envelope = Envelope(audit_statement(record), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return canonical_json(envelope.to_dict())


def read_audit(path: Path, trusted: "Sequence[SSlibKey]", *, replica_id: str) -> tuple[dict[str, Any], str]:
    """Read what a trusted key says that an audit of a replica found.

    Args:
        path: of the envelope.
        trusted: keys whose word counts.
        replica_id: of the replica that it has to be about.

    Returns:
        the record, and the id of the key.

    Raises:
        InputError: no plain file of bounded size.
        IntegrityError: no envelope around an audit, of another replica, or not signed by a trusted key.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import FormatError, VerificationError

    data = read_plain(path, max_bytes=MAX_AUDIT_BYTES)
    try:
        envelope = Envelope.from_dict(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, FormatError) as error:
        raise IntegrityError(f"{path}: not a DSSE envelope ({type(error).__name__})") from error
    known: list[Key] = [key for key in trusted if key.keyid in envelope.signatures]
    if not known or envelope.payload_type != PAYLOAD_TYPE:
        raise IntegrityError(f"{path}: no statement that a trusted key signed")
    try:
        signers = envelope.verify(known, 1)
    except VerificationError as error:
        raise IntegrityError(f"{path}: not signed by key {known[0].keyid[:16]}, which it names") from error
    record = _record(envelope.payload, path)
    if record["replica_id"] != replica_id:
        raise IntegrityError(f"{path}: is of replica {record['replica_id']!a}, not of {replica_id}")
    return record, min(signers)


def _record(payload: bytes, path: Path) -> dict[str, Any]:
    """Take the record out of a statement, which it decides altogether."""
    try:
        stated = parse_canonical(payload, name=str(path))
        record = stated["predicate"]
        check_format_version(record["format_version"], name=str(path))
        wrong = [name for name, kind in _FIELDS.items() if type(record[name]) is not kind]
        if wrong or audit_statement(record) != payload:
            raise IntegrityError(f"{path}: not the statement of an audit{': ' + ', '.join(wrong) if wrong else ''}")
    except (KeyError, TypeError) as error:
        raise IntegrityError(f"{path}: not the statement of an audit ({error!r})") from error
    except IntegrityError:
        raise
    except InputError as error:
        raise IntegrityError(str(error)) from error
    return dict(record)
