"""What belongs to a function's source is read off the text; nothing of it runs."""

from pathlib import Path

import pytest

from caskit.gen.callable.source import find_source, split_path
from caskit.manifests.canonical import sha256_hex
from caskit.manifests.errors import InputError


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_module_and_what_it_imports_beside_it(code: Path) -> None:
    source = find_source("dice:draw")
    assert (source.module, source.function, source.file) == ("dice", "draw", code / "dice.py")
    assert source.digests() == {name: sha256_hex((code / f"{name}.py").read_bytes()) for name in ("dice", "dice_parts")}


def test_packages_relative_imports_and_imports_inside_functions(code: Path) -> None:
    write(
        code,
        {
            "studio/__init__.py": "from . import paint\n",
            "studio/paint.py": "import os.path\nfrom .colours import mix\nfrom numpy import linalg\n",
            "studio/colours/__init__.py": "def mix(): ...\n",
            "studio/colours/deep.py": "from ..unused import nothing\n",
            "studio/unrelated.py": "",
            "studio/models/net.py": "def draw(a, b):\n    from studio.colours import deep\n    import late\n",
            "late.py": "import random\n",
            "random.py": "raise SystemExit\n",
        },
    )
    source = find_source("studio.models.net:draw")
    assert sorted(source.modules) == [
        *("late", "studio", "studio.colours", "studio.colours.deep", "studio.models.net", "studio.paint")
    ]
    assert source.namespaces == {"studio.models": code / "studio" / "models"}


def test_nothing_runs(code: Path) -> None:
    write(code, {"bomb.py": "import fuse\nraise SystemExit\n", "fuse/__init__.py": "raise SystemExit\n"})
    assert sorted(find_source("bomb:go").modules) == ["bomb", "fuse"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dice", "callable:dice: not of the form callable:package.module:function"),
        ("dice:draw:more", "not of the form callable:package.module:function"),
        ("../dice:draw", "not of the form callable:package.module:function"),
        ("os:system", "os is a module of Python's own"),
        ("__main__:draw", "__main__ is a module of Python's own"),
    ],
)
def test_other_forms(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_path(text)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_dice:draw", "no module no_such_dice, looked on Python's path and in the current folder"),
        ("numpy.no_such_part:draw", "no Python source of module numpy.no_such_part"),
        ("broken:draw", r"broken.py: not valid Python source \(.*line 1"),
        ("no_text:draw", "no_text.py: not valid Python source"),
    ],
)
def test_source_that_is_not_there_or_broken(code: Path, path: str, message: str) -> None:
    (code / "broken.py").write_text("def draw(:\n")
    (code / "no_text.py").write_bytes(b"\xff\x00\xfe")
    with pytest.raises(InputError, match=message):
        find_source(path)


def test_what_is_installed_is_not_followed_outside_its_package() -> None:
    assert {name.partition(".")[0] for name in find_source("timm.version:draw").modules} == {"timm"}
