"""Canonical JSON (RFC 8785) and the digests taken over it."""

import hashlib
import json
from typing import Any

import rfc8785

from caskit.manifests.errors import InputError

MAX_JSON_BYTES = 64 * 2**20  # a bound for records that another lab wrote; the largest of ours is a class list
MAX_INTEGER = 2**53 - 1  # beyond it JSON numbers are not exact in every reader; longer values are written as hex


def canonical_json(value: Any) -> bytes:
    """Encode a JSON value as RFC 8785 bytes. Raises ValueError for NaN, infinities and integers beyond 2^53 - 1."""
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise ValueError(f"value has no canonical JSON form: {error}") from error


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of some bytes as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def parse_canonical(data: bytes, *, name: str) -> Any:
    """Parse a record that must be stored in its canonical form.

    Requiring the form makes the stored bytes and the parsed value carry the same digest, so an identifier can be
    checked against the file itself.

    Args:
        data: the file's bytes.
        name: how the file is called in the error.

    Raises:
        InputError: the bytes are too many, are not JSON, or are not the canonical encoding of what they say.
    """
    if len(data) > MAX_JSON_BYTES:
        raise InputError(f"{name}: {len(data)} bytes, at most {MAX_JSON_BYTES} are read")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: not valid JSON ({error})") from error
    try:
        canonical = canonical_json(value)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error
    if canonical != data:
        raise InputError(f"{name}: not in canonical form (RFC 8785); it was edited or written by another program")
    return value
