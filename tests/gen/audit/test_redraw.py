"""The redraw: whole microbatches as the plan says, for every family, with and without codes, judge, or environment."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from coded_family import NUM_CODES, CodedPebbleGenerator, save_coded
from forged_sets import forge
from pebble_drive import plan_of

from caskit.gen import family as family_table
from caskit.gen.audit import AuditConfig, AuditReport, Selection, audit
from caskit.gen.audit.redraw import microbatches
from caskit.gen.checkpoint import Checkpoint
from caskit.gen.drawing import Drawn
from caskit.gen.rejection import make_rejection
from caskit.gen.sampling import SampleConfig, sample
from caskit.manifests.errors import InputError
from caskit.manifests.plan import Plan
from caskit.shards.dataset import open_set
from caskit.shards.verify import verify
from caskit.train.recipes import Recipe
from caskit.train.training import train

KEY = "c02_000003"
INLINE = SampleConfig(executor="inline")


def check(root: Path, checkpoint: Path, **config) -> AuditReport:
    return audit(str(root), checkpoint, AuditConfig(mode="redraw", **config))


def test_an_honest_replica_without_codes_is_redrawn_by_default(pebble: Checkpoint, tmp_path: Path) -> None:
    """Samples that were drawn again included: all their draws are, in the microbatches they were in."""
    plan = plan_of(pebble.path, 53, sampler={"not_finite_every": 3})
    sample(plan, tmp_path / "r", checkpoint=pebble.path, config=INLINE)
    report = audit(str(tmp_path / "r"), pebble.path)
    assert report.passed and report.exact and (report.mode, report.epsilon, report.max_excess) == ("redraw", None, None)
    assert report.counts["samples"] == report.counts["images_equal"] == 53
    attempts = np.array(open_set(str(tmp_path / "r")).table.column("attempt").to_pylist())
    shards = [attempts[start : start + 20] for start in (0, 20, 40)]
    due = sum(-(-int((shard >= attempt).sum()) // 8) for shard in shards for attempt in range(int(shard.max()) + 1))
    assert report.counts["microbatches"] == due > 8


def test_a_named_key_brings_its_microbatches(pebble: Checkpoint, tmp_path: Path) -> None:
    plan = plan_of(pebble.path, 53)
    sample(plan, tmp_path / "r", checkpoint=pebble.path, config=INLINE)
    report = check(tmp_path / "r", pebble.path, selection=Selection(keys=(KEY,)))
    assert report.passed and report.counts["microbatches"] == 1
    assert report.counts["samples"] in (4, 8) and KEY in {pair.key for pair in report.pairs}


@pytest.mark.parametrize("size", [1, 3, 8])
def test_microbatches_hold_what_was_still_open(size: int) -> None:
    rounds = np.array([0, 2, 0, 1, 0, 1, 0, 0, 2, 0])
    made = list(microbatches(rounds, range(10), size))
    for number in range(3):
        positions = np.concatenate([p for n, p in made if n == number])
        assert positions.tolist() == np.flatnonzero(rounds >= number).tolist()
    one = [(number, positions.tolist()) for number, positions in microbatches(rounds, [8], size)]
    assert [number for number, _ in one] == [0, 1, 2] and all(8 in positions for _, positions in one)


def test_codes_and_bytes_are_compared(honest: tuple[Path, Path], coded: Checkpoint) -> None:
    report = check(*honest)
    assert report.passed and report.exact and report.counts["samples"] == 53 and report.epsilon == 1e-4


def test_a_forged_image_is_found(pebble: Checkpoint, tmp_path: Path) -> None:
    plan = plan_of(pebble.path, 53)

    def brighten(samples: dict[str, Drawn], generator) -> None:
        samples[KEY].images[0, 4, 2, 0] ^= 1

    forge(tmp_path / "r", plan, pebble.path, change=brighten)
    verify(str(tmp_path / "r"), "deep")
    (failure,) = check(tmp_path / "r", pebble.path).failures
    assert (failure.kind, failure.key, failure.row, failure.column) == ("pixels", KEY, 4, 2)
    assert "the plan draws another image than is stored: 1 of 24 pixels differ" in failure.message
    assert check(tmp_path / "r", pebble.path, pixel_tolerance=1).passed


def test_a_forged_code_that_decodes_alike_is_found(coded: Checkpoint, coded_plan: Plan, tmp_path: Path) -> None:
    def change(samples: dict[str, Drawn], generator) -> None:
        assert samples[KEY].codes is not None
        maps = samples[KEY].codes["bottom"]
        maps[0, 3, 2] = (maps[0, 3, 2] + NUM_CODES // 2) % NUM_CODES

    forge(tmp_path / "r", coded_plan, coded.path, change=change)
    (failure,) = check(tmp_path / "r", coded.path).failures
    assert (failure.kind, failure.key, failure.level) == ("codes", KEY, "bottom")
    assert (failure.row, failure.column) == (3, 2) and "is drawn" in failure.message


def test_a_chosen_attempt_is_found(pebble: Checkpoint, tmp_path: Path) -> None:
    plan = plan_of(pebble.path, 53)

    def choose(samples: dict[str, Drawn], generator) -> None:
        samples[KEY] = dataclasses.replace(samples[KEY], attempts=np.array([1]))

    forge(tmp_path / "r", plan, pebble.path, change=choose)
    report = check(tmp_path / "r", pebble.path)
    assert {failure.key for failure in report.failures} == {KEY}
    assert "attempt 1 is recorded, but attempt 0 was finite" in str(report.failures[0])


def test_another_seed_or_checkpoint_is_found(coded: Checkpoint, coded_plan: Plan, tmp_path: Path) -> None:
    forge(tmp_path / "seed", coded_plan, coded.path, made=dataclasses.replace(coded_plan, seed=4))
    forge(tmp_path / "other", coded_plan, save_coded(tmp_path / "weights", seed=1).path)
    for name in ("seed", "other"):
        report = check(tmp_path / name, coded.path)
        assert len({failure.key for failure in report.failures}) > 50


def test_in_another_environment_class_codes_within_epsilon_are_explained(
    coded: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits that are a little different flip the codes whose uniform lies close to an edge, and all that follow."""
    plan = plan_of(coded.path, 53, record_codes=True)
    sample(plan, tmp_path / "r", checkpoint=coded.path, config=INLINE)
    real = CodedPebbleGenerator._bounds

    def shifted(self, *arguments):
        bounds = real(self, *arguments)
        bounds[:, :-1] = np.minimum(bounds[:, :-1] + self.shift, 1.0)
        return bounds

    monkeypatch.setattr(CodedPebbleGenerator, "_bounds", shifted)
    monkeypatch.setattr(CodedPebbleGenerator, "shift", 3e-3, raising=False)
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    explained = check(tmp_path / "r", coded.path, epsilon=4e-3)
    assert explained.passed and not explained.exact and explained.counts["samples_explained_by_codes"] > 0
    refused = check(tmp_path / "r", coded.path, epsilon=1e-3)
    assert not refused.passed and {failure.kind for failure in refused.failures} == {"interval"}


def test_in_another_environment_class_pixels_have_a_tolerance(
    pebble: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(pebble.path, 53)

    def brighten(samples: dict[str, Drawn], generator) -> None:
        samples[KEY].images[0, 4, 2, 0] ^= 1

    forge(tmp_path / "r", plan, pebble.path, change=brighten)
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    report = check(tmp_path / "r", pebble.path)
    assert report.passed and report.counts["images_equal"] == 52 and report.max_pixel_difference == 1


RECIPE = Recipe(
    name="tiny", widths=(8,), num_poolings=1, resolution=6, num_steps=12, batch_size=20, bn_batch=20,
    learning_rate=0.05, threads=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Path, Path]:
    """A checkpoint of square images, a judge, and a replica of the best of three candidates with their codes."""
    folder = tmp_path_factory.mktemp("judged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(family_table.FAMILIES, "coded", "coded_family")
        checkpoint = save_coded(folder / "checkpoint", height=6, width=6)
        sample(plan_of(checkpoint.path, 60, seed=8), folder / "set", checkpoint=checkpoint.path, config=INLINE)
        train(open_set(str(folder / "set")), RECIPE, seed=0, out=folder / "judge", device=torch.device("cpu"))
        config = dataclasses.replace(INLINE, classifier=folder / "judge")
        sample(judged_plan(checkpoint, folder / "judge"), folder / "r", checkpoint=checkpoint.path, config=config)
    return checkpoint, folder / "judge", folder / "r"


def judged_plan(checkpoint: Checkpoint, judge: Path, threshold: float | None = None) -> Plan:
    rejection = make_rejection(3, judge, checkpoint, threshold=threshold)
    return plan_of(checkpoint.path, 53, rejection=rejection, record_codes=True)


def test_the_best_of_several_candidates(judged: tuple[Checkpoint, Path, Path], coded: Checkpoint) -> None:
    """Teacher-forced checks follow the attempt that was kept; only a redraw of the candidates proves the choice."""
    checkpoint, judge, root = judged
    assert set(open_set(str(root)).table.column("attempt").to_pylist()) == {0, 1, 2}
    forced = audit(str(root), checkpoint.path)
    assert forced.passed and forced.mode == "teacher-forced" and forced.counts["samples"] == 53
    redrawn = check(root, checkpoint.path, classifier=judge)
    assert redrawn.passed and redrawn.exact and redrawn.counts["samples"] == 53
    assert redrawn.counts["draws"] == 3 * 53
    with pytest.raises(InputError, match="its folder has to be given .--classifier"):
        check(root, checkpoint.path)


def test_the_first_candidate_that_reaches_a_threshold(
    judged: tuple[Checkpoint, Path, Path], coded: Checkpoint, tmp_path: Path
) -> None:
    """An honest replica passes; one that took the best of all three, or the first ones, is found."""
    checkpoint, judge, best = judged
    kept = {row["key"]: row for row in open_set(str(best)).table.to_pylist()}
    reached = float(np.exp(np.median([row["filter_score"] for row in kept.values()])))  # by about half of the best ones
    plan = judged_plan(checkpoint, judge, reached)
    sample(plan, tmp_path / "r", checkpoint=checkpoint.path, config=dataclasses.replace(INLINE, classifier=judge))
    assert audit(str(tmp_path / "r"), checkpoint.path).passed
    honest = check(tmp_path / "r", checkpoint.path, classifier=judge)
    assert honest.passed and honest.exact and honest.counts["samples"] == 53
    assert 53 < honest.counts["draws"] < 3 * 53, "all were taken at once, or none was"
    rows = {row["key"]: row for row in open_set(str(tmp_path / "r")).table.to_pylist()}
    some = [key for key, row in rows.items() if row["attempt"]][:1]
    assert check(tmp_path / "r", checkpoint.path, classifier=judge, selection=Selection(keys=tuple(some))).passed

    def best_of_all(samples: dict[str, Drawn], generator) -> None:
        """Take the attempts and scores of the best of three, as if nothing had been good enough before."""
        for key, drawn in samples.items():
            row = kept[key]
            samples[key] = dataclasses.replace(
                drawn, attempts=np.array([row["attempt"]]), scores=np.array([row["filter_score"]])
            )

    forge(tmp_path / "f", plan, checkpoint.path, made=dataclasses.replace(plan, rejection=None), change=best_of_all)
    report = check(tmp_path / "f", checkpoint.path, classifier=judge)
    others = {key for key, row in rows.items() if row["attempt"] != kept[key]["attempt"]}
    assert others and others <= {failure.key for failure in report.failures}
    assert any("reached the threshold" in failure.message for failure in report.failures)


def test_a_candidate_that_is_not_the_best(
    judged: tuple[Checkpoint, Path, Path], coded: Checkpoint, tmp_path: Path
) -> None:
    checkpoint, judge, root = judged
    plan = judged_plan(checkpoint, judge)
    kept = open_set(str(root)).table

    def first(samples: dict[str, Drawn], generator) -> None:
        """Keep the first candidate everywhere, under the score of the one that was kept."""
        for key, drawn in samples.items():
            score = kept.column("filter_score")[kept.column("key").to_pylist().index(key)].as_py()
            samples[key] = dataclasses.replace(drawn, scores=np.array([score]))

    forge(tmp_path / "r", plan, checkpoint.path, made=dataclasses.replace(plan, rejection=None), change=first)
    assert audit(str(tmp_path / "r"), checkpoint.path).passed
    report = check(tmp_path / "r", checkpoint.path, classifier=judge)
    others = {row["key"] for row in kept.to_pylist() if row["attempt"]}
    assert {failure.key for failure in report.failures} == others
    assert "attempt 0 with score" in report.failures[0].message and report.failures[0].kind == "attempt"
