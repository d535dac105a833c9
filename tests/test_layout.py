"""The policies of the layout: who may import whom, what needs which package, how large a file grows."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from caskit import cli

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("manifests", "shards", "train", "gen", "evaluate")
# Every stage may import itself and those on its right; src/caskit itself knows all.
ALLOWED = {
    "manifests": set(),
    "shards": {"manifests"},
    "train": {"manifests", "shards"},
    "gen": {"manifests", "shards", "train"},
    "evaluate": {"manifests", "shards", "train"},
}
TOP_LEVEL = {"__version__"}
MAX_LINES = 400


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def stage_files() -> list[Path]:
    return python_files(*STAGES)


def command_line_files() -> list[Path]:
    package = ROOT / "src" / "caskit"
    return sorted([*package.glob("*.py"), *(package / "commands").glob("*.py")])


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) for every import statement, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: relative import"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


@pytest.mark.parametrize("path", stage_files(), ids=name_of)
def test_imports_follow_the_order_of_the_stages(path: Path) -> None:
    stage = path.relative_to(ROOT).parts[0]
    for line, module in imported_modules(path):
        parts = module.split(".")
        assert parts[0] not in STAGES, f"{name_of(path)}:{line}: import caskit.{module}, stages are never top-level"
        if parts[0] == "caskit" and parts[1:2] and parts[1] not in TOP_LEVEL:
            assert parts[1] in ALLOWED[stage] | {stage}, f"{name_of(path)}:{line}: {stage} may not import {module}"


def test_the_manifests_touch_no_files() -> None:
    reaching = {"os", "pathlib", "shutil", "tempfile", "subprocess", "socket", "urllib", "io", "time", "datetime"}
    for path in python_files("manifests"):
        for line, module in imported_modules(path):
            assert module.split(".")[0] not in reaching, f"{name_of(path)}:{line}: manifests/ is pure"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_a_linked_folder_without_init(stage: str) -> None:
    link = ROOT / "src" / "caskit" / stage
    assert link.is_symlink()
    assert link.readlink().as_posix() == f"../../{stage}"
    assert not (ROOT / stage / "__init__.py").exists(), "with one, a checkout's folder shadows packages of that name"


def test_tests_have_no_init_and_mirror_the_stages() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and not path.name.startswith("_")}
    assert folders <= {*STAGES, "commands", "benchmarks"}


@pytest.mark.parametrize("path", [*stage_files(), *command_line_files()], ids=name_of)
def test_every_file_says_what_it_is_for_and_stays_short(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), f"{name_of(path)} has no docstring"
    assert text.count("\n") <= MAX_LINES, f"{name_of(path)} has more than {MAX_LINES} lines, give it a second file"
    assert path.stem not in ("utils", "helpers", "common", "misc"), f"{name_of(path)}: a file is named by what it holds"


def importable(*folders: str) -> list[str]:
    modules = []
    for path in python_files(*folders):
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules.append(".".join(("caskit", *(parts[:-1] if parts[-1] == "__init__" else parts))))
    return modules


IMPORT_WITHOUT = """
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

blocked, modules = sys.argv[1].split(","), sys.argv[2].split(",")
sys.meta_path.insert(0, Blocked())
for module in modules:
    importlib.import_module(module)
"""
LEARNING = ("torch", "torchvision", "timm", "ray", "sklearn")
# What the driver of a run on Ray and those who end or describe the run import; `import torch` alone takes 500 MB.
DRIVER = [
    f"caskit.gen.{name}"
    for name in ("callable", "executors", "extending", "planning", "sampling", "worker", "workload")
]
CLIENTS = ("obstore", "huggingface_hub", "securesystemslib", "cryptography")


@pytest.mark.parametrize(
    ("modules", "blocked"),
    [
        pytest.param(importable("manifests", "shards"), (*LEARNING, *CLIENTS), id="data-without-any-extra"),
        pytest.param(
            ["caskit.cli", *(f"caskit.commands.{cli.module_name(name)}" for name in cli.COMMANDS)],
            (*LEARNING, *CLIENTS, "pyarrow", "PIL"),
            id="command-line-without-any-stage",
        ),
        pytest.param(["caskit.train.engine"], ("timm", "torchvision", "ray"), id="engine-without-timm-and-ray"),
        pytest.param(DRIVER, (*LEARNING, *CLIENTS, "pandas"), id="driver-without-torch"),
        pytest.param(importable("gen"), ("timm", "torchvision", "ray"), id="gen-without-timm-and-ray"),
        pytest.param(
            importable("train", "evaluate"),
            ("ray", "torch_fidelity", "prdc"),  # torch itself looks whether there is a scikit-learn
            id="train-and-evaluate-without-ray-and-metrics",
        ),
    ],
)
def test_a_stage_imports_without_the_packages_of_the_others(modules: list[str], blocked: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", IMPORT_WITHOUT, ",".join(blocked), ",".join(modules)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
