import json
from dataclasses import fields, replace
from typing import Any

import pytest

from caskit.manifests.canonical import parse_canonical
from caskit.manifests.classes import ClassList
from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError
from caskit.manifests.ingest import Ingest
from caskit.manifests.plan import Numerics, Plan, differing_fields
from caskit.manifests.rejection import Rejection
from caskit.manifests.replica import Replica

PLAN = Plan(
    classes=ClassList.from_names(["cat", "dog"]),
    family="cvae",
    preset="digits",
    checkpoint_id="ab" * 32,
    sampler={"temperature": 1.0},
    sampler_version=1,
    quota="balanced",
    histogram=(13, 12),
    seed=0,
    height=8,
    width=8,
    channels=1,
    codec=Codec.of("png"),
    samples_per_shard=10,
)
CHANGES: dict[str, Any] = {
    "classes": ClassList.from_names(["cat", "eel"]),
    "family": "ham",
    "preset": "x",
    "checkpoint_id": "cd" * 32,
    "sampler": {"temperature": 0.5},
    "sampler_version": 2,
    "quota": "like:" + "00" * 32,
    "histogram": (12, 13),
    "seed": 1,
    "height": 9,
    "width": 9,
    "channels": 3,
    "codec": Codec.of("jpeg"),
    "samples_per_shard": 5,
    "microbatch_size": 32,
    "max_attempts": 2,
    "pixel_digests": True,
    "record_codes": True,
    "rejection": Rejection(candidates=4, classifier_id="ef" * 32),
    "numerics": Numerics(threads=2),
}


REJECTING = replace(PLAN, rejection=CHANGES["rejection"])


@pytest.mark.parametrize("plan", [PLAN, REJECTING])
def test_a_plan_survives_its_file(plan: Plan) -> None:
    again = Plan.from_json(parse_canonical(plan.to_bytes(), name="plan.json"))
    assert again == plan and again.plan_id == plan.plan_id


def test_how_often_a_sample_may_be_drawn() -> None:
    assert (PLAN.num_candidates, PLAN.num_attempts) == (1, 4)
    assert (REJECTING.num_candidates, REJECTING.num_attempts) == (4, 16)


@pytest.mark.parametrize("candidates", [1, 0, -2, 65, 2.0, True, None, "4"])
def test_candidates_have_bounds(candidates: Any) -> None:
    with pytest.raises(InputError, match=r"rejection.candidates is .*, allowed: 2..64; a plan that takes the first"):
        Rejection(candidates=candidates, classifier_id="ef" * 32)
    assert [Rejection(candidates=k, classifier_id="ef" * 32).candidates for k in (2, 64)] == [2, 64]


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.5, 2.0, float("nan"), float("inf"), 1, True, "0.5"])
def test_a_threshold_is_a_probability(threshold: Any) -> None:
    with pytest.raises(InputError, match="rejection.threshold is .*, allowed: a number above 0 and below 1"):
        Rejection(candidates=4, classifier_id="ef" * 32, threshold=threshold)


def test_a_threshold_is_in_the_plan_where_there_is_one() -> None:
    """Plans without one have the bytes, and so the ids, that they had before there were thresholds."""
    one = replace(REJECTING, rejection=Rejection(candidates=4, classifier_id="ef" * 32, threshold=0.5))
    stored = [json.loads(plan.to_bytes())["rejection"] for plan in (REJECTING, one)]
    assert stored[0] == {"candidates": 4, "classifier_id": "ef" * 32} and stored[1] == {**stored[0], "threshold": 0.5}
    assert Plan.from_json(parse_canonical(one.to_bytes(), name="plan.json")) == one


def test_what_a_threshold_says_of_draws() -> None:
    rejection = Rejection(candidates=4, classifier_id="ef" * 32, threshold=0.5)
    assert rejection.lowest_score == -0.6931471805599453
    assert [rejection.last_attempt(*kept) for kept in ((0, -0.1), (2, -0.6931471805599453), (2, -0.7), (5, -3.0))] == [
        0, 2, 3, 5,
    ]  # fmt: skip


@pytest.mark.parametrize("classifier_id", ["", "ef", "EF" * 32, "ef" * 32 + "\n", "ef" * 33, None, 7])
def test_a_judge_is_named_by_its_whole_id(classifier_id: Any) -> None:
    with pytest.raises(InputError, match="rejection.classifier_id is .*, must be 64 hex digits"):
        Rejection(candidates=2, classifier_id=classifier_id)


@pytest.mark.parametrize("name", [field.name for field in fields(Plan) if field.name != "format_version"])
def test_every_field_is_in_the_plan_id(name: str) -> None:
    other = replace(PLAN, **{name: CHANGES[name]})
    assert other.plan_id != PLAN.plan_id
    assert differing_fields(PLAN.to_json(), other.to_json())[0].startswith(name)


def test_shards_cover_all_samples_once() -> None:
    assert [PLAN.shard_range(shard) for shard in range(PLAN.num_shards)] == [(0, 10), (10, 20), (20, 25)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples_per_shard": 0}, "samples_per_shard is 0, allowed: 1"),
        ({"microbatch_size": True}, "microbatch_size is True"),
        ({"histogram": (1, 2, 3)}, "histogram has 3 entries for 2 classes"),
        ({"quota": "some"}, "quota is 'some'"),
        ({"sampler": {"x": float("nan")}}, "no canonical JSON form"),
        ({"format_version": 2}, "needs a newer caskit"),
    ],
)
def test_a_bad_plan_dies_when_made(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PLAN, **changes)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda p: p.pop("seed"), r"missing fields: \['seed'\]"),
        (lambda p: p.update(extra=1), r"unknown fields: \['extra'\]"),
        (lambda p: p.update(format_version=7, extra=1), "format_version is 7"),
        (lambda p: p["numerics"].update(threads=0), "numerics.threads is 0"),
        (lambda p: p["codec"].update(name="gif"), "codec 'gif' is not known"),
        (lambda p: p["classes"][0].update(id="a.b"), "id 'a.b' is not allowed"),
        (lambda p: p["classes"][0].update(id="c01"), "more than once: c01"),
        (lambda p: p.update(histogram=7), "wrong type"),
        (lambda p: p.update(rejection=4), "plan.json: rejection has the wrong type: 4, must be an object"),
        (lambda p: p.update(rejection={"candidates": 4}), r"rejection: missing fields: \['classifier_id'\]"),
        (lambda p: p.update(rejection={"candidates": 1, "classifier_id": "ef" * 32}), "candidates is 1, allowed: 2"),
        (
            lambda p: p.update(rejection={"candidates": 2, "classifier_id": "ef" * 32, "threshold": None}),
            "threshold is null, a rejection without one leaves it out",
        ),
        (
            lambda p: p.update(rejection={"candidates": 2, "classifier_id": "ef" * 32, "threshold": 2.5}),
            "threshold is 2.5, allowed: a number above 0 and below 1",
        ),
        (lambda p: p.pop("rejection"), r"missing fields: \['rejection'\]"),
    ],
)
def test_a_bad_plan_file_is_named(edit: Any, message: str) -> None:
    value = json.loads(PLAN.to_bytes())
    edit(value)
    with pytest.raises(InputError, match=message):
        Plan.from_json(value)


def test_only_canonical_bytes_are_read() -> None:
    with pytest.raises(InputError, match="not in canonical form"):
        parse_canonical(json.dumps(json.loads(PLAN.to_bytes()), indent=1).encode(), name="plan.json")
    with pytest.raises(InputError, match="not valid JSON"):
        parse_canonical(b"{", name="plan.json")
    with pytest.raises(InputError, match="not valid JSON"):
        parse_canonical(b"[" * 100_000, name="plan.json")


def test_an_ingest_record_survives_its_file() -> None:
    ingest = Ingest(
        dataset="digits",
        split="test",
        classes=PLAN.classes,
        histogram=(3, 4),
        files={"a": "00" * 32},
        codec=Codec.of("png").to_json(),
        samples_per_shard=5,
    )
    assert Ingest.from_json(parse_canonical(ingest.to_bytes(), name="ingest.json")) == ingest
    assert (ingest.num, ingest.num_shards) == (7, 2)
    with pytest.raises(InputError, match="split is 'dev'"):
        replace(ingest, split="dev")


def test_a_replica_record_survives_its_file_and_refuses_edits() -> None:
    digests = dict.fromkeys(
        ("origin_sha256", "class_list_sha256", "content_root", "rows_root", "packing_root"), "00" * 32
    )
    replica = Replica(kind="synthetic", num_samples=25, num_classes=2, num_shards=3, **digests)
    assert Replica.from_json(parse_canonical(replica.to_bytes(), name="replica.json")) == replica
    for changes, message in [
        ({"kind": "fake"}, "kind is 'fake'"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"rows_root": "AB" * 32}, "rows_root"),
    ]:
        with pytest.raises(InputError, match=message):
            replace(replica, **changes)  # type: ignore[arg-type]
