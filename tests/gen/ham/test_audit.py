"""The audit of ham: its recorded maps pass however they are batched, changed ones do not."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from forged_sets import forge

from caskit.gen.audit import AuditConfig, audit
from caskit.gen.checkpoint import load_checkpoint
from caskit.gen.contract import check_generator
from caskit.gen.drawing import Drawn
from caskit.gen.planning import make_plan
from caskit.gen.sampling import SampleConfig, sample
from caskit.manifests.plan import Plan

NUM, KEY = 14, "c01_000002"


@pytest.fixture
def plan(tiny_checkpoint: Path) -> Plan:
    checkpoint = load_checkpoint(tiny_checkpoint)
    return make_plan(checkpoint, num=NUM, seed=3, samples_per_shard=8, microbatch_size=4, record_codes=True)


def test_it_keeps_the_contract_and_an_honest_replica_passes(plan: Plan, tiny_checkpoint: Path, tmp_path: Path) -> None:
    assert check_generator(plan, checkpoint=tiny_checkpoint, elsewhere=False).problems == []
    sample(plan, tmp_path / "r", checkpoint=tiny_checkpoint, config=SampleConfig(executor="inline"))
    for config in (AuditConfig(), AuditConfig(batch_size=3), AuditConfig(mode="redraw")):
        report = audit(str(tmp_path / "r"), tiny_checkpoint, config)
        assert report.passed and report.counts["samples"] == NUM


@pytest.mark.parametrize(("level", "num_codes"), [("codes1", 16), ("pixels", 256)])
def test_one_changed_code_is_found(
    level: str, num_codes: int, plan: Plan, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    def change(samples: dict[str, Drawn], generator) -> None:
        codes = samples[KEY].codes
        assert codes is not None
        codes[level][0, 1, 2] = (codes[level][0, 1, 2] + num_codes // 2) % num_codes
        images, _ = generator.decode_codes(np.array([1]), codes)
        samples[KEY] = dataclasses.replace(samples[KEY], images=images)

    forge(tmp_path / "r", plan, tiny_checkpoint, change=change)
    report = audit(str(tmp_path / "r"), tiny_checkpoint, AuditConfig())
    first = report.failures[0]
    assert {failure.key for failure in report.failures} == {KEY}
    assert (first.kind, first.level, first.row, first.column) == ("interval", level, 1, 2)
