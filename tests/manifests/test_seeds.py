import hashlib
import struct

import numpy as np

from caskit.manifests.seeds import block_words, philox_words, stream_key, stream_keys

MASK = 2**64 - 1


def philox4x64_10(key: tuple[int, int], counter: tuple[int, int, int, int]) -> list[int]:
    """The paper's algorithm in plain integers (Salmon et al. 2011, figure 2), independent of numpy."""
    k0, k1 = key
    c0, c1, c2, c3 = counter
    for _ in range(10):
        p0, p1 = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (p1 >> 64) ^ c1 ^ k0, p1 & MASK, (p0 >> 64) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK, (k1 + 0xBB67AE8584CAA73B) & MASK
    return [c0, c1, c2, c3]


def test_the_plain_philox_gives_the_known_answers_of_random123() -> None:
    assert philox4x64_10((0, 0), (0, 0, 0, 0)) == [
        0x16554D9ECA36314C,
        0xDB20FE9D672D0FDC,
        0xD7E772CEE186176B,
        0x7E68B68AEC7BA23B,
    ]


def test_words_are_philox_of_key_and_counter() -> None:
    key = stream_key(1, 2, 3, 0)
    d0, d1 = struct.unpack(">2Q", hashlib.sha256(b"z").digest()[:16])
    expected = [word for block in range(3) for word in philox4x64_10(struct.unpack(">2Q", key), (block, 0, d0, d1))]
    assert philox_words(key, "z", 0, 12).tolist() == expected
    for start, count in [(0, 1), (3, 2), (4, 4), (5, 7), (11, 1)]:
        assert philox_words(key, "z", start, count).tolist() == expected[start : start + count]


def test_every_argument_changes_the_key() -> None:
    keys = {stream_key(*numbers) for numbers in [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]}
    assert len(keys) == 5 and all(len(key) == 16 for key in keys)


def test_draws_do_not_share_words() -> None:
    key = stream_key(0, 0, 0, 0)
    assert not set(philox_words(key, "a", 0, 64).tolist()) & set(philox_words(key, "b", 0, 64).tolist())


def test_block_words_are_one_stream_cut_into_blocks() -> None:
    together = np.concatenate([block_words(5, block, 7) for block in range(4)])
    assert len(set(together.tolist())) == 28
    np.testing.assert_array_equal(block_words(5, 2, 7), together[14:21])


def test_many_stream_keys_are_those_of_each() -> None:
    labels, ordinals, attempts = np.array([0, 3, 999]), np.array([7, 0, 2**40]), np.array([0, 1, 5])
    expected = [stream_key(2**53 - 1, *map(int, numbers)) for numbers in zip(labels, ordinals, attempts, strict=True)]
    assert list(stream_keys(2**53 - 1, labels, ordinals, attempts)) == expected
