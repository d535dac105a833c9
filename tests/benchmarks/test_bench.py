"""Every script under benchmarks/ is run by `make bench` in a short form, or is left out for a reason."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench", ROOT / "benchmarks/bench.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_script_has_a_short_form_or_a_reason(bench: ModuleType) -> None:
    for name in bench.scripts():
        assert (bench.words(name) is None) == (name in bench.LEFT_OUT), f"{name}: --short, a command, or a reason"
    assert set(bench.COMMANDS) | set(bench.LEFT_OUT) <= set(bench.scripts())
    assert not set(bench.COMMANDS) & set(bench.LEFT_OUT)


def test_the_words_of_a_short_form_are_options_of_its_script(bench: ModuleType) -> None:
    for name, words in bench.COMMANDS.items():
        text = (ROOT / "benchmarks" / f"{name}.py").read_text()
        for word in words:
            assert not word.startswith("--") or f'"{word}"' in text, f"{name}: {word}"


def test_a_script_that_fails_and_one_that_is_late(bench: ModuleType, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "good.py").write_text('print(\'| a | table |\')\nprint(\'{"ratio": 2.5, "more": {"a": 1}}\')\n')
    (tmp_path / "bad.py").write_text("import sys\nprint('half')\nsys.exit(3)\n")
    (tmp_path / "late.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(600)\n")
    monkeypatch.setattr(bench, "HERE", tmp_path)
    code, _, last = bench.run("good", [], tmp_path, 120)
    assert (code, bench.cell(last)) == (0, "ratio 2.5")
    assert bench.run("bad", [], tmp_path, 120)[0] == 3
    assert bench.run("late", [], tmp_path, 0.5)[0] is None


def test_unknown_names_are_refused(bench: ModuleType, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bench.py", "nonsense"])
    with pytest.raises(SystemExit, match="2"):
        bench.main()
    assert "no such script: nonsense" in capsys.readouterr().err
