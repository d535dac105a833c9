"""Best of k candidates: which one is kept, that it is the same in every way of working, and which judge may keep it.

The generator is pebble with square images; the judge is a small network trained on a replica of it.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from coded_family import CodedPebbleGenerator, Settings, save_coded
from pebble_drive import Driver, plan_of, save_pebble
from torch import nn

from caskit.gen import family as family_table
from caskit.gen.checkpoint import Checkpoint, load_checkpoint
from caskit.gen.drawing import draw_shard
from caskit.gen.dry_run import dry_run
from caskit.gen.environment import environment_class
from caskit.gen.executors import Part
from caskit.gen.numerics import numerics_applied
from caskit.gen.rejection import Judge, check_judge, load_judge, make_rejection
from caskit.gen.sampling import SampleConfig, freeze_replica, make_worker, sample
from caskit.gen.streams import Streams
from caskit.manifests.canonical import parse_canonical
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError, IntegrityError, NotFinished, RunFailed
from caskit.manifests.plan import Numerics, Plan
from caskit.manifests.rejection import Rejection
from caskit.manifests.replica import Replica
from caskit.manifests.seeds import stream_key
from caskit.shards.codes import array_of, open_codes
from caskit.shards.dataset import open_set
from caskit.shards.verify import verify
from caskit.train.classifier import build_model
from caskit.train.recipes import Recipe
from caskit.train.training import Classifier, train

pytestmark = pytest.mark.timeout(400)  # processes and Ray take seconds to start, on a busy machine many

CPU = torch.device("cpu")
SIDE, NUM, CANDIDATES = 6, 63, 3
OFTEN_NOT_FINITE = {"not_finite_every": 2}  # every second draw, so one sample in eight needs a second round
RECIPE = Recipe(
    name="tiny",
    widths=(8,),
    num_poolings=1,
    resolution=SIDE,
    num_steps=12,
    batch_size=20,
    bn_batch=20,
    learning_rate=0.05,
    threads=1,
)


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return save_pebble(tmp_path_factory.mktemp("square") / "checkpoint", height=SIDE, width=SIDE)


@pytest.fixture(autouse=True)
def _family(pebble: Checkpoint) -> None:
    """Enter pebble into the table, here and in the processes that are started."""


def train_judge(checkpoint: Checkpoint, folder: Path, seed: int = 0) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(family_table.FAMILIES, "pebble", "pebble_family")
        plan = plan_of(checkpoint.path, 60, seed=8)
        config = SampleConfig(executor="inline")
        if not (folder.parent / "set").exists():
            sample(plan, folder.parent / "set", checkpoint=checkpoint.path, config=config)
        train(open_set(str(folder.parent / "set")), RECIPE, seed=seed, out=folder, device=CPU)
    return folder


@pytest.fixture(scope="module")
def judge_folder(square: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_judge(square, tmp_path_factory.mktemp("judge") / "classifier")


@pytest.fixture(scope="module")
def other_folder(square: Checkpoint, judge_folder: Path) -> Path:
    return train_judge(square, judge_folder.parent / "other", seed=1)


@pytest.fixture
def plan(square: Checkpoint, judge_folder: Path) -> Plan:
    return rejecting(square, judge_folder)


def rejecting(checkpoint: Checkpoint, folder: Path, num: int = NUM, **changes: Any) -> Plan:
    threshold = changes.pop("threshold", None)
    rejection = make_rejection(changes.pop("candidates", CANDIDATES), folder, checkpoint, threshold=threshold)
    return plan_of(checkpoint.path, num, rejection=rejection, **{"sampler": OFTEN_NOT_FINITE, **changes})


def run(plan: Plan, out: Path, checkpoint: Checkpoint, folder: Path | None, **changes: Any) -> Replica | None:
    config = SampleConfig(**{"executor": "inline", "classifier": folder, **changes})
    return sample(plan, out, checkpoint=checkpoint.path, config=config)


def tars(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "shards").iterdir())}


def log_probabilities(folder: Path, images: np.ndarray) -> np.ndarray:
    """Compute them without any of the code under test but the network's own layers, [n, classes] float64."""
    model = build_model(RECIPE, 5, 1)
    model.load_state_dict(safetensors.torch.load_file(folder / "model.safetensors"))
    inputs = (torch.from_numpy(images).double().permute(0, 3, 1, 2) / 255 - RECIPE.mean) / RECIPE.std
    with torch.no_grad():
        return model.double().eval()(inputs).log_softmax(dim=1).numpy()


def candidates_of(plan: Plan, label: int, ordinal: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw every attempt of a sample as pebble would, [attempts, H, W, 1] uint8, and which are finite [attempts]."""
    keys = [stream_key(plan.seed, label, ordinal, attempt) for attempt in range(plan.num_attempts)]
    words = Streams(keys).words("pixels", SIDE * SIDE)
    finite = Streams(keys).words("finite", 1)[:, 0] % np.uint64(2) != 0
    return (words >> np.uint64(59)).astype(np.uint8).reshape(-1, SIDE, SIDE, 1) + np.uint8(40 * label), finite


def test_the_best_candidate_is_kept(plan: Plan, square: Checkpoint, judge_folder: Path, tmp_path: Path) -> None:
    """Every choice is recomputed in float64 from the classifier's file: no other candidate of the round is better."""
    assert run(plan, tmp_path / "r", square, judge_folder) is not None
    frozen = open_set(str(tmp_path / "r"))
    attempts = []
    for sample_id, row in enumerate(frozen.table.to_pylist()):
        images, finite = candidates_of(plan, row["label"], row["ordinal"])
        first = int(np.flatnonzero(finite)[0]) // CANDIDATES * CANDIDATES  # of the round with a finite candidate
        in_round = np.arange(first, first + CANDIDATES)
        scores = np.where(finite[in_round], log_probabilities(judge_folder, images[in_round])[:, row["label"]], -np.inf)
        kept = row["attempt"] - first
        assert 0 <= kept < CANDIDATES and finite[row["attempt"]]
        assert scores[kept] >= scores.max() - 1e-4
        assert row["filter_score"] == pytest.approx(scores[kept], abs=1e-4)
        assert np.array_equal(frozen.image(sample_id), images[row["attempt"]])
        assert row["stream_key"] == stream_key(plan.seed, row["label"], row["ordinal"], row["attempt"])
        attempts.append(row["attempt"])
    assert set(attempts) >= {0, 1, 2, 3}, "no second round, or always the same attempt: nothing was compared"
    texts = [file.read_text() for file in (tmp_path / "r/_work/telemetry").iterdir()]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    shards = [line for line in lines if line["event"] == "shard"]
    assert sum(line["num_redrawn"] for line in shards) == sum(attempt >= CANDIDATES for attempt in attempts)
    assert all(0 < line["seconds"]["judge"] < line["seconds"]["sample"] for line in shards)
    verify(str(tmp_path / "r"), "deep")


def test_every_way_of_working_gives_the_same_bytes(
    plan: Plan, square: Checkpoint, judge_folder: Path, tmp_path: Path
) -> None:
    expected = run(plan, tmp_path / "inline", square, judge_folder)
    assert expected is not None
    replicas = {"ray": run(plan, tmp_path / "ray", square, judge_folder, executor="ray", num_workers=2)}
    for index in (2, 1):
        assert run(plan, tmp_path / "parts", square, judge_folder, part=Part(index=index, count=2)) is None
    replicas["parts"] = freeze_replica(tmp_path / "parts")
    config = SampleConfig(executor="inline", classifier=judge_folder)
    told: list[int] = []
    with pytest.raises(NotFinished):
        sample(
            plan,
            tmp_path / "resumed",
            checkpoint=square.path,
            config=config,
            progress=lambda progress: told.append(progress.shards_done),
            stop=lambda: told[-1:] == [2],
        )
    replicas["resumed"] = run(plan, tmp_path / "resumed", square, judge_folder)
    run(rejecting(square, judge_folder, 40), tmp_path / "small", square, judge_folder)
    replicas["extended"] = run(plan, tmp_path / "extended", square, judge_folder, extend=tmp_path / "small")
    assert replicas == dict.fromkeys(replicas, expected)
    for way in replicas:
        assert tars(tmp_path / way) == tars(tmp_path / "inline")


def test_a_process_of_its_own_gives_the_same_bytes(
    square: Checkpoint, judge_folder: Path, plan: Plan, tmp_path: Path
) -> None:
    options = [f"best={CANDIDATES}", f"classifier={judge_folder}"]
    expected = run(rejecting(square, judge_folder, sampler={}), tmp_path / "here", square, judge_folder)
    assert expected is not None
    assert Driver(tmp_path / "there", square.path, NUM, *options).end() == (0, expected.replica_id)


def test_samples_of_one_class_do_not_depend_on_how_many_there_are(
    square: Checkpoint, judge_folder: Path, tmp_path: Path
) -> None:
    """A kept image follows from its own streams and the judge, although its microbatch has other samples."""
    for name, changes in (("a", {}), ("b", {"samples_per_shard": 7, "num": 30})):
        assert run(rejecting(square, judge_folder, **changes), tmp_path / name, square, judge_folder) is not None
    few, many = (
        {row["key"]: (row["attempt"], row["image_sha256"]) for row in open_set(str(tmp_path / n)).table.to_pylist()}
        for n in ("b", "a")
    )
    assert {key: many[key] for key in few} == few


@pytest.mark.usefixtures("coded")
def test_codes_are_those_of_the_candidate_that_was_kept(judge_folder: Path, tmp_path: Path) -> None:
    checkpoint = save_coded(tmp_path / "square", height=SIDE, width=SIDE)
    plan = rejecting(checkpoint, judge_folder, 53, record_codes=True, sampler={"not_finite_code": 3})
    assert run(plan, tmp_path / "r", checkpoint, judge_folder) is not None
    verify(str(tmp_path / "r"), "deep")
    frozen = open_set(str(tmp_path / "r"))
    rows = {row["key"]: row for row in frozen.table.to_pylist()}
    assert {row["attempt"] for row in rows.values()} >= {0, 1, 2}
    with numerics_applied(plan.numerics):
        generator = CodedPebbleGenerator(checkpoint, Settings())
        for shard in range(plan.num_shards):
            with open_codes(frozen.store, shard, max_rows=20) as stored_codes:
                for stored in stored_codes:
                    row = rows.pop(stored.key)
                    pairs = zip(stored_codes.levels, stored.maps, strict=True)
                    codes = {level.name: array_of(level, data)[None] for level, data in pairs}
                    label = np.array([row["label"]])
                    image = generator.decode_codes(label, codes)[0][0]
                    assert np.array_equal(image, frozen.image(row["sample_id"]))
                    drawn = generator.sample_codes(label, Streams([row["stream_key"]]))
                    assert all(np.array_equal(drawn[name], codes[name]) for name in codes)
                    scores = log_probabilities(judge_folder, image[None])[0]
                    assert row["filter_score"] == pytest.approx(scores[row["label"]], abs=1e-4)
    assert not rows


class Scripted:
    """A generator and a judge in one: images show their attempt, `finite` and `score` are looked up by attempt."""

    def __init__(self, plan: Plan, finite: dict[int, bool], scores: dict[int, float]) -> None:
        self._plan, self._finite, self._scores = plan, finite, scores
        self._attempts = {
            stream_key(plan.seed, label, ordinal, attempt): attempt
            for label in range(len(plan.classes))
            for ordinal in range(plan.num)
            for attempt in range(plan.num_attempts)
        }
        self.drawn: list[int] = []
        self.seen: list[list[int]] = []
        self.seconds = 0.0

    def sample(self, labels: np.ndarray, streams: Streams) -> tuple[np.ndarray, np.ndarray]:
        attempts = [self._attempts[key] for key in streams.keys]
        self.drawn.append(attempts[0])
        images = np.zeros((len(labels), SIDE, SIDE, 1), np.uint8) + np.array(attempts, np.uint8)[:, None, None, None]
        return images + np.uint8(1), np.array([self._finite.get(attempt, True) for attempt in attempts])

    def score(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        shown = images[:, 0, 0, 0].astype(int) - 1
        self.seen.append(shown.tolist())
        return np.array([self._scores.get(attempt, -1.0) for attempt in shown])


def check_scripted(
    plan: Plan, finite: dict[int, bool], scores: dict[int, float], kept: int, drawn: list[int]
) -> Scripted:
    """Draw eight samples that a script decides alike, and check which attempt is kept after which draws."""
    both: Any = Scripted(plan, finite, scores)
    labels, ordinals = plan.draw_order.assign(0, 8)
    (part,) = draw_shard(both, plan, labels, ordinals, both)
    assert part.positions.tolist() == list(range(8)) and both.drawn == drawn
    assert part.attempts.tolist() == [kept] * 8 and (part.images == kept + 1).all()
    assert part.scores is not None and part.scores.tolist() == [scores.get(kept, -1.0)] * 8
    checked: Scripted = both
    return checked


@pytest.mark.parametrize(
    ("finite", "scores", "kept", "drawn"),
    [
        ({}, {}, 0, [0, 1, 2]),
        ({}, {1: -0.5, 2: -0.5}, 1, [0, 1, 2]),
        ({}, {0: -0.0, 1: 0.0}, 0, [0, 1, 2]),
        ({1: False}, {1: 0.0, 2: -3.0}, 0, [0, 1, 2]),
        ({0: False}, {0: 0.0}, 1, [0, 1, 2]),
        ({0: False, 1: False, 2: False}, {4: -0.5, 0: 0.0}, 4, [0, 1, 2, 3, 4, 5]),
        (dict.fromkeys(range(5), False), {}, 5, [0, 1, 2, 3, 4, 5]),
    ],
    ids=["all equal", "equal best", "zeros", "best not finite", "first not finite", "second round", "one of six"],
)
def test_ties_and_candidates_that_are_not_finite(
    square: Checkpoint,
    plan: Plan,
    finite: dict[int, bool],
    scores: dict[int, float],
    kept: int,
    drawn: list[int],
) -> None:
    both = check_scripted(plan, finite, scores, kept, drawn)
    assert all(finite.get(attempt, True) for shown in both.seen for attempt in shown), "it judged what is not finite"


THRESHOLD = 0.5


def due_under_threshold(plan: Plan, folder: Path, row: dict[str, Any]) -> tuple[int, float]:
    """Return the attempt that must be kept and its score: the first good one, else the best of the first k, else the
    first that is finite."""
    images, finite = candidates_of(plan, row["label"], row["ordinal"])
    scores = np.where(finite, log_probabilities(folder, images)[:, row["label"]], -np.inf)
    for attempt in range(CANDIDATES):
        if scores[attempt] >= np.log(THRESHOLD):
            return attempt, scores[attempt]
    best = int(scores[:CANDIDATES].argmax()) if finite[:CANDIDATES].any() else int(np.flatnonzero(finite)[0])
    return best, scores[best]


def test_the_first_candidate_that_reaches_the_threshold_is_kept(
    square: Checkpoint, judge_folder: Path, tmp_path: Path
) -> None:
    plan = rejecting(square, judge_folder, threshold=THRESHOLD)
    assert run(plan, tmp_path / "r", square, judge_folder) is not None
    verify(str(tmp_path / "r"), "deep")
    kinds = set()
    for row in open_set(str(tmp_path / "r")).table.to_pylist():
        attempt, score = due_under_threshold(plan, judge_folder, row)
        assert row["attempt"] == attempt and row["filter_score"] == pytest.approx(score, abs=1e-4)
        good, late = score >= np.log(THRESHOLD), attempt >= CANDIDATES
        kinds.add("late" if late else f"good at {min(attempt, 1)}" if good else "best of all")
    assert kinds >= {"good at 0", "good at 1", "best of all", "late"}, "a case did not occur"


def test_a_threshold_gives_the_same_in_every_way_of_working(
    square: Checkpoint, judge_folder: Path, tmp_path: Path
) -> None:
    plan = rejecting(square, judge_folder, threshold=THRESHOLD)
    expected = run(plan, tmp_path / "inline", square, judge_folder)
    assert expected is not None
    assert run(plan, tmp_path / "ray", square, judge_folder, executor="ray", num_workers=2) == expected
    for index in (2, 1):
        assert run(plan, tmp_path / "parts", square, judge_folder, part=Part(index=index, count=2)) is None
    assert freeze_replica(tmp_path / "parts") == expected
    run(rejecting(square, judge_folder, 40, threshold=THRESHOLD), tmp_path / "small", square, judge_folder)
    assert run(plan, tmp_path / "extended", square, judge_folder, extend=tmp_path / "small") == expected
    other = rejecting(square, judge_folder, threshold=THRESHOLD, samples_per_shard=7)
    assert run(other, tmp_path / "other", square, judge_folder) is not None
    kept = [
        {row["key"]: (row["attempt"], row["image_sha256"]) for row in open_set(str(tmp_path / n)).table.to_pylist()}
        for n in ("inline", "other")
    ]
    assert kept[0] == kept[1]


@pytest.mark.parametrize(
    ("finite", "scores", "kept", "drawn"),
    [
        ({}, {0: -0.1}, 0, [0]),
        ({}, {2: -0.1}, 2, [0, 1, 2]),
        ({}, {1: -0.8, 2: -0.9}, 1, [0, 1, 2]),
        ({0: False}, {0: -0.1, 1: -0.1}, 1, [0, 1]),
        (dict.fromkeys(range(4), False), {5: -0.1}, 4, [0, 1, 2, 3, 4]),
    ],
    ids=["at once", "third", "best of all", "first not finite", "four not finite"],
)
def test_no_more_than_the_threshold_asks_for_is_drawn(
    square: Checkpoint,
    judge_folder: Path,
    finite: dict[int, bool],
    scores: dict[int, float],
    kept: int,
    drawn: list[int],
) -> None:
    plan = rejecting(square, judge_folder, threshold=THRESHOLD)
    check_scripted(plan, finite, scores, kept, drawn)


def test_a_dry_run_counts_what_a_threshold_draws(square: Checkpoint, judge_folder: Path) -> None:
    plan = rejecting(square, judge_folder, threshold=THRESHOLD)
    config = SampleConfig(executor="inline", classifier=judge_folder)
    assert dry_run(plan, checkpoint=square.path, config=config).images_per_s > 0
    never = rejecting(square, judge_folder, threshold=THRESHOLD, sampler={"not_finite_every": 1})
    with pytest.raises(RunFailed, match="was not finite in 12 draws"):
        dry_run(never, checkpoint=square.path, config=config)


def test_rounds_are_bounded(square: Checkpoint, judge_folder: Path) -> None:
    plan = rejecting(square, judge_folder, max_attempts=2, candidates=4)
    both: Any = Scripted(plan, dict.fromkeys(range(8), False), {})
    labels, ordinals = plan.draw_order.assign(0, 5)
    with pytest.raises(RunFailed, match="output of pebble was not finite in 8 draws of 5 samples, first class c0"):
        list(draw_shard(both, plan, labels, ordinals, both))
    assert both.drawn == list(range(8)) and both.seen == []


class Listener(nn.Module):
    """A network that writes down the shapes it is given and answers with the image's first pixel for class 0."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []
        self.value = value

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        self.shapes.append(tuple(images.shape))
        return torch.nn.functional.pad(images[:, :, 0, 0], (0, 4)) + self.value


def listening(value: float = 0.0) -> tuple[Listener, Judge]:
    model = Listener(value)
    classes = ClassList.from_names(list("abcde"))
    classifier = Classifier(
        path=Path("here"), record={}, recipe=RECIPE, classes=classes, channels=1, model=model, device=CPU
    )
    return model, Judge(classifier, batch_size=8)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_judge_sees_full_batches_in_float32(precision: str) -> None:
    model, judge = listening()
    images = np.arange(3 * SIDE * SIDE, dtype=np.uint8).reshape(3, SIDE, SIDE, 1)
    labels = np.array([0, 4, 0])
    with numerics_applied(Numerics(precision=precision)):
        scores = judge.score(images, labels)
    assert model.shapes == [(8, 1, SIDE, SIDE)] and scores.dtype == np.float64
    logits = (images[:, 0, 0, 0] / 255 - RECIPE.mean) / RECIPE.std
    expected = np.where(labels == 0, logits, 0) - np.log(np.exp(logits) + 4)
    assert scores == pytest.approx(expected, abs=1e-6)
    assert np.array_equal(scores, scores.astype(np.float32)) and judge.seconds > 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_judge_without_an_answer_fails_the_shard(value: float) -> None:
    _, judge = listening(value)
    with pytest.raises(RunFailed, match="here: the judge's output is not finite; train it again"):
        judge.score(np.zeros((2, SIDE, SIDE, 1), np.uint8), np.array([0, 1]))


def test_another_classifier_is_refused(
    plan: Plan, square: Checkpoint, judge_folder: Path, other_folder: Path, tmp_path: Path
) -> None:
    assert plan.rejection is not None
    named = plan.rejection.classifier_id
    other = json.loads((other_folder / "run.json").read_text())["classifier_id"]
    assert other != named
    for folder, message in (
        (other_folder, f"classifier_id is {other}, the rejection of the plan asks for {named}"),
        (None, f"best of 3 candidates by classifier {named}; its folder has to be given"),
        (tmp_path, "no finished classifier"),
    ):
        with pytest.raises(InputError, match=message):
            run(plan, tmp_path / "r", square, folder)
        with pytest.raises(InputError, match=message):
            dry_run(plan, checkpoint=square.path, config=SampleConfig(executor="inline", classifier=folder))
    assert not (tmp_path / "r").exists()
    with pytest.raises(InputError, match="a classifier is given, but the plan has no rejection"):
        run(plan_of(square.path, NUM), tmp_path / "r", square, judge_folder)


def copy_of(folder: Path, to: Path) -> Path:
    to.mkdir()
    for name in ("run.json", "model.safetensors"):
        (to / name).write_bytes((folder / name).read_bytes())
    return to


def test_another_classifier_cannot_take_the_name(
    plan: Plan, judge_folder: Path, other_folder: Path, tmp_path: Path
) -> None:
    """Neither other weights beside the right record, nor another record with the right id in it."""
    moved = copy_of(judge_folder, tmp_path / "moved")
    (moved / "model.safetensors").write_bytes((other_folder / "model.safetensors").read_bytes())
    with pytest.raises(IntegrityError, match="model.safetensors: sha256 differs from run.json"):
        load_judge(plan, moved, CPU)
    assert plan.rejection is not None
    renamed = copy_of(other_folder, tmp_path / "renamed")
    record = json.loads((renamed / "run.json").read_text()) | {"classifier_id": plan.rejection.classifier_id}
    (renamed / "run.json").write_text(json.dumps(record))
    with pytest.raises(IntegrityError, match="classifier_id does not follow from the record"):
        check_judge(plan, renamed)
    halved = copy_of(judge_folder, tmp_path / "halved")
    (halved / "model.safetensors").unlink()
    with pytest.raises(InputError, match="model.safetensors: no such file, the classifier is not whole"):
        load_judge(plan, halved, CPU)


def test_a_judge_of_other_images_is_refused(judge_folder: Path, pebble: Checkpoint, tmp_path: Path) -> None:
    four = save_pebble(tmp_path / "four", num_classes=4, height=SIDE, width=SIDE)
    with pytest.raises(InputError, match="the classifier's class list is not that of the generator"):
        make_rejection(2, judge_folder, four)
    with pytest.raises(InputError, match="differ: 6x6 with 1 channels and 4x6 with 1 channels"):
        make_rejection(2, judge_folder, pebble)
    named = Rejection(candidates=2, classifier_id=json.loads((judge_folder / "run.json").read_text())["classifier_id"])
    with pytest.raises(InputError, match="class list is not that of the plan"):
        check_judge(plan_of(four.path, 8, rejection=named), judge_folder)
    with pytest.raises(InputError, match="those of the plan differ"):
        check_judge(plan_of(pebble.path, 10, rejection=named), judge_folder)


def test_a_worker_asks_for_timm_where_it_draws(plan: Plan, judge_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(folder: Path, device: torch.device) -> None:
        raise ModuleNotFoundError("No module named 'timm'", name="timm")

    monkeypatch.setattr("caskit.train.training.load_classifier", missing)
    with pytest.raises(InputError, match=r"rejection needs the package timm wherever .* pip install 'caskit\[train\]'"):
        load_judge(plan, judge_folder, CPU)


@pytest.mark.parametrize("change", [{"candidates": 2}, {"rejection": None}, {"judge": "other"}])
def test_only_an_equal_rejection_is_extended(
    change: dict[str, Any], plan: Plan, square: Checkpoint, judge_folder: Path, other_folder: Path, tmp_path: Path
) -> None:
    run(rejecting(square, judge_folder, 40), tmp_path / "small", square, judge_folder)
    folder = None if "rejection" in change else other_folder if "judge" in change else judge_folder
    if folder is None:
        longer = dataclasses.replace(plan, rejection=None)
    else:
        longer = rejecting(square, folder, candidates=change.get("candidates", CANDIDATES))
    with pytest.raises(InputError, match=r"cannot be extended, its plan differs in rejection"):
        run(longer, tmp_path / "large", square, folder, extend=tmp_path / "small")


def test_the_environment_of_a_judge_has_its_layers(
    plan: Plan, square: Checkpoint, judge_folder: Path, tmp_path: Path
) -> None:
    run(plan, tmp_path / "judged", square, judge_folder)
    run(plan_of(square.path, NUM), tmp_path / "plain", square, None)
    judged, plain = (
        parse_canonical((tmp_path / name / "environment.json").read_bytes(), name=name) for name in ("judged", "plain")
    )
    assert plain == environment_class(CPU)
    assert judged["versions"].pop("timm").count(".") == 2 and judged == plain


def test_a_dry_run_draws_every_candidate(
    plan: Plan, square: Checkpoint, judge_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pebble_family

    calls: list[int] = []
    draw = pebble_family.PebbleGenerator.sample

    def counted(self: Any, labels: np.ndarray, streams: Streams) -> Any:
        calls.append(len(labels))
        return draw(self, labels, streams)

    monkeypatch.setattr(pebble_family.PebbleGenerator, "sample", counted)
    config = SampleConfig(executor="inline", classifier=judge_folder)
    assert dry_run(plan, checkpoint=square.path, config=config).num_samples == NUM
    assert calls == [8] * 4 * CANDIDATES


def test_a_worker_carries_the_path_alone(plan: Plan, judge_folder: Path, square: Checkpoint, tmp_path: Path) -> None:
    config = SampleConfig(executor="inline", classifier=judge_folder)
    worker = make_worker(plan, str(tmp_path), load_checkpoint(square.path).path, config)
    assert worker.classifier == judge_folder and worker.classifier.is_absolute()
    judge = worker.load_judge()
    assert judge is not None
    labels = np.array([1, 2])
    images = np.full((2, SIDE, SIDE, 1), 90, np.uint8)
    expected = log_probabilities(judge_folder, images)[np.arange(2), labels]
    with numerics_applied(plan.numerics):
        assert judge.score(images, labels) == pytest.approx(expected, abs=1e-4)
