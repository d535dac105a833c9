"""Push, pull and sample against servers and networks that fail: is anything wrong accepted, does all else get there?

Run: python benchmarks/storage.py [--rclone PATH] > benchmarks/storage.md; --short takes a minute. It needs moto (extra
dev), whose S3 server refuses to overwrite.

Faults: a proxy (tests/shards/remote/fault_proxy.py) breaks half of the requests, one kind of fault after the other; a
command that gives up is typed again, and what arrived must be the set. Kills: each command is killed with kill -9 at
random moments and typed again. The whole line: `caskit sample` into the store with two workers, `freeze` there, `pull`,
and `train` by the URL, beside a run in a folder. With --rclone the set is also offered by `rclone serve s3` (1.65 or
newer), which lets a create overwrite: the probe must refuse it for writing and pull must work. Exit code 1 if any of
this is not so.
"""

import argparse
import dataclasses
import datetime
import functools
import importlib.util
import logging
import os
import random
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

from caskit.gen.planning import find_checkpoint, make_plan
from caskit.gen.sampling import SampleConfig, sample
from caskit.manifests.errors import InputError, RunFailed
from caskit.manifests.plan import Plan
from caskit.shards.records import read_replica
from caskit.shards.remote import objects
from caskit.shards.remote.patience import Patience, Unreachable
from caskit.shards.remote.progress import TransferConfig
from caskit.shards.remote.pull import pull
from caskit.shards.remote.push import push
from caskit.shards.store import LocalStore, open_store, probe_create_only

PROXY = Path(__file__).resolve().parents[1] / "tests/shards/remote/fault_proxy.py"
MAX_COMMANDS = 30
PARTS = ("faults", "kills", "line")
KEYS = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY")  # rclone refuses short ones
SCALE = Scale(side=28, num=300, samples_per_shard=50, codec="png")
QUICK = Patience(attempts=8, first_delay_s=0.01, longest_delay_s=0.1, timeout_s=2.0)
FOUR = TransferConfig(workers=4)
GENERATOR = ("--gen", "cvae:digits", "--num", "240", "--samples-per-shard", "20", "--seed", "0")
# What is killed says when it has imported what it needs, so that the moments fall into the work.
CHILD = """
import sys
from pathlib import Path
import caskit.gen.sampling
from caskit.cli import main
from caskit.shards.remote import pull, push
print("started", flush=True)
sys.exit(main(sys.argv[1:]))
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one direction came to under one kind of fault, or under kills."""

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
    """Do the same command until it succeeds; returns how often it took. A good store must not be refused."""
    for attempt in range(1, MAX_COMMANDS + 1):
        try:
            work()
            return attempt
        except (Unreachable, RunFailed, InputError) as error:
            if "overwrites" in str(error):
                raise
            logging.info("%s", error)
            last = error
    raise SystemExit(f"not done after {MAX_COMMANDS} commands: {last}")


def whole(first: Path, second: Path) -> bool:
    """Say whether two folders hold the same published files."""
    names = []
    for folder in (first, second):
        present = [name for name in LocalStore(folder).names("") if not name.startswith("_work/")]
        names.append([name for name in present if name.endswith((".tar", ".json"))])
    same = all((first / name).read_bytes() == (second / name).read_bytes() for name in names[0])
    return sorted(names[0]) == sorted(names[1]) and same


def same_set(first: Path, second: Path) -> bool:
    """Say whether two folders hold the same set, tar for tar; provenance.json has the time in it."""
    ids = [read_replica(LocalStore(folder)).replica_id for folder in (first, second)]
    tars = [{path.name: path.read_bytes() for path in (folder / "shards").iterdir()} for folder in (first, second)]
    return ids[0] == ids[1] and tars[0] == tars[1]


def digits_plan() -> tuple[Plan, Path]:
    """Return the plan of a small replica and its checkpoint, which ships with caskit."""
    checkpoint = find_checkpoint("cvae", "digits", None)
    return make_plan(checkpoint, num=240, seed=0, samples_per_shard=20), checkpoint.path


def draw(out: str) -> None:
    """Sample that replica."""
    plan, checkpoint = digits_plan()
    sample(plan, out, checkpoint=checkpoint, config=SampleConfig(executor="inline"))


class Bench:
    """The servers, the folders, and what is compared with what."""

    def __init__(self, moto: str, folder: Path, *, short: bool) -> None:
        self.moto, self.folder, self.short = moto, folder, short
        self.proxies = load_proxy()
        self.most = 8 if short else 30
        make_set(SCALE, folder / "set")
        push(str(folder / "set"), str(folder / "carded"))
        pull(str(folder / "carded"), folder / "source")  # with its card, as a pull leaves it
        self.source = folder / "source"
        self.drawn = folder / "drawn"
        draw(str(self.drawn))

    def under_fault(self, fault: str, direction: str) -> Outcome:
        """Push, pull or sample through a proxy that does one thing wrong."""
        url, made = f"s3://bench/{fault}-{direction}", self.folder / f"{fault}-{direction}"
        if direction == "pull":
            push(str(self.source), url)
        works: dict[str, Callable[[], object]] = {
            "push": lambda: push(str(self.source), url, FOUR),
            "pull": lambda: pull(url, made, FOUR),
            "sample": lambda: draw(url),
        }
        proxy = self.proxies.FaultProxy(self.moto, [fault], share=0.5, most=self.most, seed=1, hang_s=2.5)
        with proxy:
            os.environ["AWS_ENDPOINT_URL"] = proxy.url
            began = time.perf_counter()
            commands = repeated(works[direction])
            seconds = time.perf_counter() - began
        os.environ["AWS_ENDPOINT_URL"] = self.moto
        if direction != "pull":
            pull(url, made)
        return Outcome(
            fault=fault,
            direction=direction,
            num_faults=sum(proxy.done.values()),
            num_commands=commands,
            equal=same_set(self.drawn, made) if direction == "sample" else whole(self.source, made),
            seconds=seconds,
        )

    def under_kills(self, direction: str, moments: random.Random) -> Outcome:
        """Kill a command at random moments and type it again."""
        url, made, began = f"s3://bench/killed-{direction}", self.folder / f"killed-{direction}", time.perf_counter()
        if direction == "pull":
            push(str(self.source), url)
        lines = {
            "push": ["push", str(self.source), url],
            "pull": ["pull", url, str(made)],
            "sample": ["sample", *GENERATOR, "--executor", "inline", "--out", url],
        }
        calm = [word.replace(f"killed-{direction}", f"calm-{direction}") for word in lines[direction]]
        if direction == "pull":
            calm = ["pull", url, str(self.folder / "calm-pull")]
        length_s, kills, commands = run_child(calm, None), 0, 1
        while kills < (1 if self.short else 5) and commands < MAX_COMMANDS:
            killed = run_child(lines[direction], moments.uniform(0.0, length_s)) is None
            kills, commands = kills + killed, commands + 1
        assert run_child(lines[direction], None) is not None, "what is not killed ends"
        if direction != "pull":
            pull(url, made)
        return Outcome(
            fault="kill -9",
            direction=direction,
            num_faults=kills,
            num_commands=commands,
            equal=same_set(self.drawn, made) if direction == "sample" else whole(self.source, made),
            seconds=time.perf_counter() - began,
        )

    def line(self) -> list[str]:
        """Sample into the store with two workers, freeze there, pull, train by the URL; the same in a folder."""
        url, here, back = "s3://bench/line", str(self.folder / "line"), str(self.folder / "line-back")
        caskit("sample", *GENERATOR, "--workers", "2", "--no-freeze", "--out", url)
        caskit("freeze", url)
        caskit("pull", url, back)
        caskit("sample", *GENERATOR, "--executor", "inline", "--out", here)
        recipe = ("--recipe", "digits", "--seed", "0", "--device", "cpu")
        caskit("train", "--data", url, *recipe, "--out", str(self.folder / "trained-there"))
        caskit("train", "--data", here, *recipe, "--out", str(self.folder / "trained-here"))
        assert same_set(Path(here), Path(back)), "the replica of the store is another one than that of the folder"
        weights = [sorted((self.folder / f"trained-{where}").rglob("*.safetensors")) for where in ("there", "here")]
        found = [[path.read_bytes() for path in paths] for paths in weights]
        assert found[0] and found[0] == found[1], "training by the URL gave other weights than from the folder"
        replica_id = read_replica(LocalStore(Path(back))).replica_id
        return [
            f"replica_id `{replica_id}`, in the store, pulled, and of a run in a folder",
            f"training by the URL and from the folder: {len(found[0])} files of weights, equal to the last bit",
        ]


def run_child(words: list[str], delay_s: float | None) -> float | None:
    """Run a command in a process of its own, killed after a delay.

    Returns:
        Seconds from its start to its end; None if it was killed before.
    """
    child = subprocess.Popen([sys.executable, "-c", CHILD, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"started\n", "the child says that it works"
    began = time.perf_counter()
    try:
        _, errors = child.communicate(timeout=delay_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return None
    if child.returncode != 0:
        raise SystemExit(f"caskit {' '.join(words)} ended with {child.returncode}: {errors.decode()[-400:]}")
    return time.perf_counter() - began


def caskit(*words: str) -> None:
    """Run a command to its end."""
    done = subprocess.run([sys.executable, "-m", "caskit", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"caskit {' '.join(words)} ended with {done.returncode}: {done.stderr[-400:]}")


def try_rclone(program: str, source: Path, folder: Path) -> list[str]:
    """Offer a set by `rclone serve s3`; returns what was seen. Raises AssertionError if it is not what is promised."""
    bucket = folder / "served" / "bucket"
    push(str(source), str(bucket / "set"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", ",".join(KEYS), str(bucket.parent)]
    version = subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    with tempfile.TemporaryFile("w+") as errors:
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
            _wait_for(server, port)
            refusals = []
            for attempt in (
                lambda: probe_create_only(open_store("s3://bucket/probe")),
                lambda: draw("s3://bucket/sampled"),
            ):
                try:
                    attempt()
                    raise SystemExit("rclone serve s3 was taken for a store that refuses to overwrite")
                except InputError as error:
                    refusals.append(str(error))
            assert not open_store("s3://bucket/sampled").names(""), "nothing was written where sampling was refused"
            pulled = pull("s3://bucket/set", folder / "from-rclone")
        finally:
            server.terminate()
            server.wait()
    assert pulled.replica_id == read_replica(LocalStore(source)).replica_id, "the pulled set is another one"
    assert whole(source, folder / "from-rclone"), "the pulled files are others"
    return [
        f"{version}: the probe refuses it (`{refusals[0]}`)",
        f"sampling into it is refused before anything is written (`{refusals[1]}`)",
        "a pull from it gives the set, file for file",
    ]


def _wait_for(server: "subprocess.Popen[bytes]", port: int) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            raise SystemExit(f"rclone serve s3 ended with {server.returncode}")
        time.sleep(0.1)
    raise SystemExit("rclone serve s3 does not listen")


def main() -> int:
    """Measure, and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rclone", metavar="PATH", help="program that can `serve s3` (1.65 or newer)")
    parser.add_argument("--short", action="store_true", help="fewer faults and kills, without the whole line")
    parser.add_argument("--part", choices=PARTS, help="only this part")
    arguments = parser.parse_args()
    parts = (arguments.part,) if arguments.part is not None else PARTS[: 2 if arguments.short else 3]
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    moto = f"http://{host}:{port}"
    with urllib.request.urlopen(urllib.request.Request(f"{moto}/bench", method="PUT")):
        pass
    settings = {"ACCESS_KEY_ID": KEYS[0], "SECRET_ACCESS_KEY": KEYS[1], "REGION": "us-east-1", "ENDPOINT_URL": moto}
    os.environ |= {f"AWS_{name}": value for name, value in settings.items()}
    objects.Patience = lambda: QUICK  # type: ignore[misc, assignment]
    began, equal = time.perf_counter(), True
    print_head(short=arguments.short)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        bench = Bench(moto, folder, short=arguments.short)
        directions, moments = ("push", "pull", "sample"), random.Random(0)
        works: list[Callable[[], Outcome]] = []
        if "faults" in parts:
            kinds = [(fault, way) for fault in bench.proxies.FAULTS for way in directions]
            works += [functools.partial(bench.under_fault, *kind) for kind in kinds if kind != ("wrong-upload", "pull")]
        if "kills" in parts:
            works += [functools.partial(bench.under_kills, way, moments) for way in directions]
        for work in works:
            outcome = work()
            equal = equal and outcome.equal
            print(outcome.line(), flush=True)
        for told in bench.line() if "line" in parts else ():
            print(f"\n- the whole line: {told}", flush=True)
        for told in () if arguments.rclone is None else try_rclone(arguments.rclone, bench.source, folder):
            print(f"\n- {told}", flush=True)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\n{time.perf_counter() - began:.0f} s, load average at the end {load}.")
    return int(not equal)


def print_head(*, short: bool) -> None:
    """Print the head of the page; the rows follow as they come."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    print("# Push, pull and sample while requests fail and processes are killed\n")
    print(
        f"`python benchmarks/storage.py{' --short' if short else ''}`, {now}, "
        f"obstore {obstore.__version__}, moto's S3 server on\nthis machine behind a proxy that breaks half of the "
        f"requests until {8 if short else 30} were. Pushed and pulled: {SCALE.num} images in 6 tars; sampled: 240 "
        "digits in 12\ntars. `commands`: how often the same command was typed until it succeeded.\n"
    )
    print("| fault | direction | requests broken, or kills | commands | what arrived | s |\n|---|---|---|---|---|---|")


if __name__ == "__main__":
    raise SystemExit(main())
