"""The built wheel, in an environment that knows nothing of the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKED = ("src", "manifests", "shards", "train", "gen", "evaluate", "pyproject.toml", "README.md", "LICENSE")
NUM = 100


def call(*command: str, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist from a copy of the tree, and the wheel from the sdist; setuptools would litter the checkout."""
    tree = tmp_path_factory.mktemp("tree")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in PACKED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, tree / name)
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", ".", cwd=tree)
    (built,) = (tree / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with caskit from the wheel; the other packages are this environment's.

    A path file lends them. Path files inside a lent folder are not read, so the checkout's editable install stays out.
    """
    folder = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", "--without-pip", str(folder), cwd=folder)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = str(folder / "bin" / "python")
    install = ("install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", "--ignore-installed")
    call(sys.executable, "-m", "pip", "--python", python, *install, str(wheel), cwd=folder)
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert all(name.startswith(("caskit/", "caskit-")) for name in names)
    inside = {name for name in names if name.startswith("caskit/") and name.endswith(".py")}
    links = [ROOT / "src" / "caskit", *(ROOT / stage for stage in ("manifests", "shards", "train", "gen", "evaluate"))]
    expected = {
        f"caskit/{path.relative_to(folder if folder.name == 'caskit' else folder.parent).as_posix()}"
        for folder in links
        for path in folder.rglob("*.py")
        if path.parts[-2] not in ("__pycache__",)
    }
    assert inside == expected
    assert {"caskit/py.typed"} <= set(names)
    packed = {name for name in names if "/checkpoints/" in name}
    gen = ROOT / "gen"
    found = [path for kind in ("json", "safetensors") for path in gen.glob(f"*/checkpoints/**/*.{kind}")]
    assert packed == {f"caskit/{path.relative_to(ROOT).as_posix()}" for path in found}, "checkpoints, judges included"
    assert any(name.endswith("/judge/run.json") for name in packed)


def test_the_installed_wheel_samples_and_verifies(environment: Path, tmp_path: Path) -> None:
    caskit = str(environment / "bin" / "caskit")
    python = str(environment / "bin" / "python")
    where = call(python, "-c", "import caskit.gen.cvae as c; print(c.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(environment), "caskit comes from somewhere else than the wheel"
    assert "caskit sample" in call(caskit, "--help", cwd=tmp_path)
    flags = ("--num", str(NUM), "--seed", "0", "--executor", "inline", "--out", "replica")
    call(caskit, "sample", "--gen", "cvae:digits", *flags, cwd=tmp_path)
    call(caskit, "verify", "replica", "--level", "full", cwd=tmp_path)
    assert f"{NUM}" in call(caskit, "info", "replica", cwd=tmp_path)
