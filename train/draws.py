"""Random numbers of one sample in one epoch, or of one part of a step: as many as are asked for, from one key."""

import hashlib
import struct

from caskit.manifests.seeds import philox_words

_DOMAIN = b"caskit/draws/1\0"
_BLOCK = 64


class Draws:
    """Philox words in their order; what is drawn depends on the four names alone.

    Args:
        seed: of the run.
        name: what for, ASCII.
        first, second: numbers, such as epoch and sample.
    """

    def __init__(self, seed: int, name: str, first: int, second: int) -> None:
        self._key = hashlib.sha256(_DOMAIN + struct.pack(">3Q", seed, first, second)).digest()[:16]
        self._name, self._next = name, 0
        self._words: list[int] = []

    def word(self) -> int:
        """Return the next word, 0 to 2**64 - 1."""
        if self._next == len(self._words):
            self._words += philox_words(self._key, self._name, self._next, _BLOCK).tolist()
        self._next += 1
        return self._words[self._next - 1]

    def uniform(self) -> float:
        """Return a number in [0, 1), a multiple of 2**-53."""
        return (self.word() >> 11) * 2.0**-53

    def below(self, count: int) -> int:
        """Return a whole number of 0 to count - 1."""
        assert count > 0, "nothing to choose from"
        return self.word() * count >> 64
