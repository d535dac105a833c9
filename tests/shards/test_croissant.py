"""mlcroissant, the reference implementation of Croissant, accepts croissant.json and reads the set through it."""

import gc
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

# Of its own libraries: rdflib's ConjunctiveGraph, and the images that it leaves open.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
]
KINDS = ("synthetic", "coded", "real", "original")


@pytest.fixture
def croissant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The package, with a cache of its own: what CROISSANT_CACHE says when it is imported."""
    import mlcroissant  # takes seconds
    from mlcroissant._src.operation_graph.operations import extract

    monkeypatch.setattr(extract, "EXTRACT_PATH", type(extract.EXTRACT_PATH)(tmp_path / "cache"))
    yield mlcroissant
    gc.collect()  # inside the test, whose the open files are


@pytest.fixture
def origins(tiny: Any) -> dict[str, Callable[[], Any]]:
    return {
        "synthetic": lambda: tiny.plan(),
        "coded": lambda: tiny.plan(record_codes=True),
        "real": lambda: tiny.ingest(),
        "original": lambda: tiny.ingest(codec={"name": "original"}),
    }


def text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize("kind", KINDS)
def test_mlcroissant_finds_no_fault_and_reads_every_record(
    croissant: Any, origins: dict[str, Callable[[], Any]], tiny: Any, tmp_path: Path, kind: str
) -> None:
    origin = origins[kind]()
    tiny.frozen(tmp_path / "set", origin)
    dataset = croissant.Dataset(jsonld=tmp_path / "set" / "croissant.json")
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    assert all("citeAs" in warning for warning in issues.warnings), issues.warnings
    assert dataset.metadata.ctx.conforms_to.value == "http://mlcommons.org/croissant/1.1"
    labels = {f"c0{label}_{ordinal:06d}": label for label, ordinal in tiny.assign(origin)}
    classes = [text(one["classes/name"]) for one in dataset.records("classes")]
    assert classes == ["shirt", "bag | purse", "<boot>"]
    rows = {text(row["manifest/key"]): row["manifest/label"] for row in dataset.records("manifest")}
    assert rows == labels
    samples = list(dataset.records("samples"))
    assert {text(one["samples/key"]): one["samples/label"] for one in samples} == labels
    assert len(samples) == len(labels)
    for one in samples:
        if kind != "original" or one["samples/image"].format == "PNG":
            np.testing.assert_array_equal(np.array(one["samples/image"]), tiny.image(text(one["samples/key"]))[:, :, 0])


def test_two_sets_under_one_cache_are_mixed_up_by_mlcroissant(croissant: Any, tiny: Any, tmp_path: Path) -> None:
    """A limit of its, which docs/readers.md tells: a tar is unpacked once for all folders that name it alike."""
    found = {}
    for name, num in (("one", 6), ("other", 3)):
        tiny.frozen(tmp_path / name, tiny.plan(num=num))
        dataset = croissant.Dataset(jsonld=tmp_path / name / "croissant.json")
        found[name] = list(dataset.records("samples"))
    assert len(found["one"]) == 6 and all(one["samples/label"] is not None for one in found["one"])
    assert len(found["other"]) == 6 and any(one["samples/label"] is None for one in found["other"])


@pytest.mark.parametrize("broken", [False, True])
def test_its_command_line_tells_a_whole_file_from_a_broken_one(tiny: Any, tmp_path: Path, broken: bool) -> None:
    tiny.frozen(tmp_path / "set", tiny.plan())
    path = tmp_path / "set" / "croissant.json"
    stated = json.loads(path.read_text())
    if broken:
        stated["recordSet"][2]["field"][2]["references"] = {"field": {"@id": "classes/nothing"}}
    (tmp_path / "croissant.json").write_text(json.dumps(stated))
    command = [str(Path(sys.executable).with_name("mlcroissant")), "validate", "--jsonld"]
    target = tmp_path / "croissant.json" if broken else path
    done = subprocess.run([*command, str(target)], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) != broken, done.stderr
