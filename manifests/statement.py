"""What a signature of a set states: an in-toto statement about replica.json and provenance.json.

in-toto Attestation Framework, Statement v1. replica.json has the roots over every byte of the samples, provenance.json
what is said about where they came from, so two digests stand for all of it.
"""

from caskit.manifests.canonical import canonical_json, sha256_hex
from caskit.manifests.replica import Replica

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:caskit:frozen-set:1"
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
