import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError, IntegrityError
from caskit.manifests.rejection import Rejection
from caskit.manifests.rows import ROW_SCHEMA
from caskit.shards.card import write_card
from caskit.shards.freeze import freeze


def front_matter(root: Path) -> dict[str, Any]:
    _, yaml_text, _ = (root / "README.md").read_text().split("---\n", 2)
    value: dict[str, Any] = yaml.safe_load(yaml_text)
    return value


def test_sha256sum_checks_every_file(tiny: Any, tmp_path: Path) -> None:
    root = tmp_path / "set"
    store, _ = tiny.frozen(root, tiny.plan())
    store.create("environment.json", b"{}")
    store.create("quarantine/x.tar", b"")
    write_card(store)
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    checked = {line.removesuffix(": OK") for line in done.stdout.splitlines()}
    assert checked == {name for name in store.names("") if not name.startswith(("_work/", "quarantine/", "SHA256SUMS"))}
    path = root / "shards/shard-000001.tar"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "shards/shard-000001.tar: FAILED" in done.stdout


def test_the_card_can_be_made_again(tiny: Any, tmp_path: Path) -> None:
    store, _ = tiny.frozen(tmp_path / "set", tiny.plan())
    before = tiny.tree(tmp_path / "set")
    for name in ("README.md", "_info.json", "croissant.json", "SHA256SUMS"):
        (tmp_path / "set" / name).write_text("edited")
    write_card(store)
    assert tiny.tree(tmp_path / "set") == before


def test_the_card_names_the_judge(tiny: Any, tmp_path: Path) -> None:
    judge = "ef" * 32
    tiny.frozen(tmp_path / "filtered", tiny.plan(rejection=Rejection(candidates=4, classifier_id=judge)))
    tiny.frozen(tmp_path / "plain", tiny.plan())
    for name, told in (("filtered", True), ("plain", False)):
        card, croissant = ((tmp_path / name / file).read_text() for file in ("README.md", "croissant.json"))
        assert (f"best of 4 candidates by classifier `{judge}`: quality for diversity" in card) == told
        assert (f"best of 4 by classifier sha256:{judge}" in croissant) == told


@pytest.mark.parametrize("kind", ["synthetic", "real"])
def test_the_yaml_is_what_hugging_face_reads(tiny: Any, tmp_path: Path, kind: str) -> None:
    tiny.frozen(tmp_path, tiny.plan() if kind == "synthetic" else tiny.ingest())
    card = front_matter(tmp_path)
    split = "train" if kind == "synthetic" else "test"
    files = [{"split": split, "path": "shards/*.tar"}]
    assert card["configs"] == [{"config_name": "default", "data_files": files}]
    assert card["license"] == "cc0-1.0"
    assert card["task_categories"] == ["image-classification"] and card["size_categories"] == ["n<1K"]
    assert card["tags"] == ["webdataset", "caskit", kind]
    features = {field["name"]: field["dtype"] for field in card["dataset_info"][0]["features"]}
    assert features["png"] == "image"
    assert features["cls"] == {"class_label": {"names": {"0": "shirt", "1": "bag | purse", "2": "<boot>"}}}


def test_the_text_names_the_set(tiny: Any, tmp_path: Path) -> None:
    plan = tiny.plan()
    _, replica = tiny.frozen(tmp_path, plan)
    text = (tmp_path / "README.md").read_text()
    for fact in (replica.replica_id, replica.content_root, plan.plan_id, plan.checkpoint_id, "fake, preset tiny"):
        assert fact in text
    assert "| 1 | c01 | bag \\| purse | 7 |" in text and "&lt;boot>" in text
    assert "shard-{000000..000003}.tar" in text


@pytest.mark.parametrize(
    ("licence", "yaml_lines"),
    [
        (None, {"license": "unknown"}),
        ("mit", {"license": "mit"}),
        ("My: own\nwords", {"license": "other", "license_name": "My: own\nwords"}),
    ],
)
def test_licences_of_any_kind(tiny: Any, tmp_path: Path, licence: str | None, yaml_lines: dict[str, str]) -> None:
    store = tiny.committed(tmp_path, tiny.plan())
    freeze(store, provenance={"licence": licence}, created="2026-01-01T00:00:00+00:00")
    write_card(store)
    card = front_matter(tmp_path)
    assert {name: value for name, value in card.items() if name.startswith("license")} == yaml_lines
    stated = json.loads((tmp_path / "croissant.json").read_text())["license"]
    assert stated == (licence or {"@type": "sc:CreativeWork", "name": "not stated"})


def test_inputs_stored_as_they_were_may_have_any_extension(tiny: Any, tmp_path: Path) -> None:
    tiny.frozen(tmp_path, tiny.ingest(codec={"name": "original"}))
    features = front_matter(tmp_path)["dataset_info"][0]["features"]
    assert [one["name"] for one in features] == ["cls", "png", "jpg", "webp", "__key__", "__url__"]
    croissant = json.loads((tmp_path / "croissant.json").read_text())
    assert croissant["distribution"][-1]["includes"] == ["*.png", "*.jpg", "*.webp"]


def test_croissant_has_what_its_specification_asks_for(tiny: Any, tmp_path: Path) -> None:
    _, replica = tiny.frozen(tmp_path, tiny.plan(codec=Codec.of("jpeg")))
    croissant = json.loads((tmp_path / "croissant.json").read_text())
    required = {"@context", "@type", "conformsTo", "description", "license", "name", "url", "creator", "datePublished"}
    assert required <= set(croissant)
    assert croissant["@type"] == "sc:Dataset"
    assert croissant["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert croissant["@context"]["recordSet"] == "cr:recordSet"
    assert croissant["identifier"] == f"sha256:{replica.replica_id}"
    *files, images = croissant["distribution"]
    for file in files:
        data = (tmp_path / file["contentUrl"]).read_bytes()
        assert file["@type"] == "cr:FileObject" and file["@id"] == file["contentUrl"]
        assert file["sha256"] == hashlib.sha256(data).hexdigest() and file["contentSize"] == f"{len(data)} B"
    assert images["@type"] == "cr:FileSet" and images["includes"] == ["*.jpg"]
    assert [tar["@id"] for tar in images["containedIn"]] == [f"shards/shard-00000{n}.tar" for n in range(4)]
    records = {record["@id"]: record for record in croissant["recordSet"]}
    assert [row["classes/name"] for row in records["classes"]["data"]] == ["shirt", "bag | purse", "<boot>"]
    columns = [field["source"]["extract"]["column"] for field in records["manifest"]["field"]]
    assert columns == ROW_SCHEMA.names


def test_every_croissant_reference_leads_somewhere_and_ids_are_unique(tiny: Any, tmp_path: Path) -> None:
    tiny.frozen(tmp_path, tiny.ingest())
    defined, used = [], set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if set(value) == {"@id"}:
                used.add(value["@id"])
            elif "@id" in value:
                defined.append(value["@id"])
            for child in value.values():
                walk(child)
        elif isinstance(value, list):
            for child in value:
                walk(child)

    croissant = json.loads((tmp_path / "croissant.json").read_text())
    walk({name: value for name, value in croissant.items() if name != "@context"})
    assert len(set(defined)) == len(defined)
    assert used <= set(defined)


def test_sets_that_are_not_frozen_or_damaged_get_no_card(tiny: Any, tmp_path: Path) -> None:
    store = tiny.committed(tmp_path, tiny.plan())
    with pytest.raises(InputError, match=r"replica\.json: no such file; it is not frozen yet"):
        write_card(store)
    tiny.freeze(store)
    (tmp_path / "plan.json").write_bytes(tiny.plan(seed=8).to_bytes())
    with pytest.raises(IntegrityError, match="one of them was edited"):
        write_card(store)
    assert not store.exists("README.md")
