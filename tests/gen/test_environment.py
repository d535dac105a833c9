import os
import subprocess
import sys
from pathlib import Path

import pytest

from caskit.gen.environment import claim_environment, environment_class, environment_id, read_environments
from caskit.manifests.canonical import canonical_json
from caskit.manifests.errors import InputError
from caskit.shards.store import LocalStore

OURS = environment_class()
OTHER = {**OURS, "cpu": {**OURS["cpu"], "aten_capability": "OTHER"}}


def test_the_class_is_json_and_stable() -> None:
    assert environment_id(environment_class()) == environment_id(OURS)
    assert canonical_json(OURS)
    assert OURS["versions"]["numpy"] and OURS["versions"]["pillow"] and OURS["cpu"]["aten_capability"]
    text = canonical_json(OURS).decode()
    assert os.uname().nodename not in text and str(os.getpid()) not in text


@pytest.mark.parametrize(
    "variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_DEFAULT_FPMATH_MODE", "MKL_CBWR", "NPY_DISABLE_CPU_FEATURES"]
)
def test_dispatch_variables_count(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "AVX")
    assert environment_id(environment_class()) != environment_id(OURS)


def test_the_effective_instruction_set_counts() -> None:
    code = "from caskit.gen.environment import *; print(environment_id(environment_class()))"
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() != environment_id(OURS)


def test_the_first_worker_decides(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert claim_environment(store, OURS, allow=False) == environment_id(OURS)
    assert claim_environment(store, OURS, allow=False) == environment_id(OURS)
    assert (tmp_path / "environment.json").read_bytes() == canonical_json(OURS)
    assert read_environments(store) == {environment_id(OURS): OURS}


def test_another_class_is_refused_by_name(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    claim_environment(store, OURS, allow=False)
    with pytest.raises(InputError, match="another environment class.*cpu.aten_capability .'OTHER' here.*--allow-env"):
        claim_environment(store, OTHER, allow=False)
    assert claim_environment(store, OTHER, allow=True) == environment_id(OTHER)
    assert claim_environment(store, OTHER, allow=True) == environment_id(OTHER)
    assert read_environments(store) == {environment_id(OURS): OURS, environment_id(OTHER): OTHER}
    assert next(iter(read_environments(store))) == environment_id(OURS)
