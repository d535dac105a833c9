"""Ray actors as a pool of workers. Ray is imported when a pool is made.

Images never travel: an actor gets a shard number and answers with a few numbers. Without an address Ray is started for
this run alone, in a private folder, and ends with it; an ambient RAY_ADDRESS is not looked at.
"""

import contextlib
import logging
import os
import secrets
import signal
import tempfile
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from caskit.gen.schedule import Event, ShardFailure
from caskit.gen.worker import ShardResult, ShardWorker
from caskit.manifests.errors import InputError, NotFinished, RunFailed
from caskit.shards.scratch import scratch_folder

OBJECT_STORE_BYTES = 80 * 2**20  # about the least that Ray takes: nothing large ever goes through it
# A socket's path holds about 107 bytes and Ray's own part of it takes 60: a long TMPDIR would not do.
MAX_TEMPORARY_PATH = 24
START_ATTEMPTS = 3
_TOKEN_VARIABLE = "RAY_AUTH_TOKEN"
_TOKEN = secrets.token_hex(32)
_SILENT = {"log_to_driver": False, "logging_level": logging.ERROR}
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no report to anyone, no question about it
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # else Ray ships the working tree when `uv run` started us
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning about GPUs
    "RAY_DEDUP_LOGS": "0",
}


class ShardActor:
    """What runs on Ray: a worker that reports errors as values, so that they come back as they were raised."""

    def __init__(self, worker: ShardWorker[Any]) -> None:
        self._worker = worker

    def ready(self) -> None:
        """Answer when the process is up."""

    def make(self, shard: int) -> ShardResult | ShardFailure:
        """Make one shard."""
        try:
            return self._worker(shard)
        except Exception as error:  # reported, retried and listed by the schedule
            return ShardFailure(shard=shard, error=portable(error), traceback=traceback.format_exc())


def portable(error: Exception) -> Exception:
    """Return the error itself if another process can surely unpickle it, else a RunFailed that says the same."""
    if isinstance(error, (InputError, RunFailed, OSError)) and type(error).__module__.split(".")[0] in (
        "caskit",
        "builtins",
    ):
        return error
    return RunFailed(f"{type(error).__name__}: {error}")


def import_ray() -> Any:
    """Import Ray. Raises InputError with the pip command if it is not installed."""
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    try:
        import ray
    except ImportError as error:
        raise InputError(
            f"executor ray needs Ray, which cannot be imported ({error}): pip install 'caskit[gen]', "
            "or use --executor inline"
        ) from error
    return ray


class RayPool:
    """Actors in slots, each with one shard in flight."""

    def __init__(self, worker: ShardWorker[Any], *, num_slots: int, address: str | None) -> None:
        self.num_slots = num_slots
        self._ray = import_ray()
        if self._ray.is_initialized():
            raise InputError("Ray runs in this process already; shut it down first, or use executor inline")
        self._closing = contextlib.ExitStack()
        try:
            self._connect(worker, address)
        except BaseException:
            self._closing.close()
            raise
        numerics = worker.plan.numerics
        resources = {"num_cpus": numerics.threads, "num_gpus": 1 if numerics.device == "cuda" else 0}
        self._actor_class = self._ray.remote(max_restarts=0, max_task_retries=0, **resources)(ShardActor)
        self._worker = worker
        self._actors: dict[int, Any] = {}
        self._references: dict[Any, tuple[int, int | None]] = {}  # to (slot, shard)

    def _connect(self, worker: ShardWorker[Any], address: str | None) -> None:
        """Join a cluster, or start Ray here; Ray gives up after 30 seconds, which a busy machine may need."""
        choose_token(joining=address is not None)
        attempts = 1 if address else START_ATTEMPTS
        for attempt in range(1, attempts + 1):
            options = _join(address) if address else self._start_here(worker)
            self._closing.callback(self._ray.shutdown)  # before the folder of Ray goes; a second one does nothing
            try:
                with sigterm_kept():
                    self._ray.init(**options)
                return
            except SystemExit as stopped:  # Ray's own handler met a SIGTERM
                raise NotFinished("stopped on request before a shard was taken; the same command goes on") from stopped
            except Exception as error:  # Ray raises plain Exception too
                self._ray.shutdown()
                detail = " ".join(str(error).split())[:300]
                if address:
                    raise InputError(f"no Ray cluster at {address!r} can be joined: {detail}") from error
                if attempt == attempts:
                    raise RunFailed(f"Ray does not start here, tried {attempts} times: {detail}") from error

    def _start_here(self, worker: ShardWorker[Any]) -> dict[str, Any]:
        numerics = worker.plan.numerics
        return {
            "address": "local",
            "num_cpus": self.num_slots * numerics.threads,
            "num_gpus": self.num_slots if numerics.device == "cuda" else 0,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_temp_dir": str(self._closing.enter_context(scratch_folder(temporary_parent(), "caskit-"))),
            **_SILENT,
        }

    def start(self, slot: int) -> None:
        """See Pool."""
        if slot in self._actors:
            self._ray.kill(self._actors.pop(slot))
        actor = self._actors[slot] = self._actor_class.remote(self._worker)
        self._references[actor.ready.remote()] = (slot, None)

    def submit(self, slot: int, shard: int) -> None:
        """See Pool."""
        self._references[self._actors[slot].make.remote(shard)] = (slot, shard)

    def wait(self, timeout_s: float) -> list[Event]:
        """See Pool."""
        references = list(self._references)
        if not references:
            return []
        self._ray.wait(references, num_returns=1, timeout=timeout_s)
        done, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        events = []
        for reference in done:
            slot, shard = self._references.pop(reference)
            outcome: ShardResult | ShardFailure | None
            try:
                outcome = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                detail = " ".join(str(error).split())[:300]
                died = RunFailed(f"worker process ended ({type(error).__name__}: {detail})")
                outcome = ShardFailure(shard=shard, error=died, traceback="")
            events.append(Event(slot=slot, outcome=outcome))
        return events

    def close(self) -> None:
        """See Pool."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors.clear()
        self._closing.close()


def _join(address: str) -> dict[str, Any]:
    return {"address": address, **_SILENT}


def choose_token(*, joining: bool) -> None:
    """Give a Ray that is started here a token of this process, so that it writes none into the home folder.

    It guards the run's own Ray against other users of the machine. Ray looks the variable up again and again, so it
    stays set. What the user has set is left alone.
    """
    if joining:
        if os.environ.get(_TOKEN_VARIABLE) == _TOKEN:
            del os.environ[_TOKEN_VARIABLE]
    elif not any(name.startswith("RAY_AUTH_") for name in os.environ):
        os.environ[_TOKEN_VARIABLE] = _TOKEN


def temporary_parent() -> Path:
    """Return where Ray's folder goes: the user's choice if its path is short enough for sockets, else /tmp."""
    chosen = Path(tempfile.gettempdir())
    return chosen if len(os.fsencode(chosen)) <= MAX_TEMPORARY_PATH else Path("/tmp")


@contextlib.contextmanager
def sigterm_kept() -> Iterator[None]:
    """Give SIGTERM back to whom it belonged: `ray.init` takes it in the main thread, to exit at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
