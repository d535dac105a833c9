from dataclasses import fields, replace
from typing import Any

import pytest

from caskit.manifests.canonical import canonical_json, parse_canonical
from caskit.manifests.classes import ClassList
from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError
from caskit.manifests.origin import ORIGIN_FILES, ORIGINS
from caskit.manifests.plan import Numerics, differing_fields
from caskit.manifests.reconstruction import Parent, Reconstruction

PARENT = Parent(replica_id="ab" * 32, content_root="cd" * 32, dataset="digits", split="train")
RECORD = Reconstruction(
    classes=ClassList.from_names(["a", "b"]),
    parent=PARENT,
    family="vqvae2",
    preset="digits",
    checkpoint_id="ef" * 32,
    sampler_version=1,
    histogram=(13, 12),
    height=8,
    width=8,
    channels=1,
    codec=Codec.of("png"),
    samples_per_shard=10,
)
CHANGES: dict[str, Any] = {
    "classes": ClassList.from_names(["a", "c"]),
    "parent": replace(PARENT, split="test"),
    "family": "x",
    "preset": "x",
    "checkpoint_id": "12" * 32,
    "sampler_version": 2,
    "histogram": (12, 13),
    "height": 9,
    "width": 9,
    "channels": 3,
    "codec": Codec.of("webp"),
    "samples_per_shard": 5,
    "microbatch_size": 32,
    "pixel_digests": True,
    "numerics": Numerics(threads=2),
}


def test_a_record_survives_its_file() -> None:
    again = Reconstruction.from_json(parse_canonical(RECORD.to_bytes(), name="reconstruction.json"))
    assert again == RECORD and again.origin_id == RECORD.origin_id
    assert (RECORD.num, RECORD.num_shards, RECORD.shard_range(2)) == (25, 3, (20, 25))


@pytest.mark.parametrize("name", [field.name for field in fields(Reconstruction) if field.name != "format_version"])
def test_every_field_is_in_the_id(name: str) -> None:
    other = replace(RECORD, **{name: CHANGES[name]})
    assert other.origin_id != RECORD.origin_id
    assert differing_fields(RECORD.to_json(), other.to_json())[0].startswith(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples_per_shard": 0}, "samples_per_shard is 0, allowed: 1"),
        ({"histogram": (1, 2, 3)}, "histogram has 3 entries for 2 classes"),
        ({"histogram": (0, 0)}, "histogram must hold whole numbers of 0 or more, not all of them 0"),
        ({"pixel_digests": 1}, "pixel_digests is 1, allowed: true, false"),
        ({"format_version": 2}, "needs a newer caskit"),
    ],
)
def test_a_bad_record_dies_when_made(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(RECORD, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"replica_id": "AB" * 32}, "parent: replica_id is .*, must be 64 lower-case hex digits"),
        ({"split": "all"}, "parent: split is 'all', allowed: train, validation, test"),
        ({"dataset": ""}, "parent: dataset is '', must be a name"),
    ],
)
def test_a_parent_is_named_in_full(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(PARENT, **changes)


def test_an_edited_file_is_refused_by_field() -> None:
    value = RECORD.to_json()
    for edited, message in (
        ({**value, "seed": 1}, "unknown fields: .'seed'"),
        ({**value, "parent": {"replica_id": "ab" * 32}}, "reconstruction.json: parent: missing fields"),
        ({**value, "codec": {"name": "png"}}, "a field has the wrong type"),
    ):
        parsed = parse_canonical(canonical_json(edited), name="reconstruction.json")
        with pytest.raises(InputError, match=message):
            Reconstruction.from_json(parsed)


def test_every_kind_has_a_record_and_a_file_of_its_own() -> None:
    assert ORIGIN_FILES == {
        "synthetic": "plan.json",
        "real": "ingest.json",
        "reconstruction": "reconstruction.json",
        "imported": "import.json",
        "view": "view.json",
    }
    assert ORIGINS["reconstruction"] is Reconstruction
