"""`--gen FAMILY[:PRESET]` or `--gen callable:MODULE:FUNCTION`: what is meant, where it is, what it may be told."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caskit.commands.settings import apply_to_all
from caskit.gen.callable import bind
from caskit.gen.checkpoint import Checkpoint
from caskit.gen.family import BOUND, open_family
from caskit.gen.opening import refuse_folder
from caskit.gen.planning import find_checkpoint, parse_generator
from caskit.manifests.errors import InputError
from caskit.manifests.plan import Numerics
from caskit.shards.dataset import FrozenSet


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawing:
    """What a function draws, which nobody can read off it; `--set` reaches it in place of a family's settings.

    Attributes:
        height, width, channels: of its images; by default those of the set that the classes come from.
        files: data files that it reads, relative to its module's folder.
    """

    height: int | None = None
    width: int | None = None
    channels: int | None = None
    files: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """Fields of a plan that `--set` reaches beside the family's own sampler settings."""

    microbatch_size: int
    max_attempts: int = 4
    pixel_digests: bool = False
    record_codes: bool = False
    numerics: Numerics = Numerics()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """A generator with all that was said about it.

    Attributes:
        checkpoint: opened or bound.
        folder: of the checkpoint, None for bound code.
        sampler: the family's settings, empty for bound code.
        settings: of the plan.
    """

    checkpoint: Checkpoint
    folder: Path | None
    sampler: dict[str, Any]
    settings: PlanSettings


def family_and_preset(text: str, dataset: str | None, *, allow_code: bool = False) -> tuple[str, str | None]:
    """Return family and preset; without one named, the preset named like the dataset, if there is such a one.

    Raises:
        InputError: an unknown family or preset, naming those there are; or code of others that is not allowed.
    """
    family, preset = parse_generator(text)
    presets = open_family(family, allow_code=allow_code).PRESETS
    if family in BOUND:
        if preset is None:
            raise InputError(f"--gen {text}: name the function, {family}:package.module:function")
        return family, preset
    if preset is not None and preset not in presets:
        raise InputError(f"--gen {text}: {family} has no preset {preset!r}, use one of {', '.join(sorted(presets))}")
    return family, dataset if preset is None and dataset in presets else preset


def shipped_generator(text: str, checkpoint: Path | None, *, allow_code: bool = False) -> tuple[str, str | None]:
    """Return family and preset; without one named, and no checkpoint, the one that alone ships with the family.

    Raises:
        InputError: see `family_and_preset`; or several that could be meant, naming those there are.
    """
    family, preset = family_and_preset(text, None, allow_code=allow_code)
    if preset is not None or checkpoint is not None:
        return family, preset
    module = open_family(family, allow_code=allow_code)
    shipped = [name for name in module.PRESETS if module.packaged(name) is not None]
    if len(shipped) != 1:
        found = " or ".join(f"{family}:{name}" for name in shipped) or "none ships with it, so a --checkpoint folder"
        raise InputError(f"generator {text}: name a preset, {found}")
    return family, shipped[0]


def choose(
    family: str,
    preset: str | None,
    *,
    arguments: argparse.Namespace,
    data: FrozenSet | None,
    settings: Sequence[str],
    device: str,
) -> Chosen:
    """Open a checkpoint or bind a function, and sort `--set` into settings of the sampler and of the plan.

    Args:
        family: of the generator.
        preset: of it, or the function's import path.
        arguments: of the command: checkpoint, allow_code.
        data: real set whose classes and image size a function draws.
        settings: texts of `--set`.
        device: the plan's.

    Raises:
        InputError: what cannot be meant.
    """
    allow = arguments.allow_code
    folder = None if arguments.checkpoint is None else Path(arguments.checkpoint)
    module = open_family(family, allow_code=allow)
    plan = PlanSettings(microbatch_size=module.MICROBATCH_SIZE, numerics=Numerics(device=device.partition(":")[0]))
    if family not in BOUND:
        checkpoint = find_checkpoint(family, preset, folder, allow_code=allow)
        sampler, chosen = apply_to_all((module.Settings(), plan), settings)
        return Chosen(
            checkpoint=checkpoint, folder=checkpoint.path, sampler=dataclasses.asdict(sampler), settings=chosen
        )
    refuse_folder(family, folder)
    if data is None:
        raise InputError(
            f"generator {family}:{preset}: name the real set whose classes and image size it draws, with --classes SET"
        )
    drawing, chosen = apply_to_all((_drawing_of(data), plan), settings)
    return Chosen(checkpoint=bind_function(preset or "", drawing, data), folder=None, sampler={}, settings=chosen)


def _drawing_of(data: FrozenSet) -> Drawing:
    """Return the size of a set's images, None for what differs between them."""
    return Drawing(height=_side(data, "height"), width=_side(data, "width"), channels=data.channels)


def _side(data: FrozenSet, name: str) -> int | None:
    values = np.unique(data.table.column(name).to_numpy())
    return int(values[0]) if len(values) == 1 else None


def bind_function(import_path: str, drawing: Drawing, data: FrozenSet) -> Checkpoint:
    """Bind a function to the classes of a set and a size. Raises InputError where the set's images have several."""
    height, width, channels = drawing.height, drawing.width, drawing.channels
    if height is None or width is None or channels is None:
        raise InputError(
            f"{data.store.location}: images are of several sizes, say which one callable:{import_path} draws: "
            "--set height=H --set width=W"
        )
    return bind(import_path, classes=data.classes, height=height, width=width, channels=channels, files=drawing.files)
