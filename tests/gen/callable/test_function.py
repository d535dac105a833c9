"""A function from plan to audit: the same bytes again, foreign code by permission only, broken promises caught."""

import pickle
import py_compile
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from caskit.gen.audit import AuditConfig, audit
from caskit.gen.callable import bind
from caskit.gen.callable.importing import import_function
from caskit.gen.callable.source import find_source
from caskit.gen.checkpoint import Checkpoint
from caskit.gen.contract import CHECK_NUM, check_generator
from caskit.gen.planning import make_plan
from caskit.gen.sampling import SampleConfig, sample
from caskit.gen.worker import Worker
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError
from caskit.manifests.plan import Plan
from caskit.shards.dataset import open_set

CLASSES = ClassList.from_names(["one", "two", "three"])
INLINE = SampleConfig(executor="inline", allow_code=True)


def bound(path: str = "dice:draw") -> Checkpoint:
    return bind(path, classes=CLASSES, height=6, width=4, channels=1)


def plan_of(checkpoint: Checkpoint, num: int = 30) -> Plan:
    return make_plan(checkpoint, num=num, samples_per_shard=12, microbatch_size=8, allow_code=True)


def test_from_plan_to_audit(code: Path, tmp_path: Path) -> None:
    plan, root = plan_of(bound()), tmp_path / "r"
    replica = sample(plan, root, checkpoint=None, config=INLINE)
    assert replica is not None and sample(plan, tmp_path / "again", checkpoint=None, config=INLINE) == replica
    data = open_set(str(root))
    assert all(np.all(data.image(i) // 40 == data.labels[i]) for i in range(len(data)))
    report = audit(str(root), None, AuditConfig(allow_code=True))
    assert report.passed and report.exact and report.counts["samples"] == 30

    with (code / "dice_parts.py").open("a") as file:
        file.write("# harmless\n")
    with pytest.raises(InputError, match="is not the plan's: module dice_parts"):
        audit(str(root), None, AuditConfig(allow_code=True))
    with pytest.raises(InputError, match=r"these fields differ: checkpoint_id .*, sampler.source.dice_parts \("):
        sample(plan_of(bound()), root, checkpoint=None, config=INLINE)


def test_nothing_runs_without_permission(code: Path, tmp_path: Path) -> None:
    plan, root = plan_of(bound()), tmp_path / "r"
    message = "callable:dice:draw is a function that is not caskit's own; --allow-code runs it"
    with pytest.raises(InputError, match=message):
        sample(plan, root, checkpoint=None, config=SampleConfig(executor="inline"))
    assert not (root / "plan.json").exists()
    with pytest.raises(InputError, match=message):
        Worker(plan, module="caskit.gen.callable", location=str(root), checkpoint=None)
    worker = Worker(plan, module="caskit.gen.callable", location=str(root), checkpoint=None, allow_code=True)
    worker.allow_code = False
    with pytest.raises(InputError, match=message):  # what another process got
        pickle.loads(pickle.dumps(worker)).load_generator()
    with pytest.raises(InputError, match="not caskit's own"):
        check_generator(plan, checkpoint=None, elsewhere=False)
    assert "dice" not in sys.modules
    sample(plan, root, checkpoint=None, config=INLINE)
    with pytest.raises(InputError, match=f"its plan's generator {message}"):
        audit(str(root), None)


def test_a_checkpoint_is_of_no_use(code: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="family callable has no checkpoints; --set files=NAME"):
        sample(plan_of(bound()), tmp_path / "r", checkpoint=tmp_path, config=INLINE)


def test_what_runs_is_the_source_and_no_forged_compilation(code: Path) -> None:
    """Python would take a compiled file beside the source for it."""
    honest = (code / "dice_parts.py").read_bytes()
    (code / "dice_parts.py").write_text("raise SystemExit('forged')\n")
    py_compile.compile("dice_parts.py", invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    (code / "dice_parts.py").write_bytes(honest)
    source = find_source("dice:draw")
    assert callable(import_function(source, source.digests()))


def test_source_that_changed_or_was_imported_before(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = find_source("dice:draw")
    with pytest.raises(InputError, match="dice.py: changed since its digest was taken"):
        import_function(source, {**source.digests(), "dice": "0" * 64})
    import_function(source, source.digests())
    with (code / "dice.py").open("a") as file:
        file.write("draw = None\n")
    with pytest.raises(InputError, match="module dice was imported in this process before"):
        import_function(source, source.digests())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_package\n", "cannot be imported, ModuleNotFoundError: No module named 'no_such_package' ("),
        ("draws = 1\n", "draw in .*dice.py is no such name"),
        ("draw = 1\n", "draw in .*dice.py is a int, not a function"),
    ],
)
def test_functions_that_cannot_be_had(code: Path, text: str, message: str) -> None:
    (code / "dice.py").write_text(text)
    source = find_source("dice:draw")
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        import_function(source, source.digests())


BROKEN = {
    "randomness": ("noise = np.random.randint(0, 32, (len(labels), 6, 4, 1))", "the global generator of numpy"),
    "labels": ("labels = 0 * labels", "another label with the same stream gives the same image"),
    "batch": ("noise = noise - noise.min(axis=0)", "depends on the other samples of its batch"),
    "arrays": ("labels = labels / 2", "images are float64 (8, 6, 4, 1), must be uint8 (8, 6, 4, 1): scale to 0..255"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_function_that_breaks_a_promise(name: str, code: Path) -> None:
    line, message = BROKEN[name]
    cast = "" if name == "arrays" else ".astype(np.uint8)"
    text = f"""
import numpy as np

def draw(labels, streams):
    noise = streams.words("pixels", 24).reshape(-1, 6, 4, 1) >> np.uint64(59)
    {line}
    return (40 * labels[:, None, None, None] + noise.astype(np.int64)){cast}
"""
    (code / f"broken_{name}.py").write_text(text)
    plan = plan_of(bound(f"broken_{name}:draw"), CHECK_NUM * 8)
    contract = check_generator(plan, checkpoint=None, allow_code=True, elsewhere=False)
    found = {check.name: " | ".join(check.problems) for check in contract.checks}
    assert message in found[name]
    others = {"seed"} if name == "randomness" else set()  # what comes from a global state is not repeated either
    assert {check for check, problems in found.items() if problems} - others == {name}


def test_a_sound_function(code: Path) -> None:
    contract = check_generator(plan_of(bound(), CHECK_NUM * 8), checkpoint=None, allow_code=True, elsewhere=False)
    assert contract.problems == []


def test_a_function_that_says_what_is_finite(code: Path, tmp_path: Path) -> None:
    (code / "half.py").write_text(
        "import dice\n\ndef draw(labels, streams):\n"
        "    return dice.draw(labels, streams), streams.uniform('half', ()) < 0.8\n"
    )
    sample(plan_of(bound("half:draw")), tmp_path / "r", checkpoint=None, config=INLINE)
    attempts = open_set(str(tmp_path / "r")).table.column("attempt").to_pylist()
    assert min(attempts) == 0 and max(attempts) > 0
    shutil.rmtree(tmp_path / "r")
