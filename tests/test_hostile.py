"""Hostile sets and score folders: every command refuses on one line or reads safely. docs/hostile.md has the table.

No command runs for a minute, takes a gigabyte, opens a file outside the folder it was handed, connects to anything,
starts a program, unpickles, leaves a file behind in the folder, or prints what a terminal would obey.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caskit import cli
from caskit.manifests.classes import ClassList
from caskit.shards.imports import import_source
from caskit.shards.ingest import ingest
from caskit.shards.sources.recognise import Options, recognise
from caskit.shards.sources.source import ArraySource

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import hostile_scores  # type: ignore[import-not-found]  # noqa: E402
import hostile_sets  # type: ignore[import-not-found]  # noqa: E402
import hostile_tools  # type: ignore[import-not-found]  # noqa: E402

TABLE = HERE.parent / "docs" / "hostile.md"
Case = dict[str, Any]
ATTACKS = [*hostile_sets.SET_ATTACKS, *hostile_scores.SCORE_ATTACKS]
MAX_SECONDS = 1700  # a minute on a quiet machine; nothing here tells a slow reader from a slow machine
# All attacks are run in one process, which the first test waits for.
pytestmark = pytest.mark.timeout(MAX_SECONDS + 100)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sets, classifiers and scores that nobody tampered with."""
    root, patch = tmp_path_factory.mktemp("honest"), pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
    classes = ClassList.from_json([{"id": one, "name": one} for one in "abc"])
    pixels, labels = np.random.default_rng(1).integers(0, 255, (120, 8, 8, 1)).astype(np.uint8), np.arange(60) % 3
    np.savez(root / "train.npz", pixels[:60, :, :, 0], labels)
    import_source(recognise(root / "train.npz", Options(classes=classes)), root / "train", samples_per_shard=40)
    for split, name in (("train", "real"), ("test", "test")):
        source = ArraySource(
            dataset="noise", split=split, classes=classes, files={}, labels=labels,
            pixels=255 - pixels[:60] if split == "train" else pixels[60:], numbers=np.arange(60), file="noise",
        )  # fmt: skip
        ingest(source, root / name, samples_per_shard=40)
    tiny = ["--recipe", "digits", "--set", "num_steps=2", "--set", "widths=8,8"]
    score = ["score", "--real", f"{root}/test", "--classifier"]
    for command in (
        ["train", "--data", f"{root}/train", "--out", f"{root}/classifier", *tiny],
        ["train", "--data", f"{root}/real", "--out", f"{root}/real-classifier", *tiny],
        [*score, f"{root}/classifier", "--out", f"{root}/score"],
        [*score, f"{root}/real-classifier", "--out", f"{root}/real-score"],
    ):
        assert cli.main(command) == 0, command
    patch.undo()
    tested = json.loads((root / "score" / "score.json").read_bytes())["test"]
    (root / "ids.json").write_text(json.dumps({"test": tested["replica_id"]}))
    return root


@pytest.fixture(scope="module")
def cases(honest: Path) -> dict[tuple[str, str], Case]:
    """What every command made of every attack; names of attacks are unique."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(honest / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(HERE / "hostile_readers.py"), str(honest), str(honest / "work")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=MAX_SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {(case["attack"], case["command"]): case for case in found}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_it_is_refused_or_read_safely(attack: Any, cases: dict[tuple[str, str], Case]) -> None:
    mine = {command: case for (name, command), case in cases.items() if name == attack.name}
    assert set(attack.refused_by) <= set(mine)
    for command, case in mine.items():
        told, where = case["output"], (command, case)
        assert case["code"] in (0, 1, 2), where
        assert not case["opened"] and not case["strays"], where
        assert hostile_tools.SECRET not in told and "Traceback" not in told, where
        assert all(c.isprintable() or c == "\n" for c in told), where
        if command in attack.refused_by:
            assert case["code"] != 0, where
        if case["code"]:
            lines = [line for line in told.splitlines() if line.startswith("caskit: ")]
            assert lines and all(len(line) < 2000 for line in lines), where
            assert case["code"] == 1 or len(lines) == 1, where
            other = "|the reference asks for" if command == "check" else ""  # what is sealed has another id
            assert re.search(attack.message + other, told), where


def test_the_table_of_the_documentation_names_every_attack() -> None:
    rows = [line.split("|")[1].strip() for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    assert sorted({attack.name for attack in ATTACKS}) == sorted(row for row in rows if row not in ("attack", "---"))
