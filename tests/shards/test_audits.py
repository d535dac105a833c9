"""Signed records of audits: whose word it is, about which replica, and that nothing in it was changed."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from caskit.manifests.canonical import canonical_json
from caskit.manifests.errors import InputError, IntegrityError
from caskit.manifests.statement import audit_statement
from caskit.shards.audits import read_audit, signed_audit
from caskit.shards.keys import generate, read_signer, read_trusted

REPLICA = "ab" * 32
RECORD: dict[str, Any] = {
    "format_version": 1,
    "replica_id": REPLICA,
    "mode": "redraw",
    "passed": True,
    "num_failures": 0,
    "counts": {"samples": 3},
    "selection": {"kind": "keys", "keys": None},
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("auditor", "other"):
        generate(folder / name)
    return folder


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_what_was_signed_is_what_is_read(keys: Path, tmp_path: Path) -> None:
    signer = read_signer(keys / "auditor")
    path = put(tmp_path / "a.json", signed_audit(RECORD, signer))
    trusted = [*read_trusted(keys / "other.pub"), *read_trusted(keys / "auditor.pub")]
    assert read_audit(path, trusted, replica_id=REPLICA) == (RECORD, signer.public_key.keyid)
    assert signed_audit(RECORD, signer) == path.read_bytes()  # Ed25519 has no randomness
    statement = json.loads(base64.b64decode(json.loads(path.read_bytes())["payload"]))
    assert statement["subject"] == [{"name": "replica.json", "digest": {"sha256": REPLICA}}]
    assert statement["predicateType"] == "urn:caskit:audit:1" and statement["predicate"] == RECORD


def test_another_key_another_replica_and_another_file_are_refused(keys: Path, tmp_path: Path) -> None:
    path = put(tmp_path / "a.json", signed_audit(RECORD, read_signer(keys / "auditor")))
    with pytest.raises(IntegrityError, match="no statement that a trusted key signed"):
        read_audit(path, read_trusted(keys / "other.pub"), replica_id=REPLICA)
    trusted = read_trusted(keys / "auditor.pub")
    with pytest.raises(IntegrityError, match="is of replica 'abab.*, not of cdcd"):
        read_audit(path, trusted, replica_id="cd" * 32)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(InputError, match="is no plain file"):
        read_audit(tmp_path / "link", trusted, replica_id=REPLICA)
    for data in (b"", b"[]", b"[" * 100_000, b"{}", canonical_json(RECORD)):
        with pytest.raises(IntegrityError, match="not a DSSE envelope"):
            read_audit(put(tmp_path / "b.json", data), trusted, replica_id=REPLICA)


def test_an_edited_record_is_refused(keys: Path, tmp_path: Path) -> None:
    signer = read_signer(keys / "auditor")
    envelope = json.loads(signed_audit({**RECORD, "passed": False, "num_failures": 2}, signer))
    envelope["payload"] = base64.b64encode(audit_statement(RECORD)).decode()
    path = put(tmp_path / "a.json", json.dumps(envelope).encode())
    with pytest.raises(IntegrityError, match=f"not signed by key {signer.public_key.keyid[:16]}"):
        read_audit(path, read_trusted(keys / "auditor.pub"), replica_id=REPLICA)


@pytest.mark.parametrize(
    "changes",
    [{"passed": 1}, {"counts": None}, {"format_version": 2}, {"num_failures": "0"}, {"replica_id": None}],
)
def test_a_signed_record_of_another_form_is_refused(keys: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """Whoever signs may be trusted and still be wrong."""
    path = put(tmp_path / "a.json", signed_audit({**RECORD, **changes}, read_signer(keys / "auditor")))
    with pytest.raises(IntegrityError, match="statement of an audit|format_version is 2"):
        read_audit(path, read_trusted(keys / "auditor.pub"), replica_id=REPLICA)
