"""A source whose images must all be of one size and one number of channels; the first that is not is named."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.manifests.imported import CHANNELS
from caskit.manifests.plan import MAX_SIDE
from caskit.shards.codecs import decode, fits
from caskit.shards.sources.source import Source, StoredImage


class Uniform:
    """A source that refuses images unlike its first one, instead of resizing or converting them.

    Args:
        source: holds at least one sample.
        channels: how the images are to be read; None for the first image's own. Grey images may be read as colour, and
            colour images whose three channels are equal as grey: neither loses anything. All else is refused.
        state_channels: add `channels` to the codec, for a record that has no field for them.

    Attributes:
        height, width, channels: of every image as it is read.

    Raises:
        UnreadableImage: the first image is.
        InputError: it does not have the channels asked for, or is too large.
    """

    def __init__(self, source: Source, *, channels: int | None = None, state_channels: bool = False) -> None:
        if channels is not None and channels not in CHANNELS:
            raise InputError(f"channels is {channels}, allowed: {', '.join(map(str, CHANNELS))}")
        first = source.read(0)
        self._source, self._asked, self._state_channels = source, channels is not None, state_channels
        self.height, self.width = first.height, first.width
        self.channels = _decoded(first).shape[2] if channels is None else channels
        if max(self.height, self.width) > MAX_SIDE:
            raise InputError(f"{source.path(0)}: {self.width}x{self.height} pixels, sides of at most {MAX_SIDE}")
        self._check(0, first)

    @property
    def dataset(self) -> str:
        """See Source."""
        return self._source.dataset

    @property
    def split(self) -> str:
        """See Source."""
        return self._source.split

    @property
    def classes(self) -> ClassList:
        """See Source."""
        return self._source.classes

    @property
    def files(self) -> Mapping[str, str]:
        """See Source."""
        return self._source.files

    @property
    def settings(self) -> Mapping[str, str]:
        """See Source."""
        return self._source.settings

    @property
    def codec(self) -> Mapping[str, Any]:
        """See Source."""
        codec = self._source.codec
        return {**codec, "channels": self.channels} if self._state_channels else codec

    @property
    def licence(self) -> str | None:
        """See Source."""
        return self._source.licence

    @property
    def labels(self) -> np.ndarray:
        """See Source."""
        return self._source.labels

    def path(self, sample_id: int) -> str:
        """See Source."""
        return self._source.path(sample_id)

    def size_bytes(self, sample_id: int) -> int | None:
        """See Source."""
        return self._source.size_bytes(sample_id)

    def read(self, sample_id: int) -> StoredImage:
        """Return one image. Raises InputError if it is unlike the first, UnreadableImage if it is none."""
        image = self._source.read(sample_id)
        self._check(sample_id, image)
        return image

    def without(self, sample_ids: Collection[int]) -> Source:
        """See Source; the others are no longer compared."""
        return self._source.without(sample_ids)

    def _check(self, sample_id: int, image: StoredImage) -> None:
        where, first = self._source.path(sample_id), self._source.path(0)
        if (image.width, image.height) != (self.width, self.height):
            raise InputError(
                f"{where}: image is {image.width}x{image.height}, {first} is {self.width}x{self.height}; "
                "a set holds images of one size, resize them first"
            )
        if image.channels == self.channels:
            return
        pixels = _decoded(image)
        own = pixels.shape[2]
        if own == self.channels or (self._asked and fits(pixels, self.channels)):
            return
        due = f"{self.channels} are asked for" if self._asked else f"{first} has {self.channels}"
        hint = "; grey images can be read as colour (channels 3)" if {own, self.channels} == {1, 3} else ""
        raise InputError(f"{where}: image has {own} channels, {due}{hint}")


def _decoded(image: StoredImage) -> np.ndarray:
    return decode(image.data, extension=image.extension)
