import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from caskit.gen.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from caskit.manifests.canonical import canonical_json
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError, IntegrityError


def save(path: Path, seed: int = 0) -> Checkpoint:
    weights = torch.Generator().manual_seed(seed)
    return save_checkpoint(
        path,
        family="pebble",
        preset="tiny",
        config={"width": 3, "rate": 0.5},
        classes=ClassList.from_names(["a", "b"]),
        height=4,
        width=5,
        channels=1,
        tensors={"b": torch.randn(3, 2, generator=weights).T, "a": torch.arange(4)},
    )


def test_round_trip(tmp_path: Path) -> None:
    saved = save(tmp_path)
    loaded = load_checkpoint(tmp_path)
    assert loaded == saved
    assert loaded.checkpoint_id == hashlib.sha256((tmp_path / "checkpoint.json").read_bytes()).hexdigest()
    assert loaded.classes.names == ("a", "b")
    assert loaded.record["config"] == {"width": 3, "rate": 0.5}
    tensors = loaded.tensors()
    assert torch.equal(tensors["a"], torch.arange(4)) and tensors["b"].shape == (2, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.json", "model.safetensors"]


def test_equal_content_has_equal_ids(tmp_path: Path) -> None:
    first, second, other = save(tmp_path / "1"), save(tmp_path / "2"), save(tmp_path / "3", seed=1)
    assert first.checkpoint_id == second.checkpoint_id != other.checkpoint_id
    load_checkpoint(tmp_path / "1", first.checkpoint_id)
    with pytest.raises(InputError, match="checkpoint_id is .*, the plan asks for"):
        load_checkpoint(tmp_path / "3", first.checkpoint_id)


def test_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    save(tmp_path)
    file = tmp_path / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(IntegrityError, match="model.safetensors: sha256 is"):
        load_checkpoint(tmp_path)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint there"):
        load_checkpoint(tmp_path / "nowhere")
    save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(IntegrityError, match="model.safetensors: missing"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surprise": 1}, "unknown fields"),
        ({"format_version": 2}, "needs a newer caskit"),
        ({"tensors": {"../model.safetensors": "0" * 64}}, "must name model.safetensors and nothing else"),
        ({"height": 0}, "height is 0"),
        ({"config": []}, "config has the wrong type: .*, must be an object"),
        ({"derived_from": "0" * 64}, "derived_from and transform go together"),
        ({"derived_from": "0" * 63, "transform": "{}"}, "derived_from is .*, must be 64 hex digits"),
        ({"derived_from": "0" * 64, "transform": 3}, "transform has the wrong type: 3, must be text or null"),
        ({"classes": []}, "class list has 0 ids"),
    ],
)
def test_records_of_another_form(tmp_path: Path, change: dict, message: str) -> None:
    save(tmp_path)
    file = tmp_path / "checkpoint.json"
    file.write_bytes(canonical_json({**json.loads(file.read_bytes()), **change}))
    with pytest.raises(InputError, match=message):
        load_checkpoint(tmp_path)


def test_tensors_that_are_no_safetensors(tmp_path: Path) -> None:
    save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04pickle")
    digest = hashlib.sha256(b"\x80\x04pickle").hexdigest()
    file = tmp_path / "checkpoint.json"
    record = {**json.loads(file.read_bytes()), "tensors": {"model.safetensors": digest}}
    file.write_bytes(canonical_json(record))
    with pytest.raises(IntegrityError, match="not a safetensors file"):
        load_checkpoint(tmp_path)


def test_saving_again_replaces_a_half_written_one(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    (tmp_path / "half/checkpoint.json").unlink()
    (tmp_path / "half/model.safetensors").write_bytes(b"half")
    assert save(tmp_path / "half").checkpoint_id == whole.checkpoint_id
