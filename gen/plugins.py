"""Families of other packages: an entry point of the group `caskit.generators` names a module that is a family.

pyproject.toml of the package: `[project.entry-points."caskit.generators"]`, then `my_generator = "my_generator"`.
Finding one reads metadata only; nothing of the package runs before it is loaded.
"""

import dataclasses
import importlib.metadata
import re
from collections.abc import Mapping
from types import ModuleType

from caskit.manifests.canonical import canonical_json
from caskit.manifests.errors import InputError

GROUP = "caskit.generators"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plugin:
    """An entry point.

    Attributes:
        name: of the family.
        module: path of the module that it names.
        package, version: what is installed.
    """

    name: str
    module: str
    package: str
    version: str

    def __str__(self) -> str:
        return f"package {self.package} {self.version}"


def installed_plugins() -> list[Plugin]:
    """Return every entry point of the group, as it is, by name."""
    found = []
    for entry in importlib.metadata.entry_points(group=GROUP):
        package, version = (entry.dist.name, entry.dist.version) if entry.dist is not None else ("unknown", "")
        found.append(Plugin(name=entry.name, module=entry.value, package=package, version=version))
    return sorted(found, key=lambda plugin: (plugin.name, plugin.package))


def find_plugin(name: str, own: Mapping[str, str]) -> Plugin | None:
    """Return the plug-in of that name; None where there is none.

    Args:
        name: of a family.
        own: caskit's own families.

    Raises:
        InputError: a plug-in has the name of a family of caskit's own or of another plug-in, or is not of its form.
    """
    named = [plugin for plugin in installed_plugins() if plugin.name == name]
    if not named:
        return None
    who = " and ".join(map(str, named))
    if name in own:
        raise InputError(
            f"generator family {name!r} is caskit's own, {who} registers the same name; uninstall it or rename its "
            f"entry point in {GROUP}"
        )
    if len(named) > 1:
        raise InputError(f"generator family {name!r} is registered by {who}; uninstall all but one of them")
    plugin = named[0]
    if _NAME.fullmatch(name) is None or _MODULE.fullmatch(plugin.module) is None:
        raise InputError(
            f"{plugin}: entry point {name!r} = {plugin.module!r} in {GROUP} is not of the form my_family = "
            '"package.module": a name of lower-case letters, digits and _, and a module that is the family'
        )
    return plugin


def check_family(module: ModuleType, plugin: Plugin) -> None:
    """Raise InputError unless an imported plug-in has what a family has, naming what is missing or wrong."""
    where = f"generator family {plugin.name!r} of {plugin}"
    needed = ("NAME", "SAMPLER_VERSION", "MICROBATCH_SIZE", "CODED", "Settings", "FitConfig", "PRESETS", "load", "fit")
    missing = [name for name in (*needed, "packaged") if not hasattr(module, name)]
    if missing:
        raise InputError(
            f"{where}: module {plugin.module} has no {', '.join(missing)}; docs/adding-a-generator.md says more"
        )
    if module.NAME != plugin.name:
        raise InputError(f"{where}: NAME is {module.NAME!r} in {plugin.module}, must be the entry point's name")
    for name in ("SAMPLER_VERSION", "MICROBATCH_SIZE"):
        if type(getattr(module, name)) is not int or getattr(module, name) < 1:
            raise InputError(f"{where}: {name} is {getattr(module, name)!r}, must be a whole number of at least 1")
    if type(module.CODED) is not bool:
        raise InputError(f"{where}: CODED is {module.CODED!r}, must be True or False")
    for name in ("Settings", "FitConfig"):
        kind = getattr(module, name)
        if not isinstance(kind, type) or not dataclasses.is_dataclass(kind):
            raise InputError(f"{where}: {name} must be a dataclass")
    if not isinstance(module.PRESETS, Mapping) or not all(callable(preset) for preset in module.PRESETS.values()):
        raise InputError(f"{where}: PRESETS must map names to functions that return a FitConfig")
    not_called = [name for name in ("load", "fit", "packaged") if not callable(getattr(module, name))]
    if not_called:
        raise InputError(f"{where}: {', '.join(not_called)} must be functions")
    try:
        canonical_json(dataclasses.asdict(module.Settings()))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{where}: Settings() has no JSON form ({error}), its fields need defaults of JSON types"
        ) from error
