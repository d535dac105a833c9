"""Keys of signatures: PEM files as every other program writes them, Ed25519 or ECDSA over a NIST curve.

Needs the extra `sign`: securesystemslib, which in-toto and TUF sign with, over pyca/cryptography.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from caskit.manifests.errors import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from securesystemslib.signer import CryptoSigner, SSlibKey

KEY_TYPES = ("ed25519", "ecdsa")
PASSWORD_VARIABLE = "CASKIT_KEY_PASSWORD"
MAX_KEY_BYTES = 2**20
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


def generate(path: Path) -> tuple[Path, str]:
    """Make an Ed25519 key pair.

    Args:
        path: of the private key, written unencrypted and readable by its owner alone; the public key goes to the same
            name with `.pub` at its end.

    Returns:
        the path of the public key and its id.

    Raises:
        InputError: one of the two files is there already.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    private = Ed25519PrivateKey.generate()
    public_path = path.with_name(f"{path.name}.pub")
    for file in (path, public_path):
        if os.path.lexists(file):
            raise InputError(f"{file}: is there already, keys are never overwritten")
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _create(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    _create(public_path, public, 0o644)
    return public_path, _signer(private, path).public_key.keyid


def _create(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def read_signer(path: Path, environment: Mapping[str, str] = os.environ) -> "CryptoSigner":
    """Read a private key.

    Args:
        path: PEM; an encrypted one is opened with the password in CASKIT_KEY_PASSWORD.
        environment: where that is looked up.

    Raises:
        InputError: no private key of an allowed kind, or the password is missing or wrong.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read(path)
    password = environment.get(PASSWORD_VARIABLE)
    try:
        private = load_pem_private_key(data, None)
    except TypeError as error:  # what is raised for an encrypted key without a password
        if password is None:
            raise InputError(f"{path}: the key is encrypted, its password is read from {PASSWORD_VARIABLE}") from error
        try:
            private = load_pem_private_key(data, password.encode())
        except ValueError as wrong:
            raise InputError(f"{path}: the password in {PASSWORD_VARIABLE} does not open the key") from wrong
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path}: not a private key in PEM form") from error
    return _signer(private, path)


def _signer(private: "PrivateKeyTypes", path: Path) -> "CryptoSigner":
    from securesystemslib.signer import CryptoSigner

    try:
        signer = CryptoSigner(private)
    except ValueError as error:
        raise InputError(f"{path}: {_allowed(type(private).__name__)}") from error
    if signer.public_key.keytype not in KEY_TYPES:
        raise InputError(f"{path}: {_allowed(signer.public_key.keytype)}")
    return signer


def read_trusted(path: Path) -> "list[SSlibKey]":
    """Read public keys, one PEM block after the other; text between them is ignored.

    Raises:
        InputError: no key, the same key twice, a private one, or one of another kind.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    keys: dict[str, SSlibKey] = {}
    for number, block in enumerate(_PEM.finditer(_read(path)), start=1):
        kind = block[1].decode()
        if kind != "PUBLIC KEY":
            raise InputError(f"{path}: block {number} is a {kind}, trusted keys are PUBLIC KEY blocks")
        try:
            key = SSlibKey.from_crypto(load_pem_public_key(block[0]))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InputError(f"{path}: block {number}: {_allowed('it')}") from error
        if key.keytype not in KEY_TYPES:
            raise InputError(f"{path}: block {number}: {_allowed(key.keytype)}")
        if key.keyid in keys:
            raise InputError(f"{path}: block {number} is key {key.keyid[:16]} a second time")
        keys[key.keyid] = key
    if not keys:
        raise InputError(f"{path}: no PUBLIC KEY block")
    return list(keys.values())


def _allowed(found: str) -> str:
    return f"{found} is no key that is allowed: Ed25519, or ECDSA over P-256, P-384 or P-521"


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_KEY_BYTES + 1)
    if len(data) > MAX_KEY_BYTES:
        raise InputError(f"{path}: more than {MAX_KEY_BYTES} bytes, no file of keys")
    return data
