"""Binds a function to classes and an image size: the record that stands for a checkpoint. No code of it runs here.

The record's config holds the digests, so checkpoint_id and with it the plan_id depend on every byte of the source.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from caskit.gen.callable.generator import Settings, check_file_name
from caskit.gen.callable.source import find_source
from caskit.gen.checkpoint import Checkpoint
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.manifests.plan import FORMAT_VERSION, MAX_CHANNELS, MAX_SIDE, Plan


def bind(
    import_path: str, *, classes: ClassList, height: int, width: int, channels: int, files: Sequence[str] = ()
) -> Checkpoint:
    """Return the record of a function as it is found here.

    Args:
        import_path: `package.module:function`.
        classes: what its labels mean.
        height: of the images that it draws, as for the next two.
        width: see there.
        channels: see there.
        files: data files that it reads, relative to the module's folder; their digests enter the plan too.

    Raises:
        InputError: no such source or file, or a value that is not allowed.
    """
    for name, value, most in (
        ("height", height, MAX_SIDE),
        ("width", width, MAX_SIDE),
        ("channels", channels, MAX_CHANNELS),
    ):
        if type(value) is not int or not 1 <= value <= most:
            raise InputError(f"callable:{import_path}: {name} is {value!r}, allowed: 1..{most}")
    source = find_source(import_path)
    config = {"source": source.digests(), "files": _file_digests(source.file.parent, files)}
    Settings(**config)
    record = {
        "format_version": FORMAT_VERSION,
        "family": "callable",
        "preset": import_path,
        "config": config,
        "classes": [{"id": i, "name": n} for i, n in zip(classes.ids, classes.names, strict=True)],
        "height": height,
        "width": width,
        "channels": channels,
        "tensors": {},
        "derived_from": None,
        "transform": None,
    }
    return Checkpoint(path=source.file, record=record)


def rebind(plan: Plan, *, allow_other: bool = False) -> Checkpoint:
    """Return the record of the function that a plan names, as it is found here.

    Raises:
        InputError: its source or data files are not the plan's, naming those that differ, unless `allow_other`.
    """
    planned = Settings(**plan.sampler)
    here = bind(
        plan.preset,
        classes=plan.classes,
        height=plan.height,
        width=plan.width,
        channels=plan.channels,
        files=tuple(planned.files),
    )
    if allow_other or here.checkpoint_id == plan.checkpoint_id:
        return here
    found = Settings(**here.record["config"])
    differing = [
        *_differing(planned.source, found.source, "module"),
        *_differing(planned.files, found.files, "file"),
    ]
    raise InputError(
        f"callable:{plan.preset}: the source in {here.path.parent} is not the plan's: "
        f"{'; '.join(differing) or 'checkpoint_id does not follow from what the plan says'}"
    )


def _differing(planned: Mapping[str, str], found: Mapping[str, str], kind: str) -> list[str]:
    told = []
    for name in sorted(set(planned) | set(found)):
        ours, theirs = found.get(name), planned.get(name)
        if ours != theirs:
            here = "not imported here" if ours is None else f"sha256 {ours[:16]} here"
            there = "not in the plan" if theirs is None else f"{theirs[:16]} in the plan"
            told.append(f"{kind} {name} ({here}, {there})")
    return told


def _file_digests(folder: Path, files: Sequence[str]) -> dict[str, str]:
    digests = {}
    for name in files:
        check_file_name(name)
        path = folder / name
        if not path.is_file():
            raise InputError(
                f"{path}: no such file; data files of a function are named relative to its module's folder"
            )
        with path.open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
