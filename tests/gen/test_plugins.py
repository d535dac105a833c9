"""Families of installed packages: found by name without running anything, checked when they are imported."""

import sys
from pathlib import Path

import pytest

from caskit.gen import family as family_table
from caskit.gen.family import family_path, open_family, require_code
from caskit.gen.plugins import GROUP, Plugin, installed_plugins
from caskit.manifests.errors import InputError

SOUND = "import dataclasses\nfrom pebble_family import *\nNAME = {name!r}\n"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return what installs a package with an entry point, as pip leaves it."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    def put(package: str, entries: dict[str, str], files: dict[str, str] | None = None) -> None:
        info = folder / f"{package.replace('-', '_')}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
        lines = [f"{name} = {value}" for name, value in entries.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))
        for name, text in (files or {}).items():
            (folder / name).write_text(text)

    yield put
    for name in [name for name in sys.modules if name.startswith("plugged_")]:
        del sys.modules[name]


def test_a_plugin_is_found_by_name(install) -> None:
    install("stones", {"stone": "plugged_stone"}, {"plugged_stone.py": SOUND.format(name="stone")})
    assert family_path("stone") == "plugged_stone"
    assert Plugin(name="stone", module="plugged_stone", package="stones", version="1.5") in installed_plugins()
    with pytest.raises(InputError, match="'marble' is not known, use one of .*callable, cgan, cvae.*stone"):
        family_path("marble")


def test_nothing_of_it_runs_without_permission(install) -> None:
    install("stones", {"stone": "plugged_stone"}, {"plugged_stone.py": SOUND.format(name="stone")})
    message = (
        r"generator family 'stone' is code of package stones 1.5 \(module plugged_stone\), not caskit's own; --allow"
    )
    with pytest.raises(InputError, match=message):
        open_family("stone", allow_code=False)
    with pytest.raises(InputError, match=f"r: its plan's {message}"):
        require_code("stone", "tiny", allow_code=False, where="r: its plan's ")
    assert "plugged_stone" not in sys.modules
    assert open_family("stone", allow_code=True).NAME == "stone"
    require_code("cvae", "digits", allow_code=False)


def test_a_name_of_caskits_own_or_of_two_packages(install) -> None:
    install("rival", {"cvae": "plugged_cvae", "stone": "plugged_stone"})
    install("stones", {"stone": "plugged_stone"})
    with pytest.raises(
        InputError, match="'cvae' is caskit's own, package rival 1.5 registers the same name; uninstall"
    ):
        open_family("cvae", allow_code=True)
    with pytest.raises(InputError, match="'stone' is registered by package rival 1.5 and package stones 1.5"):
        open_family("stone", allow_code=True)
    assert family_path("vqvae2") == family_table.FAMILIES["vqvae2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import no_such_package\n",
            "cannot be imported, ModuleNotFoundError: No module named 'no_such_package'; install",
        ),
        ("raise RuntimeError('no licence')\n", "of package broken 1.5 cannot be imported, RuntimeError: no licence"),
        (
            "NAME = 'stone'\n",
            "module plugged_broken has no SAMPLER_VERSION, MICROBATCH_SIZE, CODED, Settings, FitConfig",
        ),
        (SOUND.format(name="other"), "NAME is 'other' in plugged_broken, must be the entry point's name"),
        (SOUND.format(name="stone") + "SAMPLER_VERSION = '1'\n", "SAMPLER_VERSION is '1', must be a whole number"),
        (SOUND.format(name="stone") + "CODED = 0\n", "CODED is 0, must be True or False"),
        (SOUND.format(name="stone") + "Settings = dict\n", "Settings must be a dataclass"),
        (SOUND.format(name="stone") + "PRESETS = ['tiny']\n", "PRESETS must map names to functions"),
        (SOUND.format(name="stone") + "load = 'model'\n", "load must be functions"),
        (
            SOUND.format(name="stone")
            + "@dataclasses.dataclass\nclass Settings:\n    net: object = dataclasses.field(default_factory=object)\n",
            r"Settings\(\) has no JSON form",
        ),
    ],
)
def test_a_broken_plugin(text: str, message: str, install) -> None:
    install("broken", {"stone": "plugged_broken"}, {"plugged_broken.py": text})
    with pytest.raises(InputError, match=message):
        open_family("stone", allow_code=True)


def test_an_entry_point_of_another_form(install) -> None:
    install("broken", {"stone": "plugged_stone:Family", "Upper-Case": "plugged_stone"})
    for name in ("stone", "Upper-Case"):
        with pytest.raises(InputError, match="package broken 1.5: entry point .* is not of the form my_family = "):
            family_path(name)
