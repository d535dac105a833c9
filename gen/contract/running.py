"""Runs the contract check: every promise in turn; what needs usable images is left out where there are none."""

import dataclasses
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from caskit.gen.codes import as_coded, has_codes
from caskit.gen.contract.labels import check_labels, open_classifier
from caskit.gen.contract.probe import Broken, Probe, call
from caskit.gen.contract.promises import (
    check_arrays,
    check_batch,
    check_codes_drawn,
    check_randomness,
    check_seed,
    check_settings,
    torch_settings,
)
from caskit.gen.contract.report import Check, Contract, Cost
from caskit.gen.contract.trial import check_process, try_elsewhere, try_worker
from caskit.gen.family import CodedGenerator, Family, family_path, make_settings, open_family
from caskit.gen.numerics import numerics_applied
from caskit.gen.timing import NUM_TIMED
from caskit.gen.worker import Worker
from caskit.manifests.plan import Plan

CHECK_NUM = NUM_TIMED + 1  # microbatches that the plan of a check needs


def check_generator(
    plan: Plan,
    *,
    checkpoint: Path | None,
    device: str = "cpu",
    classifier: Path | None = None,
    allow_code: bool = False,
    elsewhere: bool = True,
) -> Contract:
    """Check every promise of the generator that a plan names, by drawing small batches of it.

    Args:
        plan: decides generator, settings, numerics and the size of a batch; best of CHECK_NUM microbatches or more.
        checkpoint: folder of the weights; None for a family that is bound code.
        device: of the plan's kind.
        classifier: folder of `caskit train`, which then tells whether labels are respected.
        allow_code: the generator may be code that is not caskit's own.
        elsewhere: try the generator in a new process too, which takes as long as importing torch does.

    Raises:
        InputError: checkpoint, classifier or settings do not go with the plan.
    """
    family = open_family(plan.family, allow_code=allow_code)
    worker = Worker(
        plan,
        module=family_path(plan.family),
        location=".",
        checkpoint=checkpoint,
        device=device,
        allow_code=allow_code,
    )
    judge = None if classifier is None else open_classifier(classifier, plan, torch.device(device))
    run = _Run(family, worker)
    run.check("config", lambda: check_config(family, worker))
    with numerics_applied(plan.numerics):
        before = torch_settings()
        if not run.load():
            return run.contract()
        probe = run.probe
        if not run.check("arrays", lambda: check_arrays(probe)):
            return run.contract()
        coded = as_coded(probe.generator, plan.family) if family.CODED and has_codes(probe.generator) else None
        run.check("seed", lambda: check_seed(probe))
        run.check("batch", lambda: run.batch(coded))
        run.check("randomness", lambda: check_randomness(probe))
        run.check("labels", lambda: check_labels(probe, judge))
        run.check("codes", lambda: check_codes_drawn(probe, family.CODED))
        run.check("settings", lambda: check_settings(before))
        run.check("process", lambda: run.tried(elsewhere))
    return run.contract()


class _Run:
    """A contract check while it runs."""

    def __init__(self, family: Family, worker: Worker) -> None:
        self._family, self._worker = family, worker
        self._checks: dict[str, Check] = {}
        self._cost: Cost | None = None
        self.probe: Probe

    def check(self, name: str, look: Callable[[], Check]) -> bool:
        """Look at one promise; return whether it is kept."""
        try:
            self._checks[name] = look()
        except Broken as broken:
            self._checks[name] = Check(name=name, problems=(str(broken),))
        return not self._checks[name].problems

    def load(self) -> bool:
        """Load the generator; return whether that went well."""
        try:
            self.probe = Probe(call("loading", self._worker.load_generator), self._worker.plan)
        except Broken as broken:
            self._checks["load"] = Check(name="load", problems=(str(broken),))
            return False
        return True

    def batch(self, coded: CodedGenerator | None) -> Check:
        """Look at what the batch does, where the same batch gives the same images."""
        if self._checks["seed"].problems:
            return Check(name="batch", note="not compared: see seed", checked=False)
        return check_batch(self.probe, coded)

    def tried(self, elsewhere: bool) -> Check:
        """Try the worker as another process has it, and compare what it draws where that can say anything."""
        if self._checks["config"].problems:
            return Check(name="process", note="not tried: see config", checked=False)
        trial = try_elsewhere(self._worker) if elsewhere else try_worker(pickle.loads(pickle.dumps(self._worker)))
        self._cost = trial.cost
        broken = [name for name in ("seed", "randomness") if self._checks[name].problems]
        if broken:
            return Check(name="process", note=f"not compared: see {' and '.join(broken)}", checked=False)
        return check_process(self.probe, trial)

    def contract(self) -> Contract:
        """Return what was found."""
        return Contract(checks=tuple(self._checks.values()), cost=self._cost)


def check_config(family: Family, worker: Worker) -> Check:
    """Check that settings and presets survive pickling and JSON, by which workers and plans get them."""
    problems = []
    settings = make_settings(family, worker.plan.sampler)
    configs = {f"preset {name}": preset() for name, preset in family.PRESETS.items()}
    for name, value in {"Settings": settings, **configs}.items():
        problems += [f"{name} {problem}" for problem in _config_problems(value)]
    if not problems and make_settings(family, json.loads(json.dumps(dataclasses.asdict(settings)))) != settings:
        problems.append(
            "Settings are others after a way through JSON, which a plan takes: use lists, not tuples or sets"
        )
    try:
        pickle.loads(pickle.dumps(worker))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        problems.append(f"a worker cannot be pickled ({error}): keep what is loaded in the generator, not in settings")
    note = f"settings and presets ({len(configs)}): by pickle and JSON"
    return Check(name="config", problems=tuple(problems), note=note)


def _config_problems(value: Any) -> list[str]:
    try:
        again = pickle.loads(pickle.dumps(value))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        return [f"cannot be pickled ({error}): define its class at the top of a module, with fields of JSON types"]
    if again != value:
        return ["is not equal to itself after pickling: make it a frozen dataclass with fields of JSON types"]
    try:
        json.dumps(dataclasses.asdict(value))
    except (TypeError, ValueError) as error:
        return [f"has no JSON form ({error}): use fields of JSON types"]
    return []
