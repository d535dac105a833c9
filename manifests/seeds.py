"""Where every random number of a replica begins: keys for Philox4x64-10, a pure function of the plan.

Philox: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". The raw 64-bit words are normative
(docs/format.md); numpy's Philox gives them, and bit generators, unlike numpy's distributions, keep their streams.
"""

import hashlib
import struct
from collections.abc import Iterator

import numpy as np

MAX_SEED = 2**53 - 1  # a plan is JSON
_STREAM_DOMAIN = b"caskit/stream/1\0"
_BLOCK_DOMAIN = b"caskit/block/1\0"
_AUDIT_DOMAIN = b"caskit/audit/1\0"


def stream_key(seed: int, label: int, ordinal: int, attempt: int) -> bytes:
    """Return the 16-byte key of one sample's stream: the first half of a SHA-256 over four unsigned 64-bit numbers."""
    return hashlib.sha256(_STREAM_DOMAIN + struct.pack(">4Q", seed, label, ordinal, attempt)).digest()[:16]


def stream_keys(seed: int, labels: np.ndarray, ordinals: np.ndarray, attempts: np.ndarray) -> Iterator[bytes]:
    """Yield `stream_key` of samples given by their labels, ordinals and attempts, [N] int64 of 0 or more each."""
    numbers = np.empty((len(labels), 4), dtype=">u8")
    for column, values in enumerate((seed, labels, ordinals, attempts)):
        numbers[:, column] = values
    packed, sha256 = numbers.tobytes(), hashlib.sha256
    for start in range(0, len(packed), 32):
        yield sha256(_STREAM_DOMAIN + packed[start : start + 32]).digest()[:16]


def philox_words(key: bytes, draw: str, start: int, count: int) -> np.ndarray:
    """Return raw Philox words `start <= i < start + count` of one draw.

    Word i is word `i mod 4` of the Philox4x64-10 block whose key is the two big-endian halves of `key` and whose
    counter is `(i div 4, 0, d0, d1)`, d0 and d1 the first two big-endian 64-bit words of sha256(draw).

    Args:
        key: 16 bytes, from `stream_key`.
        draw: the draw's name, ASCII.
        start: first word, 0 or more.
        count: number of words.

    Returns:
        [count] uint64.
    """
    block, offset = divmod(start, 4)
    low, high = struct.unpack(">2Q", hashlib.sha256(draw.encode("ascii")).digest()[:16])
    counter = block + (low << 128) + (high << 192) - 1  # numpy steps the counter before it computes a block
    counter_words = [(counter >> shift) & (2**64 - 1) for shift in (0, 64, 128, 192)]
    generator = np.random.Philox(
        key=np.array(struct.unpack(">2Q", key), dtype=np.uint64), counter=np.array(counter_words, dtype=np.uint64)
    )
    return generator.random_raw(offset + count)[offset:]


def block_words(seed: int, block: int, num_classes: int) -> np.ndarray:
    """Return one word per class, [num_classes] uint64; their ascending order is the order of the classes in a block."""
    key = hashlib.sha256(_BLOCK_DOMAIN + struct.pack(">Q", seed)).digest()[:16]
    return philox_words(key, "order", block * num_classes, num_classes)


def audited_samples(seed: int, replica_id: str, num_samples: int, count: int) -> np.ndarray:
    """Return which samples of a replica an audit seed draws: a pure function, so that a seed can be published before.

    Args:
        seed: the auditor's.
        replica_id: 64 hex digits; who makes a replica cannot know what a later seed will draw from it.
        num_samples: of the replica.
        count: how many to draw, at most num_samples.

    Returns:
        [count] int64, ascending sample_ids: those with the smallest words, of equal words the smaller sample_id.
    """
    assert 0 < count <= num_samples, f"{count} of {num_samples} samples"
    key = hashlib.sha256(_AUDIT_DOMAIN + struct.pack(">Q", seed) + bytes.fromhex(replica_id)).digest()[:16]
    words = philox_words(key, "samples", 0, num_samples)
    return np.sort(np.argsort(words, kind="stable")[:count]).astype(np.int64)
