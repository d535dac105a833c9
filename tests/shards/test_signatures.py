"""A signature holds for one set by one key, and nothing else that looks like one passes."""

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from securesystemslib.signer import CryptoSigner

from caskit.manifests.canonical import canonical_json
from caskit.manifests.errors import InputError, IntegrityError
from caskit.shards import keys
from caskit.shards.records import read_replica
from caskit.shards.signatures import Signatures, check, due_statement, envelope_name, require, sign
from caskit.shards.store import LocalStore


@pytest.fixture
def store(tmp_path: Path, tiny: Any) -> LocalStore:
    frozen: LocalStore = tiny.frozen(tmp_path / "set", tiny.plan())[0]
    return frozen


@pytest.fixture(scope="module")
def signer() -> CryptoSigner:
    return CryptoSigner(ed25519.Ed25519PrivateKey.generate())


def pem(private: Any, password: bytes | None = None) -> bytes:
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)  # type: ignore[no-any-return]


def public_pem(private: Any) -> bytes:
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[no-any-return]


def test_the_statement_names_the_two_files_by_digest(store: LocalStore) -> None:
    value = json.loads(due_statement(store))
    sums = subprocess.run(
        ["sha256sum", "replica.json", "provenance.json"], cwd=store.root, capture_output=True, text=True, check=True
    )
    digests = {line.split()[1]: line.split()[0] for line in sums.stdout.splitlines()}
    assert {s["name"]: s["digest"]["sha256"] for s in value["subject"]} == digests
    assert value["predicate"]["content_root"] == read_replica(store).content_root


@pytest.mark.parametrize("curve", [None, ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_a_signature_by_a_trusted_key_holds(store: LocalStore, tmp_path: Path, curve: Any) -> None:
    private = ed25519.Ed25519PrivateKey.generate() if curve is None else ec.generate_private_key(curve)
    (tmp_path / "key.pem").write_bytes(pem(private))
    (tmp_path / "trusted.pem").write_bytes(b"our lab\n" + public_pem(private))
    one = keys.read_signer(tmp_path / "key.pem")
    name = sign(store, one)
    assert name == envelope_name(one.public_key.keyid)
    before = store.read(name)
    found = check(store, keys.read_trusted(tmp_path / "trusted.pem"))
    assert found == Signatures(trusted=(one.public_key.keyid,), unknown=())
    require(found, "here")
    assert sign(store, one) == name and store.read(name) == before


def test_a_signature_by_an_unknown_key_does_not_count(store: LocalStore, signer: CryptoSigner) -> None:
    sign(store, signer)
    other = CryptoSigner(ed25519.Ed25519PrivateKey.generate())
    found = check(store, [other.public_key])  # type: ignore[list-item]
    assert found == Signatures(trusted=(), unknown=(signer.public_key.keyid,))
    with pytest.raises(IntegrityError, match="no signature by a trusted key; 1 by other keys"):
        require(found, store.location)


def edited(store: LocalStore, signer: CryptoSigner, change: Any) -> None:
    path = store.root / sign(store, signer)
    value = json.loads(path.read_bytes())
    change(value)
    path.chmod(0o644)
    path.write_bytes(canonical_json(value))


def set_payload(value: dict[str, Any]) -> None:
    value["payload"] = base64.b64encode(b"{}").decode()


def flip_signature(value: dict[str, Any]) -> None:
    raw = bytearray(base64.b64decode(value["signatures"][0]["sig"]))
    raw[5] ^= 1
    value["signatures"][0]["sig"] = base64.b64encode(raw).decode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_payload, "is not this set as it is now"),
        (lambda value: value.update(payloadType="text/plain"), "is not this set as it is now"),
        (flip_signature, "not signed by key"),
        (lambda value: value["signatures"][0].update(sig=""), "not signed by key"),
        (lambda value: value["signatures"][0].update(sig="!"), r"not a DSSE envelope"),
        (lambda value: value["signatures"].clear(), "has to hold one signature"),
        (lambda value: value["signatures"][0].update(keyid="ab" * 32), "has to hold one signature"),
        (lambda value: value.update(signatures=7), r"not a DSSE envelope \(TypeError\)"),
        (lambda value: value.pop("payload"), r"not a DSSE envelope \(KeyError\)"),
    ],
)
def test_an_edited_envelope_is_refused(store: LocalStore, signer: CryptoSigner, change: Any, message: str) -> None:
    edited(store, signer, change)
    with pytest.raises(IntegrityError, match=message):
        check(store, [signer.public_key])  # type: ignore[list-item]


@pytest.mark.parametrize("data", [b"", b"[]", b"7", b"{" * 30_000, b"\xff", b" " * 70_000])
def test_what_is_no_envelope_is_refused(store: LocalStore, signer: CryptoSigner, data: bytes) -> None:
    store.create(envelope_name(signer.public_key.keyid), data)
    with pytest.raises(IntegrityError, match=r"not a DSSE envelope|more than 65536 bytes"):
        check(store, [signer.public_key])  # type: ignore[list-item]


def test_an_edited_provenance_is_noticed_and_a_missing_one_too(store: LocalStore, signer: CryptoSigner) -> None:
    sign(store, signer)
    path = store.root / "provenance.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"2026-01-01", b"2025-01-01"))
    with pytest.raises(IntegrityError, match="is not this set as it is now"):
        check(store, [signer.public_key])  # type: ignore[list-item]
    os.unlink(path)
    with pytest.raises(IntegrityError, match=r"provenance\.json is missing"):
        check(store, [signer.public_key])  # type: ignore[list-item]


def test_a_signature_of_another_set_is_refused(
    store: LocalStore, signer: CryptoSigner, tmp_path: Path, tiny: Any
) -> None:
    other, _ = tiny.frozen(tmp_path / "other", tiny.plan(seed=8))
    name = sign(other, signer)
    store.create(name, other.read(name))
    with pytest.raises(IntegrityError, match="is not this set as it is now"):
        check(store, [signer.public_key])  # type: ignore[list-item]


def test_a_set_that_is_not_frozen_cannot_be_signed(tmp_path: Path, signer: CryptoSigner) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no caskit set is there"):
        sign(LocalStore(tmp_path / "empty"), signer)


def test_new_keys_are_private_and_never_overwritten(tmp_path: Path) -> None:
    public, keyid = keys.generate(tmp_path / "lab.pem")
    assert (tmp_path / "lab.pem").stat().st_mode & 0o777 == 0o600
    assert [key.keyid for key in keys.read_trusted(public)] == [keyid]
    assert keys.read_signer(tmp_path / "lab.pem").public_key.keyid == keyid
    for there in (tmp_path / "lab.pem", public):
        with pytest.raises(InputError, match=r"is there already, keys are never overwritten"):
            keys.generate(tmp_path / "lab.pem")
        there.unlink()
    assert not list(tmp_path.iterdir())


def test_an_encrypted_key_needs_its_password(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(pem(ed25519.Ed25519PrivateKey.generate(), b"secret"))
    with pytest.raises(InputError, match=r"encrypted, its password is read from CASKIT_KEY_PASSWORD"):
        keys.read_signer(path, {})
    with pytest.raises(InputError, match="does not open the key"):
        keys.read_signer(path, {"CASKIT_KEY_PASSWORD": "wrong"})
    assert keys.read_signer(path, {"CASKIT_KEY_PASSWORD": "secret"}).public_key.keytype == "ed25519"


def test_other_kinds_of_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    private = rsa.generate_private_key(65537, 2048)
    allowed = r"no key that is allowed: Ed25519, or ECDSA over P-256, P-384 or P-521"
    path.write_bytes(pem(private))
    with pytest.raises(InputError, match=allowed):
        keys.read_signer(path)
    path.write_bytes(pem(ec.generate_private_key(ec.SECP256K1())))
    with pytest.raises(InputError, match=allowed):
        keys.read_signer(path)
    path.write_bytes(public_pem(private))
    with pytest.raises(InputError, match=rf"block 1: rsa is {allowed}"):
        keys.read_trusted(path)
    path.write_bytes(b"no key")
    with pytest.raises(InputError, match="not a private key in PEM form"):
        keys.read_signer(path)
    with pytest.raises(InputError, match="no PUBLIC KEY block"):
        keys.read_trusted(path)
    one = ed25519.Ed25519PrivateKey.generate()
    path.write_bytes(2 * public_pem(one))
    with pytest.raises(InputError, match=r"block 2 is key .* a second time"):
        keys.read_trusted(path)
    path.write_bytes(public_pem(one) + pem(one))
    with pytest.raises(InputError, match="block 2 is a PRIVATE KEY, trusted keys are PUBLIC KEY blocks"):
        keys.read_trusted(path)
