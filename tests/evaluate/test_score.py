import copy
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caskit.evaluate.metrics import summary
from caskit.evaluate.predict import PREDICTIONS_NAME, read_predictions
from caskit.evaluate.score import SCORE_NAME, read_score, score
from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError, IntegrityError, NotFinished
from caskit.manifests.reconstruction import Parent, Reconstruction
from caskit.shards.dataset import FrozenSet, open_set
from caskit.shards.imports import import_source
from caskit.shards.sources.recognise import Options, recognise
from caskit.train.recipes import Recipe
from caskit.train.training import train

CPU = torch.device("cpu")
RECIPE = Recipe(
    name="tiny",
    widths=(8, 8),
    num_poolings=2,
    resolution=8,
    num_steps=25,
    batch_size=16,
    bn_batch=16,
    learning_rate=0.2,
    threads=1,
)
SHORT = dataclasses.replace(RECIPE, num_steps=2)
MakeReal = Callable[..., FrozenSet]
Convert = Callable[[FrozenSet], FrozenSet]


@dataclasses.dataclass
class Bench:
    """A real and a synthetic training set, a classifier of each, and a test set."""

    root: Path
    make_real: MakeReal
    as_synthetic: Convert
    test: FrozenSet

    def classifier(self, name: str, *, seed: int = 0, recipe: Recipe = SHORT) -> Path:
        folder = self.root / f"classifier-{name}-{seed}-{recipe.num_steps}"
        data = self.make_real("train", seed=1) if name == "real" else self.as_synthetic(self.make_real("test", seed=2))
        train(data, recipe, seed=seed, out=folder, device=CPU)
        return folder

    def score(self, classifier: Path, name: str, **options: Any) -> dict[str, Any]:
        return score(classifier, options.pop("test", self.test), out=self.root / name, device=CPU, **options)


@pytest.fixture
def bench(tmp_path: Path, make_real: MakeReal, as_synthetic: Convert) -> Bench:
    return Bench(root=tmp_path, make_real=make_real, as_synthetic=as_synthetic, test=make_real("test"))


def test_cas_beside_real(bench: Bench) -> None:
    real = bench.score(bench.classifier("real", recipe=RECIPE), "real")
    cas = bench.score(bench.classifier("synthetic", recipe=RECIPE), "cas", baseline=bench.root / "real")
    assert (real["metric"], cas["metric"]) == ("real", "CAS")
    assert real["real"] is None and real["gap_points"] is None
    assert real["top1"]["value"] > 0.8
    assert cas["real"]["top1"] == real["top1"]
    assert cas["real"]["score_id"] == real["score_id"]
    assert cas["gap_points"] == pytest.approx(100 * (real["top1"]["value"] - cas["top1"]["value"]))
    assert cas["gap_relative"] == pytest.approx(1 - cas["top1"]["value"] / real["top1"]["value"])
    for row, real_row in zip(cas["per_class"], real["per_class"], strict=True):
        assert row["real_top1"] == real_row["top1"]
        assert row["difference"] == pytest.approx(row["top1"] - real_row["top1"])
    assert cas["classifier"]["train"]["generator"]["family"] == "stripes"
    assert cas["test"]["replica_id"] == bench.test.replica.replica_id
    assert cas["test"]["location"] == bench.test.store.location
    assert any("memorises" in caveat for caveat in cas["caveats"])
    assert any("p(x|y)" in caveat for caveat in cas["caveats"])
    assert any("no proper scoring rule" in caveat for caveat in real["caveats"])


def test_every_number_follows_from_the_predictions(bench: Bench) -> None:
    record = bench.score(bench.classifier("real"), "real")
    assert json.loads((bench.root / "real" / SCORE_NAME).read_text()) == record == read_score(bench.root / "real")
    numbers = summary(read_predictions(bench.root / "real" / PREDICTIONS_NAME), bench.test.classes)
    assert {name: record[name] for name in numbers} == numbers
    assert numbers["num_test"] == len(bench.test)


def test_real_to_synthetic_is_gan_test(bench: Bench) -> None:
    synthetic = bench.as_synthetic(bench.make_real("test", seed=2))
    record = bench.score(bench.classifier("real"), "gan-test", test=synthetic)
    assert record["metric"] == "GAN-test"
    assert "not CAS" in record["caveats"][0]
    other = bench.as_synthetic(bench.make_real("test", seed=5))
    with pytest.raises(InputError, match="CAS needs real test images"):
        bench.score(bench.classifier("synthetic"), "neither", test=other)


def test_reconstructions_have_a_name_of_their_own(bench: Bench) -> None:
    def reconstructed(real: FrozenSet) -> FrozenSet:
        made, ingest = copy.copy(bench.make_real("test", seed=2)), real.ingest
        assert ingest is not None
        parent = Parent(
            replica_id=real.replica.replica_id,
            content_root=real.replica.content_root,
            dataset=ingest.dataset,
            split=ingest.split,
        )
        made.reconstruction = Reconstruction(
            classes=made.classes,
            parent=parent,
            family="stripes",
            preset="noisy",
            checkpoint_id="c" * 64,
            sampler_version=1,
            histogram=ingest.histogram,
            height=8,
            width=8,
            channels=1,
            codec=Codec.of("png"),
        )
        made.kind, made.split, made.ingest = "reconstruction", parent.split, None
        return made

    real = bench.make_real("train", seed=1)
    train(reconstructed(real), SHORT, seed=0, out=bench.root / "made", device=CPU)
    record = bench.score(bench.root / "made", "score")
    assert record["metric"] == "reconstructions"
    assert record["classifier"]["train"]["generator"]["parent_replica_id"] == real.replica.replica_id
    assert "This is no CAS" in record["caveats"][0] and not any("memorises" in caveat for caveat in record["caveats"])
    with pytest.raises(InputError, match="holds reconstructions; train on them and test on real images"):
        bench.score(bench.classifier("real"), "neither", test=reconstructed(bench.test))
    train(reconstructed(bench.test), SHORT, seed=0, out=bench.root / "leak", device=CPU)
    with pytest.raises(InputError, match="was trained on reconstructions of it; use other images"):
        bench.score(bench.root / "leak", "leaked")


def test_imported_images_are_scored_with_a_caveat(bench: Bench) -> None:
    images, labels = bench.make_real("train", seed=4).arrays()
    np.savez(bench.root / "samples.npz", images, labels)
    source = recognise(bench.root / "samples.npz", Options(classes=bench.test.classes))
    import_source(source, bench.root / "imported", name="a GAN's")
    train(open_set(str(bench.root / "imported")), SHORT, seed=0, out=bench.root / "theirs", device=CPU)
    record = bench.score(bench.root / "theirs", "cas")
    assert record["metric"] == "CAS"
    described = record["classifier"]["train"]
    assert (described["kind"], described["dataset"], described["generator"]) == ("imported", "a GAN's", None)
    assert any(caveat.startswith("The images were imported: no generator, seed") for caveat in record["caveats"])
    real = bench.score(bench.classifier("real"), "real")
    assert not any("imported" in caveat for caveat in real["caveats"])


def test_a_finished_score_returns_at_once(bench: Bench) -> None:
    classifier = bench.classifier("real")
    record = bench.score(classifier, "real")
    before = {path: path.stat().st_mtime_ns for path in (bench.root / "real").iterdir()}
    (classifier / "model.safetensors").unlink()  # not needed any more
    assert bench.score(classifier, "real") == record
    assert before == {path: path.stat().st_mtime_ns for path in (bench.root / "real").iterdir()}


def test_the_id_does_not_depend_on_places_and_is_the_same_again(bench: Bench) -> None:
    classifier = bench.classifier("real")
    first = bench.score(classifier, "real")
    shutil.copytree(classifier, bench.root / "moved")
    second = bench.score(bench.root / "moved", "again")
    assert first["score_id"] == second["score_id"]
    assert first["classifier"]["location"] != second["classifier"]["location"]


def test_a_folder_with_other_inputs(bench: Bench) -> None:
    bench.score(bench.classifier("real"), "real")
    bench.score(bench.classifier("synthetic"), "cas")
    with pytest.raises(InputError, match="other inputs, differing in classifier_id .*; choose another folder"):
        bench.score(bench.classifier("real", seed=1), "real")
    with pytest.raises(InputError, match="differing in baseline"):
        bench.score(bench.classifier("synthetic"), "cas", baseline=bench.root / "real")
    with pytest.raises(InputError, match="differing in test"):
        bench.score(bench.classifier("real"), "real", test=bench.make_real("test", seed=9))


def test_stopped_leaves_no_score(bench: Bench) -> None:
    with pytest.raises(NotFinished):
        bench.score(bench.classifier("real"), "real", stop=lambda: True)
    assert not (bench.root / "real" / SCORE_NAME).exists()
    assert bench.score(bench.classifier("real"), "real")["num_test"] == 48


def test_training_images_are_refused(bench: Bench) -> None:
    classifier = bench.classifier("real")
    with pytest.raises(InputError, match="is a train split"):
        bench.score(classifier, "score", test=bench.make_real("train", seed=1))
    with pytest.raises(InputError, match="was trained on; a score needs other images"):
        bench.score(classifier, "score", test=bench.make_real("test", seed=1))
    assert not (bench.root / "score").exists()


def test_other_classes_are_refused(bench: Bench) -> None:
    classifier = bench.classifier("real")
    with pytest.raises(InputError, match=r"label 2 is c02 \(c\) there, c02 \(d\) here"):
        bench.score(classifier, "score", test=bench.make_real("test", names=("a", "b", "d")))
    with pytest.raises(InputError, match="3 classes there, 2 here"):
        bench.score(classifier, "score", test=bench.make_real("test", names=("a", "b")))


def test_baselines_that_do_not_fit(bench: Bench) -> None:
    synthetic = bench.classifier("synthetic")
    bench.score(bench.classifier("real", recipe=RECIPE), "other-recipe")
    with pytest.raises(InputError, match=f"{RECIPE.recipe_id}.*{SHORT.recipe_id}.*a gap needs one recipe"):
        bench.score(synthetic, "cas", baseline=bench.root / "other-recipe")
    bench.score(bench.classifier("real"), "other-test", test=bench.make_real("test", seed=9))
    with pytest.raises(InputError, match="baseline was tested on content_root"):
        bench.score(synthetic, "cas", baseline=bench.root / "other-test")
    bench.score(synthetic, "cas")
    with pytest.raises(InputError, match="is a CAS score, a baseline is one of real images"):
        bench.score(synthetic, "more", baseline=bench.root / "cas")
    with pytest.raises(InputError, match="holds no finished score"):
        bench.score(synthetic, "more", baseline=bench.root)


def test_edited_scores_and_predictions(bench: Bench) -> None:
    bench.score(bench.classifier("real"), "real")
    path = bench.root / "real" / SCORE_NAME
    text = path.read_text()
    path.write_text(text.replace('"num_test": 48', '"num_test": 49'))
    with pytest.raises(IntegrityError, match="score_id does not follow"):
        read_score(bench.root / "real")
    path.write_text(text.replace('"format_version": 1', '"format_version": 9'))
    with pytest.raises(InputError, match="format_version is 9"):
        read_score(bench.root / "real")
    path.write_text("[]")
    with pytest.raises(InputError, match="not a score"):
        read_score(bench.root / "real")
    path.write_text(text)
    predictions = bench.root / "real" / PREDICTIONS_NAME
    predictions.write_bytes(predictions.read_bytes() + b"\0")
    with pytest.raises(IntegrityError, match="predictions.parquet: sha256 differs"):
        read_score(bench.root / "real")
    predictions.unlink()
    assert read_score(bench.root / "real")["num_test"] == 48  # another lab may hand over score.json alone
