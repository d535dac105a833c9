"""A Ray cluster of several nodes on this machine, for chaos.py to break: a head without processors, unequal raylets."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from breaking.drivers import MARK, kill_marked, marked

OBJECT_STORE_BYTES = 80 * 2**20
STARTED = "Ray runtime started"
ATTEMPTS = 6  # a raylet gives up when its agents, which are Python, take more than 15 s to start
# How long processes wait for a head that was lost; Ray's own default is 60 s.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",
    "RAY_enable_metrics_collection": "0",
    "OMP_NUM_THREADS": "1",
}


class Cluster:
    """A head and `num_nodes` raylets, of one and of two processors in turn.

    Args:
        folder: for logs.
        mark: of the processes.
        path: put on PYTHONPATH of the workers.
        environment: of all processes of the cluster, besides.
        num_nodes: raylets besides the head's.
    """

    def __init__(self, folder: Path, *, mark: str, path: Path, num_nodes: int = 2, **environment: str) -> None:
        self.folder, self.mark, self.num_nodes = folder, mark, num_nodes
        self._path, self._more = path, environment
        self._temporary: str | None = None
        self._head: subprocess.Popen | None = None
        self.nodes: list[subprocess.Popen] = []
        self._number = 0

    @property
    def address(self) -> str:
        """Return what `--ray-address` takes."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start the head and the nodes; what is left of a cluster before is ended."""
        self.close()
        folder = Path(__file__).parents[2] / "src"
        paths = [str(self._path), str(folder), os.environ.get("PYTHONPATH", "")]
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")},
            **ENVIRONMENT,
            **self._more,
            MARK: self.mark,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        for _ in range(ATTEMPTS):
            self._temporary = tempfile.mkdtemp(prefix="chr", dir="/tmp")  # a short path, for sockets
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self._port = free.getsockname()[1]
            head = ["--head", f"--port={self._port}", "--num-cpus=0", "--include-dashboard=false"]
            self._head = self._started([*head, f"--temp-dir={self._temporary}"])
            if self._head is not None:
                break
            kill_marked(self.mark)
            shutil.rmtree(self._temporary, ignore_errors=True)
        else:
            raise SystemExit(f"Ray's head did not start in {ATTEMPTS} attempts; see {self.folder}")
        self.mend()

    def mend(self) -> None:
        """Start nodes in the place of those that were lost."""
        self.nodes = [node for node in self.nodes if node.poll() is None]
        failed = 0
        while len(self.nodes) < self.num_nodes:
            node = self._started([f"--address={self.address}", f"--num-cpus={1 + self._number % 2}"])
            if node is not None:
                self.nodes.append(node)
                continue
            failed += 1
            if failed == ATTEMPTS:
                raise SystemExit(f"a raylet did not start in {ATTEMPTS} attempts; see {self.folder}")

    def actors(self) -> list[int]:
        """Return the process ids of the sampling workers."""
        return [pid for pid, (_, line) in marked(self.mark).items() if line.startswith("ray::ShardActor")]

    def kill_raylet(self) -> str:
        """Kill the raylet of the node that was started first, and say which that was."""
        node = self.nodes.pop(0)
        for pid, (parent, line) in marked(self.mark).items():
            if parent == node.pid and "/raylet/raylet" in line:
                os.kill(pid, signal.SIGKILL)
        if _waited(node, 30) is None:
            node.kill()
            node.wait()
        return f"node {node.pid}"

    def kill_head(self) -> None:
        """Kill the head's process group: its GCS, which knows all actors, and its raylet."""
        assert self._head is not None
        for pid, (parent, line) in marked(self.mark).items():
            if parent == self._head.pid and ("/gcs/gcs_server" in line or "/raylet/raylet" in line):
                os.kill(pid, signal.SIGKILL)

    def fill_objects(self, log: Path) -> int:
        """Fork a process that puts three times what it holds into the object store; return its id."""
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            os.environ.update({**ENVIRONMENT, MARK: self.mark})
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.dup2(file, 1)
            os.dup2(file, 2)
            import ray

            ray.init(address=self.address, log_to_driver=False)
            piece, held, deadline = bytes(8 * 2**20), [], time.monotonic() + 60
            while len(held) * len(piece) < 3 * OBJECT_STORE_BYTES and time.monotonic() < deadline:
                try:
                    held.append(ray.put(piece))
                except ray.exceptions.RayError as error:
                    print(error, flush=True)
                    time.sleep(0.5)
            print(f"{len(held) * len(piece) // 2**20} MB", flush=True)
            code = 0
        finally:
            os._exit(code)

    def close(self) -> None:
        """End all of it."""
        kill_marked(self.mark)
        for process in [*self.nodes, *([self._head] if self._head else [])]:
            process.wait()
        self.nodes, self._head = [], None
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def _started(self, options: list[str]) -> subprocess.Popen | None:
        self._number += 1
        log = self.folder / f"ray-{os.getpid()}-{self._number}.log"
        line = [str(Path(sys.executable).parent / "ray"), "start", *options, "--block", "--disable-usage-stats"]
        line.append(f"--object-store-memory={OBJECT_STORE_BYTES}")
        with log.open("wb") as file:
            process = subprocess.Popen(
                line, stdout=file, stderr=subprocess.STDOUT, env=self._environment, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if STARTED in log.read_text(errors="replace"):
                return process
            if process.poll() is not None:
                return None
            time.sleep(0.2)
        process.kill()
        process.wait()
        return None


def _waited(process: subprocess.Popen, timeout_s: float) -> int | None:
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return None
