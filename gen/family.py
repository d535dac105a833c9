"""What a generator family is, and the table of families.

A family is a module, caskit's own or of another package (`plugins`). It is imported when it is used, by its path, which
is also what a worker process gets: nothing is pickled but names and settings.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from caskit.gen.checkpoint import Checkpoint
from caskit.gen.plugins import check_family, find_plugin, installed_plugins
from caskit.gen.streams import Streams
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError

if TYPE_CHECKING:
    import torch

    from caskit.train.distributed import World

FAMILIES: dict[str, str] = {
    "biggan_deep": "caskit.gen.biggan_deep",
    "callable": "caskit.gen.callable",
    "cgan": "caskit.gen.cgan",
    "cvae": "caskit.gen.cvae",
    "ham": "caskit.gen.ham",
    "pixelcnn": "caskit.gen.pixelcnn",
    "vqvae2": "caskit.gen.vqvae2",
}
BOUND = ("callable",)  # families whose generators are code of others, bound to a plan without a checkpoint


class Generator(Protocol):
    """A loaded class-conditional image model on one device."""

    @property
    def classes(self) -> ClassList:
        """The labels it can draw."""

    @property
    def height(self) -> int:
        """Of every image, in pixels."""

    @property
    def width(self) -> int:
        """Of every image, in pixels."""

    @property
    def channels(self) -> int:
        """1 or 3."""

    def sample(self, labels: np.ndarray, streams: Streams) -> tuple[np.ndarray, np.ndarray]:
        """Draw one image per label from its stream and from nothing else random.

        Quantising to uint8 is the family's own business. Matrix products belong to torch, whose threads the plan
        fixes; numpy's BLAS takes its threads from the host, and they can change the last bits.

        Args:
            labels: [N] int64.
            streams: N streams.

        Returns:
            images [N, H, W, C] uint8, and finite [N] bool: False where the model's output was not finite, so that the
            sample has to be drawn again.
        """


class CodedGenerator(Generator, Protocol):
    """A generator that draws discrete codes first and decodes them, one uniform per code.

    `sample()` is `decode_codes(labels, sample_codes(labels, streams))`; what was drawn can be recorded and later
    checked in one pass that is parallel over positions (`score_codes`), far cheaper than drawing again.
    """

    @property
    def code_shapes(self) -> Mapping[str, tuple[int, int]]:
        """Height and width of each level's map of codes, in the order in which the levels are drawn."""

    def sample_codes(self, labels: np.ndarray, streams: Streams) -> dict[str, np.ndarray]:
        """Draw the codes of one image per label, a map [N, h, w] uint16 per level."""

    def decode_codes(self, labels: np.ndarray, codes: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Decode maps of codes; images and finite as from `sample`."""

    def score_codes(
        self, labels: np.ndarray, streams: Streams, codes: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Tell how far each code's uniform lies outside the code's interval of the CDF, given all codes before it.

        Returns:
            A map [N, h, w] float64 per level: 0 inside the interval, else the distance to its nearer edge; infinite
            for a code the model does not have.
        """


class Reconstructor(Protocol):
    """A generator with an autoencoder of its own."""

    def reconstruct(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Encode and decode images [N, H, W, C] uint8; images and finite as from `sample`."""


class LikelihoodModel(Generator, Protocol):
    """A generator that knows the probability of any image."""

    def log_likelihoods(self, images: np.ndarray) -> np.ndarray:
        """Return log p(image | class) in nats, [N, classes] float64, of images [N, H, W, C] uint8."""


class Family(Protocol):
    """A module such as `caskit.gen.<name>`; `Settings` and `FitConfig` are frozen dataclasses of JSON values.

    `MICROBATCH_SIZE` is what plans get unless told otherwise: a constant of the family, large enough for its speed and
    small enough for its memory, never read from the host.
    `CODED` says whether its generators are CodedGenerators. What some families have besides: `describe` (see
    `describe_sampling`), `convert` (`caskit convert`), `derive` with its `DeriveConfig` (`caskit derive`),
    `refine` with its `RefineConfig` (`caskit refine`).
    """

    NAME: str
    SAMPLER_VERSION: int
    MICROBATCH_SIZE: int
    CODED: bool
    Settings: type[Any]
    FitConfig: type[Any]
    PRESETS: Mapping[str, Callable[[], Any]]

    def load(self, checkpoint: Checkpoint, settings: Any, device: "torch.device") -> Generator:
        """Load a fitted model for sampling."""

    def fit(
        self,
        data: Any,
        config: Any,
        out: Path,
        *,
        device: "torch.device",
        progress: Callable[[Any], None] | None,
        stop: Callable[[], bool],
        world: "World",
    ) -> Path:
        """Fit the model to a frozen set and return the checkpoint folder.

        All ranks of a world call it alike; rank 0 alone writes. A family whose fit is not made for several processes
        says so (`world.require_one`).
        """

    def packaged(self, preset: str) -> Path | None:
        """Return the folder of the checkpoint that ships with caskit for a preset, if there is one."""


def family_path(name: str) -> str:
    """Return the module path of a family, of caskit's own or of an installed package; nothing is imported.

    Raises:
        InputError: an unknown name, with those there are; or two packages have a family of that name.
    """
    plugin = find_plugin(name, FAMILIES)
    if name in FAMILIES:
        return FAMILIES[name]
    if plugin is None:
        known = sorted({*FAMILIES, *(found.name for found in installed_plugins())})
        raise InputError(f"generator family {name!r} is not known, use one of {', '.join(known)}")
    return plugin.module


def require_code(family: str, preset: str | None, *, allow_code: bool, where: str = "") -> None:
    """Raise InputError where a generator is code that is not caskit's own, unless the user allowed that.

    Args:
        family: its name, perhaps from a plan that somebody else made.
        preset: its preset.
        allow_code: what the user said.
        where: begins the message.
    """
    module = family_path(family)
    if allow_code or (family in FAMILIES and family not in BOUND):
        return
    if family in BOUND:
        what = f"{family}:{preset} is a function" if preset else f"{family} runs a function"
        raise InputError(f"{where}generator {what} that is not caskit's own; --allow-code runs it")
    plugin = find_plugin(family, FAMILIES)
    raise InputError(
        f"{where}generator family {family!r} is code of {plugin} (module {module}), not caskit's own; "
        "--allow-code runs it"
    )


def open_family(name: str, *, allow_code: bool) -> Family:
    """Import a family by its name.

    Raises:
        InputError: an unknown name, code of others that is not allowed, or a plug-in that is broken.
    """
    require_code(name, None, allow_code=allow_code)
    plugin = None if name in FAMILIES else find_plugin(name, FAMILIES)
    if plugin is None:
        return load_family(family_path(name))
    try:
        module = importlib.import_module(plugin.module)
    except InputError:
        raise
    except Exception as error:  # foreign code may raise anything
        raise InputError(
            f"generator family {name!r} of {plugin} cannot be imported, {type(error).__name__}: {error}; "
            f"install {plugin.package} again or ask its authors"
        ) from error
    check_family(module, plugin)
    return cast(Family, module)


def load_family(module: str) -> Family:
    """Import a family by its module path, in a worker: whoever sent it there had it checked and allowed."""
    try:
        return cast(Family, importlib.import_module(module))
    except ModuleNotFoundError as error:
        if error.name is not None and module.startswith(error.name):
            raise InputError(f"module {module} of the generator's family is not installed here") from error
        raise


def describe_sampling(family: Family, record: Mapping[str, Any], settings: Any) -> str | None:
    """Return what a family has to say about sampling a checkpoint with these settings, if anything, in one line.

    A family says it through a function `describe(record, settings)`, which raises InputError for settings that the
    checkpoint does not allow.
    """
    say: Callable[[Mapping[str, Any], Any], str] | None = getattr(family, "describe", None)
    return None if say is None else say(record, settings)


def make_settings(family: Family, values: Mapping[str, Any]) -> Any:
    """Build a family's sampler settings, defaults filled in. Raises InputError for a field it does not have."""
    allowed = [field.name for field in dataclasses.fields(family.Settings)]
    unknown = sorted(set(values) - set(allowed))
    if unknown:
        known = ", ".join(allowed) or "it has none"
        raise InputError(f"sampler setting {unknown[0]!r} is not known to family {family.NAME}; its settings: {known}")
    return family.Settings(**values)
