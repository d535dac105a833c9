"""The result file of benchmarks/rejection.py: what was measured earlier on something else stays."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def script(request: pytest.FixtureRequest) -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "rejection.py"))


def test_a_section_takes_the_place_of_its_own_alone(script: dict[str, Any]) -> None:
    put = script["put_section"]
    first = put("", "## a on b, 10 images\n\nold\n")
    assert first == script["TITLE"] + "\n\n## a on b, 10 images\n\nold\n"
    second = put(first, "## c on b, 10 images\n\nother\n")
    assert second == first + "\n## c on b, 10 images\n\nother\n"
    third = put(second, "## a on b, 10 images\n\nnew\n")
    assert third.count("## ") == 2 and "old" not in third and "other" in third and third.endswith("new\n")


def test_seconds_are_those_of_the_runs_that_drew(script: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "_work/telemetry"
    folder.mkdir(parents=True)
    for number, seconds in enumerate(
        (
            {"total": 2.0, "processor": 1.0, "judge": 0.5},
            {"total": 3.0, "processor": 1.5, "judge": 1.0},
        )
    ):
        events = [{"event": "begin"}, {"event": "shard", "shard": number, "seconds": seconds}]
        (folder / f"{number}.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    assert script["cost"](tmp_path) == (5.0, 2.5, 1.5)


def test_cells_of_the_table(script: dict[str, Any]) -> None:
    row, cells = script["Row"], script["cells"]
    real = row(candidates=0, top1=(0.9, 0.8), judge_agreement=0.95, witness_agreement=0.94)
    one = row(candidates=1, top1=(0.8,), judge_agreement=0.5, witness_agreement=0.5, worker_s=2.0, images_per_s=50.0)
    four = row(
        candidates=4, top1=(0.75, 0.85), judge_agreement=1, witness_agreement=0.9, worker_s=8.0, processor_s=7,
        images_per_s=12.5, judge_share=0.25,
    )  # fmt: skip
    assert len(cells(real, real, one)) == len(cells(four, real, one)) == len(script["COLUMNS"])
    assert cells(real, real, one)[:2] == ["Real", "85.00"]
    assert cells(four, real, one)[3] == "5.00" and cells(four, real, one)[6:] == ["8.0", "7.0", "12", "4.00x", "25 %"]
