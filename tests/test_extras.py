"""What an extra brings is enough for its stage: every other installed package is blocked."""

import json
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "gen" / "golden"
MAIN = """
import sys
from importlib.machinery import PathFinder

blocked, find = set(sys.argv[1].split(",")), PathFinder.find_spec

def find_allowed(name, path=None, target=None):  # as if what is blocked were not installed
    return None if name.split(".")[0] in blocked else find(name, path, target)

PathFinder.find_spec = find_allowed
from caskit.cli import main
code = main(sys.argv[2:])
print(*sorted(blocked & {name.split(".")[0] for name in sys.modules}))
sys.exit(code)
"""


def wanted(requirements: list[str]) -> set[str]:
    """Return the distributions that pip would install for some requirements, those of their dependencies included."""
    found: set[tuple[str, str]] = set()
    todo = [(Requirement(text), "") for text in requirements]
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for of_it in {"", *requirement.extras} - {known for owner, known in found if owner == name}:
            found.add((name, of_it))
            todo += [(Requirement(text), of_it) for text in metadata.requires(name) or []]
    return {name for name, _ in found}


def modules_but_those_of(distributions: set[str]) -> set[str]:
    """Return the top-level modules that other distributions brought."""
    return {
        module
        for module, owners in metadata.packages_distributions().items()
        if not distributions & {canonicalize_name(owner) for owner in owners} and module not in sys.stdlib_module_names
    }


def test_the_training_extra_alone_trains_from_a_replica(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    distributions = wanted([*project["dependencies"], *project["optional-dependencies"]["train"]])
    assert {"torch", "timm", "torchvision", "pyarrow"} <= distributions
    blocked = modules_but_those_of(distributions | {"caskit"})
    assert {"ray", "sklearn", "scipy", "cryptography", "pytest", "tensorboard"} <= blocked and "torch" not in blocked
    settings = ("num_steps=3", "batch_size=8", "bn_batch=8", "shift=0", "crop=uniform-area")
    words = ["train", "--data", str(GOLDEN), "--recipe", "digits", "--device", "cpu", "--out", str(tmp_path / "out")]
    words += [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-c", MAIN, ",".join(blocked), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "", "no blocked module was imported"
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert record["data"]["kind"] == "synthetic" and record["final"]["step"] == 3
