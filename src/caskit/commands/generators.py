"""`--gen FAMILY[:PRESET]`: the preset that is meant when none is named."""

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
