"""Imports a function so that what runs is what was digested: from its source, never from a cached compilation."""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import CodeType, ModuleType
from typing import Any

from caskit.gen.callable.source import INIT, Source
from caskit.manifests.canonical import sha256_hex
from caskit.manifests.errors import InputError


class VerifiedLoader(importlib.machinery.SourceFileLoader):
    """Compiles a module's source if it has the expected digest.

    Attributes:
        sha256: of the source.
    """

    def __init__(self, name: str, path: str, sha256: str) -> None:
        super().__init__(name, path)
        self.sha256 = sha256

    def get_code(self, fullname: str) -> CodeType:
        """Return the compiled source. Raises InputError if the file is another one by now."""
        data = self.get_data(self.path)
        if sha256_hex(data) != self.sha256:
            raise InputError(f"{self.path}: changed since its digest was taken, run the command again")
        return self.source_to_code(data, self.path)


class VerifiedFinder(importlib.abc.MetaPathFinder):
    """Finds the modules of one function, before any other finder: also those that it imports while it runs."""

    def __init__(self, source: Source, digests: Mapping[str, str]) -> None:
        self._source, self.digests = source, dict(digests)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return where a module is, None if it is not one of these."""
        file = self._source.modules.get(fullname)
        if file is not None:
            return importlib.util.spec_from_file_location(
                fullname,
                file,
                loader=VerifiedLoader(fullname, str(file), self.digests[fullname]),
                submodule_search_locations=[str(file.parent)] if file.name == INIT else None,
            )
        folder = self._source.namespaces.get(fullname)
        if folder is None:
            return None
        spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        return spec


def import_function(source: Source, digests: Mapping[str, str]) -> Callable[..., Any]:
    """Import a function whose modules have the given digests. Its modules run.

    Raises:
        InputError: a module was imported before from other source or by other means, or fails, or has no such
            function.
    """
    shown = f"callable:{source.module}:{source.function}"
    for name in source.modules:
        there = sys.modules.get(name)
        loader = getattr(getattr(there, "__spec__", None), "loader", None)
        if there is None or (isinstance(loader, VerifiedLoader) and loader.sha256 == digests[name]):
            continue
        raise InputError(
            f"{shown}: module {name} was imported in this process before, from source that nobody compared; "
            "use a new process"
        )
    if not any(isinstance(finder, VerifiedFinder) and finder.digests == digests for finder in sys.meta_path):
        sys.meta_path.insert(0, VerifiedFinder(source, digests))
    try:
        module = importlib.import_module(source.module)
    except InputError:
        raise
    except Exception as error:  # foreign code may raise anything; it is told on one line, with its place
        place = traceback.extract_tb(error.__traceback__)[-1]
        kind = type(error).__name__
        raise InputError(
            f"{shown}: cannot be imported, {kind}: {error} ({place.filename}, line {place.lineno})"
        ) from error
    function: Any = getattr(module, source.function, None)
    if not callable(function):
        kind = "no such name" if function is None else f"a {type(function).__name__}, not a function"
        raise InputError(f"{shown}: {source.function} in {source.file} is {kind}")
    found: Callable[..., Any] = function
    return found
