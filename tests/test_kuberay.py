"""The KubeRay example, as far as it can be checked without a cluster, and the arithmetic beside it."""

import math
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from caskit.cli import build_parser
from caskit.commands.sample import build_config

# Fields, with their types, of KubeRay's v1 API (operator 1.1 and newer) and of Kubernetes that the example may use.
JOB = {
    "entrypoint": str,
    "backoffLimit": int,
    "shutdownAfterJobFinishes": bool,
    "ttlSecondsAfterFinished": int,
    "activeDeadlineSeconds": int,
    "submissionMode": str,
    "rayClusterSpec": dict,
}
CLUSTER = {"rayVersion": str, "enableInTreeAutoscaling": bool, "headGroupSpec": dict, "workerGroupSpecs": list}
HEAD = {"rayStartParams": dict, "serviceType": str, "template": dict}
WORKERS = {
    "groupName": str,
    "replicas": int,
    "minReplicas": int,
    "maxReplicas": int,
    "rayStartParams": dict,
    "template": dict,
}
POD = {
    "nodeSelector": dict,
    "tolerations": list,
    "terminationGracePeriodSeconds": int,
    "containers": list,
    "volumes": list,
}
CONTAINER = {"name": str, "image": str, "resources": dict, "volumeMounts": list}


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    root = Path(__file__).resolve().parents[1]
    return list(yaml.safe_load_all((root / "examples/kuberay/sample-imagenet-256.yaml").read_text()))


@pytest.fixture
def cluster(documents: list[dict[str, Any]]) -> dict[str, Any]:
    return documents[0]["spec"]["rayClusterSpec"]


def holds(value: dict[str, Any], fields: dict[str, type], *required: str) -> None:
    assert set(value) <= set(fields) and set(required) <= set(value), sorted(set(value) ^ set(fields))
    for name, entry in value.items():
        assert type(entry) is fields[name], name


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def test_its_fields_are_those_of_the_api(documents: list[dict[str, Any]], cluster: dict[str, Any]) -> None:
    assert [(d["apiVersion"], d["kind"]) for d in documents] == [
        ("ray.io/v1", "RayJob"),
        ("policy/v1", "PodDisruptionBudget"),
    ]
    assert all(set(document) == {"apiVersion", "kind", "metadata", "spec"} for document in documents)
    holds(documents[0]["spec"], JOB, "entrypoint", "rayClusterSpec")
    holds(cluster, CLUSTER, "headGroupSpec")
    holds(cluster["headGroupSpec"], HEAD, "rayStartParams", "template")
    for group in cluster["workerGroupSpecs"]:
        holds(group, WORKERS, "groupName", "minReplicas", "maxReplicas", "rayStartParams", "template")
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(type(value) is str for value in group["rayStartParams"].values())
    for pod in pods(cluster):
        holds(pod["spec"], POD, "containers")
        (container,) = pod["spec"]["containers"]  # Ray's is the first one
        holds(container, CONTAINER, "name", "image")
        quantities = [q for kind in ("requests", "limits") for q in container["resources"].get(kind, {}).values()]
        assert quantities and all(type(quantity) is str for quantity in quantities)
        assert {mount["name"] for mount in container["volumeMounts"]} == {v["name"] for v in pod["spec"]["volumes"]}


def test_the_head_stays_and_the_workers_may_go(documents: list[dict[str, Any]], cluster: dict[str, Any]) -> None:
    head, *workers = pods(cluster)
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert set(head["spec"]["nodeSelector"].values()) == {"on-demand"}
    budget = documents[1]["spec"]
    assert budget["maxUnavailable"] == 0
    chosen = budget["selector"]["matchLabels"].items()
    assert chosen <= head["metadata"]["labels"].items()
    for worker in workers:
        assert not chosen <= worker["metadata"]["labels"].items()
        assert "on-demand" not in worker["spec"]["nodeSelector"].values()
        assert worker["spec"]["terminationGracePeriodSeconds"] <= head["spec"]["terminationGracePeriodSeconds"]


def test_its_command_is_one_and_fits_the_cluster(documents: list[dict[str, Any]], cluster: dict[str, Any]) -> None:
    program, *words = shlex.split(documents[0]["spec"]["entrypoint"])
    assert program == "caskit"
    arguments = build_parser().parse_args(words)
    config = build_config(arguments, "cuda")
    assert config.ray_address == "auto" and config.freeze
    gpus = [
        int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]) * group["maxReplicas"]
        for group in cluster["workerGroupSpecs"]
    ]
    assert config.num_workers == sum(gpus)
    for pod in pods(cluster):
        (container,) = pod["spec"]["containers"]
        for path in (arguments.out, arguments.checkpoint):
            assert any(path.startswith(f"{mount['mountPath']}/") for mount in container["volumeMounts"])


def test_the_table_follows_from_its_formula(repository: Path) -> None:
    text = (repository / "docs/clusters.md").read_text()
    number, rate, restart_s, lost_every_s = 1_281_167, 2.43, 60, 4 * 3600
    assert f"{number / rate / 3600:.1f} hours of one thread" in text
    assert f"{number * 133_658 / 1e9:.0f} GB" in text and f"encoding is {rate / 262:.1%}".replace("%", " %") in text
    for nodes in (1, 4, 16, 64):
        cells = []
        for size in (1000, 500, 100):
            t = size / rate
            seconds = math.ceil(math.ceil(number / size) / (32 * nodes)) * t * (1 + (t / 2 + restart_s) / lost_every_s)
            cells.append(f"{seconds / 3600:.2f} h")
        assert f"| {nodes} | {32 * nodes} | {' | '.join(cells)} |" in text
