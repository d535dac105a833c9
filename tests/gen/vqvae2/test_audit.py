"""The audit of VQ-VAE-2: its recorded codes pass however they are batched, changed ones do not."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from forged_sets import forge

from caskit.gen.audit import AuditConfig, AuditReport, audit
from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.contract import check_generator
from caskit.gen.drawing import Drawn
from caskit.gen.planning import make_plan
from caskit.gen.sampling import SampleConfig, sample
from caskit.manifests.plan import Plan

NUM, KEY = 20, "c01_000002"


@pytest.fixture
def plan(tiny_checkpoint: Path) -> Plan:
    checkpoint = load_checkpoint(tiny_checkpoint)
    return make_plan(checkpoint, num=NUM, seed=3, samples_per_shard=12, microbatch_size=8, record_codes=True)


def check(root: Path, checkpoint: Path, **config) -> AuditReport:
    return audit(str(root), checkpoint, AuditConfig(**config))


def test_it_keeps_the_contract_of_codes(plan: Plan, tiny_checkpoint: Path) -> None:
    assert check_generator(plan, checkpoint=tiny_checkpoint, elsewhere=False).problems == []


def test_an_honest_replica_passes(plan: Plan, tiny_checkpoint: Path, tmp_path: Path) -> None:
    sample(plan, tmp_path / "r", checkpoint=tiny_checkpoint, config=SampleConfig(executor="inline"))
    for config in ({}, {"batch_size": 3}, {"batch_size": 5, "threads": 2}, {"mode": "redraw"}):
        report = check(tmp_path / "r", tiny_checkpoint, **config)
        assert report.passed and report.counts["samples"] == NUM
        assert report.exact == (config.get("batch_size") is None)
        assert report.max_excess is None or report.max_excess < 1e-5


def test_one_changed_code_and_another_seed_are_found(plan: Plan, tiny_checkpoint: Path, tmp_path: Path) -> None:
    def one_code(samples: dict[str, Drawn], generator) -> None:
        codes = samples[KEY].codes
        assert codes is not None
        bottom = codes["bottom"]
        bottom[0, 1, 2] = (bottom[0, 1, 2] + 4) % 8
        images, _ = generator.decode_codes(np.array([1]), codes)
        samples[KEY] = dataclasses.replace(samples[KEY], images=images)

    forge(tmp_path / "code", plan, tiny_checkpoint, change=one_code)
    report = check(tmp_path / "code", tiny_checkpoint)
    first = report.failures[0]
    assert {failure.key for failure in report.failures} == {KEY}
    assert (first.kind, first.level, first.row, first.column) == ("interval", "bottom", 1, 2)
    forge(tmp_path / "seed", plan, tiny_checkpoint, made=dataclasses.replace(plan, seed=4))
    other = check(tmp_path / "seed", tiny_checkpoint)
    assert len({failure.key for failure in other.failures if failure.kind == "interval"}) > NUM // 2
