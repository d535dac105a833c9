"""Push and pull against servers and networks that fail: is anything wrong ever accepted, does all else get there?

Run: python benchmarks/storage.py [--rclone PATH] > benchmarks/storage.md. It needs moto (extra dev), whose S3 server
refuses to overwrite. A proxy (tests/shards/remote/fault_proxy.py) breaks requests on their way to it, one kind of fault
after the other: with half of the requests broken a command is repeated until it succeeds, and what arrived must be the
set. With --rclone the same set is also offered by `rclone serve s3` (rclone 1.65 or newer), which accepts an overwrite:
the probe must refuse it and pull must work. Exit code 1 if any of this is not so.
"""

import argparse
import dataclasses
import datetime
import importlib.util
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import obstore
from partial_pull import Scale, make_set  # beside this script

from caskit.manifests.errors import InputError, RunFailed
from caskit.shards.records import read_replica
from caskit.shards.remote import objects
from caskit.shards.remote.patience import Patience, Unreachable
from caskit.shards.remote.pull import pull
from caskit.shards.remote.push import push
from caskit.shards.store import LocalStore, open_store, probe_create_only

PROXY = Path(__file__).resolve().parents[1] / "tests/shards/remote/fault_proxy.py"
MAX_COMMANDS = 20
SCALE = Scale(side=28, num=300, samples_per_shard=50, codec="png")
QUICK = Patience(attempts=8, first_delay_s=0.01, longest_delay_s=0.1, timeout_s=2.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one direction came to under one kind of fault."""

    fault: str
    direction: str
    num_faults: int
    num_commands: int
    equal: bool
    seconds: float

    def line(self) -> str:
        """Return a row of the table."""
        found = "equal" if self.equal else "NOT EQUAL"
        counts = f"{self.num_faults} | {self.num_commands}"
        return f"| {self.fault} | {self.direction} | {counts} | {found} | {self.seconds:.1f} |"


def load_proxy() -> ModuleType:
    """Return the module of the proxy, which the tests use too."""
    spec = importlib.util.spec_from_file_location("fault_proxy", PROXY)
    assert spec is not None and spec.loader is not None, f"{PROXY} is there"
    module = importlib.util.module_from_spec(spec)
    sys.modules["fault_proxy"] = module
    spec.loader.exec_module(module)
    return module


def repeated(work: Callable[[], object]) -> int:
    """Do the same command until it succeeds; returns how often it took."""
    for attempt in range(1, MAX_COMMANDS + 1):
        try:
            work()
            return attempt
        except (Unreachable, RunFailed, InputError) as error:
            if isinstance(error, InputError) and "other bytes" not in str(error):
                raise
            logging.info("%s", error)
    raise SystemExit(f"not done after {MAX_COMMANDS} commands")


def whole(first: Path, second: Path) -> bool:
    """Say whether two folders hold the same published files."""
    names = []
    for folder in (first, second):
        present = [name for name in LocalStore(folder).names("") if not name.startswith("_work/")]
        names.append([name for name in present if name.endswith((".tar", ".json"))])
    same = all((first / name).read_bytes() == (second / name).read_bytes() for name in names[0])
    return sorted(names[0]) == sorted(names[1]) and same


def measure(fault: str, proxies: ModuleType, moto: str, source: Path, folder: Path) -> list[Outcome]:
    """Push and pull through a proxy that does one thing wrong."""
    outcomes, url = [], f"s3://faults/{fault}"
    for direction in ("push", "pull"):
        with proxies.FaultProxy(moto, [fault], share=0.5, most=40, seed=1, hang_s=2.5) as proxy:
            os.environ["AWS_ENDPOINT_URL"] = proxy.url
            began = time.perf_counter()
            if direction == "push":
                commands = repeated(lambda: push(str(source), url, workers=4))
            else:
                commands = repeated(lambda: pull(url, folder / fault, workers=4))
            seconds = time.perf_counter() - began
        os.environ["AWS_ENDPOINT_URL"] = moto
        if direction == "push":
            pull(url, folder / f"{fault}-pushed")
        made = folder / (fault if direction == "pull" else f"{fault}-pushed")
        outcomes.append(
            Outcome(
                fault=fault,
                direction=direction,
                num_faults=sum(proxy.done.values()),
                num_commands=commands,
                equal=whole(source, made),
                seconds=seconds,
            )
        )
    return outcomes


def try_rclone(program: str, source: Path, folder: Path) -> list[str]:
    """Offer a set by `rclone serve s3`; returns what was seen. Raises AssertionError if it is not what is promised."""
    bucket = folder / "served" / "bucket"
    push(str(source), str(bucket / "set"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = str(bucket.parent)
    command = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", "id,key", served]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if server.poll() is not None:
                raise SystemExit(f"rclone serve s3: {server.stderr.read() if server.stderr else ''}".strip())
            time.sleep(0.1)
        try:
            probe_create_only(open_store("s3://bucket/probe"))
            raise SystemExit("rclone serve s3 was taken for a store that refuses to overwrite")
        except InputError as error:
            refusal = str(error)
        pulled = pull("s3://bucket/set", folder / "from-rclone")
        assert pulled.replica_id == read_replica(LocalStore(source)).replica_id, "the pulled set is another one"
        assert whole(source, folder / "from-rclone"), "the pulled files are others"
    finally:
        server.terminate()
        server.wait()
    return [f"the probe refuses it: `{refusal}`", "a pull from it gives the set, file for file"]


def main() -> int:
    """Measure, and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rclone", metavar="PATH", help="program that can `serve s3` (1.65 or newer)")
    arguments = parser.parse_args()
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    moto, proxies = f"http://{host}:{port}", load_proxy()
    with urllib.request.urlopen(urllib.request.Request(f"{moto}/faults", method="PUT")):
        pass
    settings = {"ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "key", "REGION": "us-east-1", "ENDPOINT_URL": moto}
    os.environ |= {f"AWS_{name}": value for name, value in settings.items()}
    objects.Patience = lambda: QUICK  # type: ignore[misc, assignment]
    outcomes, seen = [], []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        make_set(SCALE, folder / "set")
        push(str(folder / "set"), str(folder / "carded"))
        pull(str(folder / "carded"), folder / "source")
        for fault in proxies.FAULTS:
            outcomes += measure(fault, proxies, moto, folder / "source", folder)
        if arguments.rclone is not None:
            seen = try_rclone(arguments.rclone, folder / "source", folder)
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    print("# Push and pull while requests fail\n")
    print(f"`python benchmarks/storage.py`, {now}, obstore {obstore.__version__}, moto's S3 server on this machine")
    print(f"behind a proxy that breaks half of the requests (40 at most); {SCALE.num} images in 6 tars.\n")
    print("| fault | direction | requests broken | commands | what arrived | s |\n|---|---|---|---|---|---|")
    for outcome in outcomes:
        print(outcome.line())
    for line in seen:
        print(f"\n- rclone serve s3: {line}")
    return int(not all(outcome.equal for outcome in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())
