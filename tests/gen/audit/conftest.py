"""An honest replica of the coded test family, and the keys that the tests name."""

import sys
from pathlib import Path

import pytest
from coded_family import save_coded
from pebble_drive import plan_of

from caskit.gen import family as family_table
from caskit.gen.checkpoint import Checkpoint
from caskit.gen.sampling import SampleConfig, sample
from caskit.manifests.plan import Plan

assert any(path.endswith("pebble") for path in sys.path), "tests/gen/conftest.py puts it there"
NUM = 53


@pytest.fixture
def coded_plan(coded: Checkpoint) -> Plan:
    plan: Plan = plan_of(coded.path, NUM, record_codes=True, sampler={"not_finite_code": 3})
    return plan


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A replica and its checkpoint; tests only read them."""
    folder = tmp_path_factory.mktemp("honest")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(family_table.FAMILIES, "coded", "coded_family")
        checkpoint = save_coded(folder / "checkpoint")
        plan = plan_of(checkpoint.path, NUM, record_codes=True, sampler={"not_finite_code": 3})
        sample(plan, folder / "r", checkpoint=checkpoint.path, config=SampleConfig(executor="inline"))
    return folder / "r", checkpoint.path
