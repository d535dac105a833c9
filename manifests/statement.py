"""What signatures state: in-toto statements about a set, and about what an audit of it found.

in-toto Attestation Framework, Statement v1. replica.json has the roots over every byte of the samples, provenance.json
what is said about where they came from, so two digests stand for all of a set; an audit is of replica.json alone.
"""

from collections.abc import Mapping
from typing import Any

from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.replica import Replica

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:caskit:frozen-set:1"
AUDIT_TYPE = "urn:caskit:audit:1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"  # of the envelope


def statement(replica: Replica, provenance: bytes) -> bytes:
    """Return the statement about a set, canonical JSON: the same bytes whoever makes it.

    Args:
        replica: replica.json.
        provenance: the bytes of provenance.json.
    """
    subjects = (("replica.json", replica.replica_id), ("provenance.json", sha256_hex(provenance)))
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "kind": replica.kind,
                "num_samples": replica.num_samples,
                "content_root": replica.content_root,
            },
        }
    )


def audit_statement(record: Mapping[str, Any]) -> bytes:
    """Return the statement of an audit, canonical JSON.

    Args:
        record: of the audit, with the replica_id of what was audited (docs/format.md, 8.3).
    """
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": "replica.json", "digest": {"sha256": record["replica_id"]}}],
            "predicateType": AUDIT_TYPE,
            "predicate": dict(record),
        }
    )
