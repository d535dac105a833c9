"""Another source is another record, and so another plan; a plan whose source is not found here names what differs."""

import dataclasses
from pathlib import Path

import pytest

from caskit.gen.callable import Settings, bind, rebind
from caskit.gen.checkpoint import Checkpoint
from caskit.gen.planning import make_plan
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.manifests.plan import Plan

CLASSES = ClassList.from_names(["one", "two", "three"])


def bound(**changes: object) -> Checkpoint:
    return bind("dice:draw", **{"classes": CLASSES, "height": 6, "width": 4, "channels": 1, **changes})


def plan_of(checkpoint: Checkpoint, **changes: object) -> Plan:
    return make_plan(checkpoint, **{"num": 30, "microbatch_size": 8, "allow_code": True, **changes})


def test_a_plan_holds_the_digests(code: Path) -> None:
    plan = plan_of(bound())
    assert (plan.family, plan.preset) == ("callable", "dice:draw")
    assert sorted(plan.sampler["source"]) == ["dice", "dice_parts"] and plan.sampler["files"] == {}
    assert Plan.from_json(plan.to_json()) == plan and rebind(plan).checkpoint_id == plan.checkpoint_id


def test_other_source_or_data_is_another_plan(code: Path) -> None:
    (code / "weights").mkdir()
    (code / "weights/one.npz").write_bytes(b"one")
    plans = [plan_of(bound(files=["weights/one.npz"]))]
    (code / "weights/one.npz").write_bytes(b"two")
    plans.append(plan_of(bound(files=["weights/one.npz"])))
    with (code / "dice_parts.py").open("a") as file:
        file.write("# one more line\n")
    plans.append(plan_of(bound(files=["weights/one.npz"])))
    plans.append(plan_of(bound(files=["weights/one.npz"], height=7)))
    assert len({plan.plan_id for plan in plans}) == len({plan.checkpoint_id for plan in plans}) == 4
    with pytest.raises(
        InputError, match=r"dice:draw: the source in .*code is not the plan's: module dice_parts \(sha256 .{16} here, "
    ):
        rebind(plans[1])
    with pytest.raises(InputError, match=r"module dice_parts .*; file weights/one.npz \(sha256 .{16} here, .{16} in"):
        rebind(plans[0])
    assert rebind(plans[0], allow_other=True).checkpoint_id == plans[2].checkpoint_id


def test_a_plan_whose_id_does_not_follow(code: Path) -> None:
    plan = dataclasses.replace(plan_of(bound()), checkpoint_id="0" * 64)
    with pytest.raises(InputError, match="checkpoint_id does not follow from what the plan says"):
        rebind(plan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": ["none.npz"]}, "none.npz: no such file; data files of a function are named relative to its"),
        ({"files": ["../dice.py"]}, "file '../dice.py' must be a path relative to the module's folder"),
        ({"files": ["/etc/passwd"]}, "file '/etc/passwd' must be a path relative to the module's folder"),
        ({"height": 0}, "callable:dice:draw: height is 0, allowed: 1..16384"),
        ({"channels": 5}, "channels is 5, allowed: 1..4"),
    ],
)
def test_values_that_are_not_allowed(code: Path, change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        bound(**change)


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        ({"source": {"dice": "0"}}, "source holds 'dice': '0', must be a SHA-256"),
        ({"source": ["dice"]}, "source must be an object of at most 1000 names to SHA-256"),
        ({"files": {"../../etc/passwd": "0" * 64}}, "must be a path relative to the module's folder"),
        ({"files": {str(i): "0" * 64 for i in range(1001)}}, "files must be an object of at most 1000 names"),
    ],
)
def test_hostile_plans(sampler: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Settings(**sampler)


def test_planning_needs_permission_and_no_settings(code: Path) -> None:
    with pytest.raises(InputError, match="generator callable runs a function that is not caskit's own; --allow"):
        plan_of(bound(), allow_code=False)
    with pytest.raises(InputError, match="family callable has no sampler settings"):
        plan_of(bound(), sampler={"source": {}})
