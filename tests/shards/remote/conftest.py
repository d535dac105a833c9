"""An S3 server on this machine (moto), a proxy that breaks what goes to it, and stores that are not patient long."""

import importlib.util
import logging
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from caskit.shards.remote import objects, push
from caskit.shards.remote.patience import Patience
from caskit.shards.store import open_store

QUICK = Patience(attempts=8, first_delay_s=0.01, longest_delay_s=0.05, timeout_s=1.5, connect_s=1.0)
SECRET = "wJalrXUtnFEMI-this-is-secret"
KEY_ID = "AKIDTHISISAKEYID"


def load(name: str) -> ModuleType:
    """Load a module that lies beside this one."""
    spec = importlib.util.spec_from_file_location(f"caskit_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path: Path, tiny: Any) -> Path:
    """A frozen set of 20 images, with files in its folder that are not to leave it."""
    tiny.frozen(tmp_path / "set", tiny.plan(num=20))
    (tmp_path / "set/_work/secret").write_text("not to be published")
    (tmp_path / "set/notes.txt").write_text("nor this")
    return tmp_path / "set"


@pytest.fixture(scope="session")
def faults() -> ModuleType:
    """The module of the proxy."""
    return load("fault_proxy")


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """URL of an S3 server that refuses to overwrite what was to be created (412)."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(moto_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> str:
    """URL of a new bucket; the environment says where it is and who asks, and stores are opened with QUICK."""
    name = tmp_path_factory.mktemp("bucket").name.replace("_", "-")
    made = urllib.request.Request(f"{moto_url}/{name}", method="PUT")
    with urllib.request.urlopen(made) as answer:
        assert answer.status == 200
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_url)
    monkeypatch.setattr(objects, "Patience", lambda: QUICK)
    return f"s3://{name}"


@pytest.fixture
def public(moto_url: str) -> Callable[[str], str]:
    """Make what is in a bucket readable for everybody; returns the URL at which a web browser finds it."""

    def publish(url: str) -> str:
        import boto3

        path = url.removeprefix("s3://")
        bucket, _, prefix = path.partition("/")
        client = boto3.client("s3", endpoint_url=moto_url)
        for name in open_store(url).names(""):
            client.put_object_acl(Bucket=bucket, Key=f"{prefix}/{name}".lstrip("/"), ACL="public-read")
        return f"{moto_url}/{path}"

    return publish


@pytest.fixture
def through(faults: ModuleType, moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Start a proxy with these faults; stores opened from then on go through it."""
    started = []

    def start(*names: str, **options: Any) -> Any:
        proxy = faults.FaultProxy(moto_url, names or faults.FAULTS, **options).__enter__()
        started.append(proxy)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        return proxy

    yield start
    for proxy in started:
        proxy.__exit__(None, None, None)


@pytest.fixture(scope="session")
def fake_hub() -> ModuleType:
    """The module of the fake Hub."""
    return load("fake_hub")


@pytest.fixture
def hub(fake_hub: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A fake Hub, which the environment names; nothing of huggingface_hub waits long or asks anybody else."""
    import huggingface_hub
    from huggingface_hub import constants

    with fake_hub.FakeHub() as server:
        for name in ("HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", fake_hub.TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(objects, "Patience", lambda: QUICK)
        monkeypatch.setattr(push, "Patience", lambda: QUICK)
        sleep = time.sleep
        monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))
        yield server
    huggingface_hub.close_session()
