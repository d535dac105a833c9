"""`--gen FAMILY[:PRESET]`: the preset that is meant when none is named."""

from pathlib import Path

from caskit.gen.family import family_path, load_family
from caskit.gen.planning import parse_generator
from caskit.manifests.errors import InputError


def family_and_preset(text: str, dataset: str | None) -> tuple[str, str | None]:
    """Return family and preset; without one named, the preset named like the dataset, if there is such a one.

    Raises:
        InputError: an unknown family or preset, naming those there are.
    """
    family, preset = parse_generator(text)
    presets = load_family(family_path(family)).PRESETS
    if preset is not None and preset not in presets:
        raise InputError(f"--gen {text}: {family} has no preset {preset!r}, use one of {', '.join(sorted(presets))}")
    return family, dataset if preset is None and dataset in presets else preset


def shipped_generator(text: str, checkpoint: Path | None) -> tuple[str, str | None]:
    """Return family and preset; without one named, and no checkpoint, the one that alone ships with the family.

    Raises:
        InputError: an unknown family or preset, or several that could be meant, naming those there are.
    """
    family, preset = family_and_preset(text, None)
    if preset is not None or checkpoint is not None:
        return family, preset
    module = load_family(family_path(family))
    shipped = [name for name in module.PRESETS if module.packaged(name) is not None]
    if len(shipped) != 1:
        found = " or ".join(f"{family}:{name}" for name in shipped) or "none ships with it, so a --checkpoint folder"
        raise InputError(f"generator {text}: name a preset, {found}")
    return family, shipped[0]
