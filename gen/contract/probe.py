"""A generator under test: draws small batches of a plan, and turns whatever goes wrong in one into a broken promise."""

import functools
import traceback
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from caskit.gen.family import Generator
from caskit.gen.streams import Streams
from caskit.manifests.errors import InputError
from caskit.manifests.plan import Plan
from caskit.manifests.seeds import stream_key

OTHER_ORDINAL = 10_000  # begins the ordinals of streams that have nothing in common with the first batch's

Result = TypeVar("Result")


class Broken(Exception):
    """A promise is broken, and the message says how and what to do."""


class Probe:
    """Draws from one generator.

    Attributes:
        generator: what is tested.
        plan: decides the batches.
        labels: [N] int64 of the first batch, which goes through the classes.
        keys: N stream keys of it.
    """

    def __init__(self, generator: Generator, plan: Plan) -> None:
        self.generator, self.plan = generator, plan
        self.labels = np.arange(plan.microbatch_size, dtype=np.int64) % len(plan.classes)
        self.keys = self.keys_of(self.labels)

    @functools.cached_property
    def images(self) -> np.ndarray:
        """What the first batch gave, [N, H, W, C] uint8."""
        return self.draw()

    def keys_of(self, labels: np.ndarray, ordinal: int = 0) -> list[bytes]:
        """Return stream keys for labels, of ordinals that count up from one."""
        return [stream_key(self.plan.seed, int(label), ordinal + place, 0) for place, label in enumerate(labels)]

    def draw(self, labels: np.ndarray | None = None, keys: list[bytes] | None = None) -> np.ndarray:
        """Draw images [N, H, W, C] uint8, of the first batch unless told otherwise.

        Raises:
            Broken: `sample` failed, or did not return what its interface says.
        """
        labels = self.labels if labels is None else labels
        streams = Streams(self.keys if keys is None else keys)
        given = labels.copy()
        returned = call("sample()", lambda: self.generator.sample(given, streams))
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise Broken(f"sample() returned {kind_of(returned)}, must be a pair: images, finite")
        if not np.array_equal(given, labels):
            raise Broken("sample() changes the labels it was given: copy them first, labels.copy()")
        images, finite = returned
        self._check_images(images, len(labels))
        if not isinstance(finite, np.ndarray) or finite.dtype != np.bool_ or finite.shape != labels.shape:
            raise Broken(
                f"finite is {kind_of(finite)}, must be a bool array of shape {labels.shape}: "
                "True where the model's output was finite"
            )
        if not finite.any():
            raise Broken("not one image of a whole batch was finite: look for NaN in weights or in reduced precision")
        return images

    def _check_images(self, images: object, num: int) -> None:
        shape = (num, self.plan.height, self.plan.width, self.plan.channels)
        if isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.shape == shape:
            return
        wanted = f"images are {kind_of(images)}, must be uint8 {shape}"
        if not isinstance(images, np.ndarray):
            raise Broken(f"{wanted}: return a numpy array, of a tensor x.cpu().numpy()")
        if images.dtype != np.uint8:
            raise Broken(
                f"{wanted}: scale to 0..255, round and convert in sample(), quantising is the family's business"
            )
        raise Broken(f"{wanted}: one image [height, width, channels] per label, channels last")


def kind_of(value: object) -> str:
    """Spell what a value is: dtype and shape of an array, else its type."""
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def call(what: str, function: Callable[[], Result]) -> Result:
    """Call a generator's code. Raises Broken with the error and its place in that code if it fails."""
    try:
        return function()
    except (Broken, InputError):
        raise
    except Exception as error:  # whatever foreign code raises is a finding, reported with its place
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise Broken(
            f"{what} raised {type(error).__name__}: {error} ({frame.filename}, line {frame.lineno})"
        ) from error


def difference(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the mean absolute difference of each pair of images, [N] in grey levels."""
    differences: np.ndarray = np.abs(images.astype(np.int64) - others.astype(np.int64)).mean(axis=(1, 2, 3))
    return differences
