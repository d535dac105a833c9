"""A set at a URL is fetched once, checked, and opened from a cache that stays within its bound."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from caskit.manifests.errors import InputError
from caskit.manifests.sets import SetReference
from caskit.shards.cache import cache_folder
from caskit.shards.dataset import open_set
from caskit.shards.imports import bring_in
from caskit.shards.remote import mirror
from caskit.shards.remote.push import push
from caskit.shards.store import open_store
from caskit.shards.verify import verify


@pytest.fixture
def url(tmp_path: Path, tiny: Any, bucket: str) -> str:
    tiny.frozen(tmp_path / "set", tiny.plan(num=8))
    push(str(tmp_path / "set"), f"{bucket}/one")
    return f"{bucket}/one"


def test_a_set_at_a_url_is_opened_as_a_folder_is(url: str, tmp_path: Path) -> None:
    stages: list[str] = []
    there = open_set(url, progress=lambda at: stages.append(at.stage))
    here = open_set(str(tmp_path / "set"))
    assert {"fetch", "tars"} <= set(stages)
    assert there.replica == here.replica and there.read(3) == here.read(3)
    stages.clear()
    replica_id = here.replica.replica_id
    assert open_set(f"{url}@sha256:{replica_id[:9]}", progress=lambda at: stages.append(at.stage)).keys == here.keys
    assert stages == []  # neither fetched nor checked again
    assert verify(url, "deep").location == url and verify(url, "quick").replica == here.replica
    assert bring_in(url).replica == here.replica
    with pytest.raises(InputError, match="the reference asks for sha256:00000000"):
        open_set(f"{url}@sha256:00000000")
    assert mirror.fetched(SetReference(location=str(tmp_path))).location == str(tmp_path)


def test_the_cache_is_bounded(
    url: str, bucket: str, tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.frozen(tmp_path / "other", tiny.plan(num=8, seed=9))
    push(str(tmp_path / "other"), f"{bucket}/other")
    monkeypatch.setenv(mirror.LIMIT_NAME, "100")
    with pytest.raises(
        InputError, match=r"the set takes \d+ bytes, the cache .* may hold 100 .* raise CASKIT_CACHE_BYTES"
    ):
        open_set(url)
    monkeypatch.setenv(mirror.LIMIT_NAME, "lots")
    with pytest.raises(InputError, match="CASKIT_CACHE_BYTES is 'lots', must be a number of bytes"):
        open_set(url)
    tar_bytes = sum(open_store(url).size(name) for name in open_store(url).names("shards/"))
    monkeypatch.setenv(mirror.LIMIT_NAME, str(3 * tar_bytes // 2))
    first = open_set(url).replica.replica_id
    with pytest.raises(InputError, match="may hold"):  # this process uses the first one
        open_set(f"{bucket}/other")
    os.close(mirror._held.pop(str(cache_folder(mirror.CACHE) / first)))
    second = open_set(f"{bucket}/other").replica.replica_id
    assert {path.name for path in cache_folder(mirror.CACHE).iterdir() if (path / "replica.json").exists()} == {second}


KILLED = """
import os, sys, threading, time
from pathlib import Path
from caskit.shards.remote.pull import pull
from caskit.shards.remote.push import push
threading.Thread(target=lambda: (time.sleep(float(sys.argv[3])), os.kill(os.getpid(), 9)), daemon=True).start()
if sys.argv[1] == "push":
    push(sys.argv[2], sys.argv[4])
else:
    pull(sys.argv[2], Path(sys.argv[4]))
"""


def test_killed_at_random_moments_the_ids_are_equal(url: str, bucket: str, tmp_path: Path) -> None:
    due = open_set(str(tmp_path / "set")).replica.replica_id
    for what, source, target in (
        ("push", str(tmp_path / "set"), f"{bucket}/killed"),
        ("pull", url, str(tmp_path / "killed")),
    ):
        for delay in ("1.5", "2.5"):
            command = [sys.executable, "-c", KILLED, what, source, delay, target]
            subprocess.run(command, check=False, timeout=100)
        done = subprocess.run([sys.executable, "-c", KILLED, what, source, "90", target], check=False, timeout=100)
        assert done.returncode == 0
        assert verify(target, "full").replica.replica_id == due
