"""mlcroissant, the reference implementation of Croissant, accepts croissant.json and reads the set through it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Of its own libraries: rdflib's ConjunctiveGraph.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.mark.parametrize("kind", ["synthetic", "coded", "real", "original"])
def test_mlcroissant_finds_no_fault_and_reads_every_record(tiny: Any, tmp_path: Path, kind: str) -> None:
    import mlcroissant  # takes seconds

    origins = {
        "synthetic": lambda: tiny.plan(),
        "coded": lambda: tiny.plan(record_codes=True),
        "real": lambda: tiny.ingest(),
        "original": lambda: tiny.ingest(codec={"name": "original"}),
    }
    origin = origins[kind]()
    tiny.frozen(tmp_path / "set", origin)
    dataset = mlcroissant.Dataset(jsonld=tmp_path / "set" / "croissant.json")
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    assert all("citeAs" in warning for warning in issues.warnings), issues.warnings
    assert dataset.metadata.ctx.conforms_to.value == "http://mlcommons.org/croissant/1.1"
    labels = {f"c0{label}_{ordinal:06d}": label for label, ordinal in tiny.assign(origin)}
    classes = [one["classes/name"].decode() for one in dataset.records("classes")]
    assert classes == ["shirt", "bag | purse", "<boot>"]
    rows = {row["manifest/key"].decode(): row["manifest/label"] for row in dataset.records("manifest")}
    assert rows == labels
    samples = list(dataset.records("samples"))
    assert {one["samples/key"].decode(): one["samples/label"] for one in samples} == labels
    if kind != "original":
        for one in samples:
            np.testing.assert_array_equal(
                np.array(one["samples/image"]), tiny.image(one["samples/key"].decode())[:, :, 0]
            )
