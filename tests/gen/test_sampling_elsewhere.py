"""A replica that is sampled straight into an object store is the one that a folder gets, whenever it was killed."""

import logging
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from pebble_drive import plan_of

from caskit.gen.checkpoint import Checkpoint
from caskit.gen.executors import Part
from caskit.gen.sampling import SampleConfig, freeze_replica, sample
from caskit.manifests.errors import InputError
from caskit.shards.dataset import open_set
from caskit.shards.remote.in_place import verify_in_place
from caskit.shards.remote.objects import ObjectStore
from caskit.shards.remote.pull import pull
from caskit.shards.store import AlreadyExists, open_store

INLINE = SampleConfig(executor="inline")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of a bucket of an S3 server on this machine."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {"ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "key", "REGION": "us-east-1"}
    for name, value in (settings | {"ENDPOINT_URL": f"http://{host}:{port}"}).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/samples", method="PUT")):
        yield "s3://samples"
    server.stop()


class Died(BaseException):
    """Stands for kill -9."""


def test_the_ids_are_those_of_a_folder(
    pebble: Checkpoint, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(pebble.path, 103)
    due = sample(plan, tmp_path / "here", checkpoint=pebble.path, config=INLINE)
    real, left = ObjectStore.create_from, [2]

    def dying(self: ObjectStore, name: str, path: Path) -> None:
        real(self, name, path)
        left[0] -= 1
        if left[0] == 0:  # the tar is there, its commit is not
            raise Died

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "create_from", dying)
        with pytest.raises(Died):
            sample(plan, f"{bucket}/there", checkpoint=pebble.path, config=INLINE)
    assert not open_store(f"{bucket}/there").exists("replica.json")
    assert sample(plan, f"{bucket}/there", checkpoint=pebble.path, config=INLINE) == due
    assert pull(f"{bucket}/there", tmp_path / "back").replica_id == due.replica_id


def test_two_parts_are_frozen_in_the_store_and_read_by_its_url(pebble: Checkpoint, bucket: str, tmp_path: Path) -> None:
    plan, url = plan_of(pebble.path, 103), f"{bucket}/parts"
    due = sample(plan, tmp_path / "here", checkpoint=pebble.path, config=INLINE)
    for part in (Part(index=2, count=2), Part(index=1, count=2)):
        assert sample(plan, url, checkpoint=pebble.path, config=SampleConfig(executor="inline", part=part)) is None
    assert freeze_replica(url) == due
    assert verify_in_place(url).replica == due
    there, here = open_set(url), open_set(str(tmp_path / "here"))
    assert there.keys == here.keys and [there.read(n) for n in range(103)] == [here.read(n) for n in range(103)]


def test_a_store_that_overwrites_is_refused(pebble: Checkpoint, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ObjectStore.create

    def overwriting(self: ObjectStore, name: str, data: bytes) -> None:
        try:
            real(self, name, data)
        except AlreadyExists:
            self.delete(name)
            real(self, name, data)

    monkeypatch.setattr(ObjectStore, "create", overwriting)
    with pytest.raises(InputError, match="a second create overwrites the first there, use another store"):
        sample(plan_of(pebble.path, 103), f"{bucket}/overwritten", checkpoint=pebble.path, config=INLINE)
    assert open_store(f"{bucket}/overwritten").names("") == []
