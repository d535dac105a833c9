"""Where a function's code lies: its module's file and those of the local modules that it imports. None of it runs here.

Local is what lies in the top-level package of the module, and for code that is not installed also what lies beside it.
Imports are read from the text, those inside functions too; a module that is imported by a computed name is not seen.
"""

import ast
import dataclasses
import importlib.util
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

from caskit.manifests.canonical import sha256_hex
from caskit.manifests.errors import InputError

MAX_MODULES = 1000
MAX_SOURCE_BYTES = 16 * 2**20
INIT = "__init__.py"
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_IMPORT_PATH = re.compile(rf"({_NAME}(?:\.{_NAME})*):({_NAME})")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """The code of one function.

    Attributes:
        module, function: its import path.
        file: of the module.
        modules: file of the module and of every local one that it imports, by dotted name.
        namespaces: folder of every package without an `__init__.py` on the way to them, by dotted name.
    """

    module: str
    function: str
    file: Path
    modules: Mapping[str, Path]
    namespaces: Mapping[str, Path]

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of every module's file, by dotted name."""
        return {name: sha256_hex(_read(file)) for name, file in sorted(self.modules.items())}


def split_path(text: str) -> tuple[str, str]:
    """Split `package.module:function`. Raises InputError for another form, or for a module of Python's own."""
    match = _IMPORT_PATH.fullmatch(text)
    if match is None:
        raise InputError(f"callable:{text[:200]}: not of the form callable:package.module:function")
    top = match[1].partition(".")[0]
    if top in sys.stdlib_module_names or top == "__main__":
        raise InputError(f"callable:{text}: {top} is a module of Python's own, put the function into a module of yours")
    return match[1], match[2]


def find_source(import_path: str) -> Source:
    """Find the code of a function on Python's path, or in the current folder.

    Raises:
        InputError: no such module, one without Python source, or source that cannot be read.
    """
    module, function = split_path(import_path)
    tree = _Tree(module.partition(".")[0], import_path)
    file = tree.file(module)
    if file is None:
        raise InputError(f"callable:{import_path}: no Python source of module {module} in {tree.root}")
    modules: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        found = None if name in modules else tree.file(name)
        if found is None:
            continue
        modules[name] = found
        if len(modules) > MAX_MODULES:
            raise InputError(f"callable:{import_path}: imports more than {MAX_MODULES} local modules")
        waiting += parents(name)
        waiting += [imported for imported in _imports(name, found) if tree.is_local(imported)]
    namespaces = {parent: tree.folder(parent) for name in modules for parent in parents(name) if parent not in modules}
    return Source(module=module, function=function, file=file, modules=modules, namespaces=namespaces)


def parents(name: str) -> list[str]:
    """Return the packages that a dotted name lies in."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


class _Tree:
    """The files around a top-level module or package.

    Attributes:
        root: folder that it lies in.
    """

    def __init__(self, top: str, import_path: str) -> None:
        self._top = top
        self._single: Path | None = None
        self._package: Path | None = None
        try:
            spec = importlib.util.find_spec(top)  # of a top-level name: no package is imported for it
        except (ImportError, ValueError):
            spec = None
        if spec is not None and spec.submodule_search_locations:
            self._package = Path(next(iter(spec.submodule_search_locations)))
        elif spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            self._single = Path(spec.origin)
        elif spec is not None:
            raise InputError(f"callable:{import_path}: module {top} has no Python source ({spec.origin})")
        elif (Path.cwd() / f"{top}.py").is_file():
            self._single = Path.cwd() / f"{top}.py"
        elif (Path.cwd() / top).is_dir():
            self._package = Path.cwd() / top
        else:
            where = "on Python's path and in the current folder"
            raise InputError(f"callable:{import_path}: no module {top}, looked {where} ({Path.cwd()})")
        self.root = (self._single or self._package or Path()).parent
        installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")}
        self._beside = self.root.resolve() not in installed

    def is_local(self, name: str) -> bool:
        """Tell whether a dotted name can be one of these files."""
        top = name.partition(".")[0]
        return top == self._top or (self._beside and top != "caskit" and top not in sys.stdlib_module_names)

    def file(self, name: str) -> Path | None:
        """Return the file of a module or package, None where there is no such file."""
        if name == self._top and self._single is not None:
            return self._single
        base = self.folder(name)
        candidates = (base / INIT, base.with_name(f"{base.name}.py"))
        if name == self._top and self._package is not None:
            candidates = (base / INIT, base / INIT)
        return next((path for path in candidates if path.is_file()), None)

    def folder(self, name: str) -> Path:
        """Return the folder that a package of that name would have."""
        top, *rest = name.split(".")
        start = self._package if top == self._top and self._package is not None else self.root / top
        return start.joinpath(*rest)


def _read(file: Path) -> bytes:
    if file.stat().st_size > MAX_SOURCE_BYTES:
        raise InputError(f"{file}: larger than {MAX_SOURCE_BYTES} bytes, that is no Python source")
    return file.read_bytes()


def _imports(name: str, file: Path) -> Iterator[str]:
    """Yield every dotted name that a file may import, with its packages; some may be names inside modules."""
    try:
        tree = ast.parse(_read(file), filename=str(file))
    except (SyntaxError, ValueError) as error:
        raise InputError(f"{file}: not valid Python source ({error})") from error
    package = name if file.name == INIT else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from [*parents(alias.name), alias.name]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".") if package else []
                inside = parts[: len(parts) - node.level + 1]
                base = ".".join([*inside, *([node.module] if node.module else [])])
            if base:
                yield from [*parents(base), base]
                yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")
