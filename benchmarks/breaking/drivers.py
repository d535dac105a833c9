"""Drivers that chaos.py breaks: `caskit` command lines in forked processes, and how to find the processes it began."""

import contextlib
import datetime
import os
import signal
import sys
import time
import traceback
import types
from pathlib import Path

MARK = "CASKIT_CHAOS"  # in the environment of all processes of a cluster that was begun here: no other one is killed


class Driver:
    """A command line in a process of its own, forked from one that has imported torch, since that takes the longest.

    Args:
        line: the words after `caskit`.
        log: file for both outputs.
        clock: file with the seconds by which the process's clock is wrong; read again and again.
        environment: to add.
    """

    def __init__(self, line: list[str], log: Path, *, clock: Path | None = None, **environment: str) -> None:
        self.line, self.log = line, log
        self.code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            self._be(clock, environment)

    def _be(self, clock: Path | None, environment: dict[str, str]) -> None:
        code = 1
        try:
            file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.dup2(file, 1)
            os.dup2(file, 2)
            os.environ.update(environment)
            if clock is not None:
                shift_clock(clock)
            from caskit.cli import main

            code = main(self.line)
            sys.stdout.flush()
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else 1
        except BaseException:
            with contextlib.suppress(OSError):
                traceback.print_exc()
        finally:
            # The log may be beyond a limit or on a full disk. Whatever happens, this copy of chaos.py must not go on:
            # it would clean up what its parent still uses.
            with contextlib.suppress(BaseException):
                sys.stderr.flush()
            os._exit(code)

    def poll(self) -> int | None:
        """Return how the process ended: its exit code, or minus the signal's number; None while it lives."""
        if self.code is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if done else None
        return self.code

    def send(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout_s: float) -> int | None:
        """Wait for the end."""
        deadline = time.monotonic() + timeout_s
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.code

    def said(self) -> str:
        """Return the last line that it printed, and whether it died with a traceback."""
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines() or [""]
        except OSError:
            return ""
        trace = "TRACEBACK " if any(line.startswith("Traceback (most recent") for line in lines) else ""
        return f"{trace}{lines[-1][-240:]}"

    def kill(self) -> None:
        """Kill and reap."""
        self.send(signal.SIGKILL)
        self.wait(60)


def shift_clock(file: Path) -> None:
    """Make `time.time` of this process, and `datetime.now` as caskit's modules see it, wrong by what the file says.

    The class itself stays, since extension modules look at its size. Modules have to be imported before.
    """
    real, real_ns = time.time, time.time_ns

    def offset() -> float:
        try:
            return float(file.read_text() or 0)
        except (OSError, ValueError):  # not there yet, or just being written
            return 0.0

    class Shifted(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime.fromtimestamp(real() + offset(), tz)

    time.time = lambda: real() + offset()
    time.time_ns = lambda: real_ns() + int(offset() * 1e9)
    seen = types.SimpleNamespace(**{**vars(datetime), "datetime": Shifted})
    for name, module in list(sys.modules.items()):
        if name.startswith("caskit.") and getattr(module, "datetime", None) is datetime:
            module.datetime = seen  # type: ignore[attr-defined]


def marked(mark: str) -> dict[int, tuple[int, str]]:
    """Return (parent, command line) of the living processes whose environment has the mark, by process id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if f"{MARK}={mark}".encode() not in (entry / "environ").read_bytes().split(b"\0"):
                continue
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):  # it ended in the meantime
            continue
        if line:  # a zombie has none
            found[int(entry.name)] = (parent, line)
    return found


def kill_marked(mark: str, *, but: tuple[int, ...] = ()) -> None:
    """Kill all processes that have the mark, until there is none."""
    for _ in range(50):
        alive = [pid for pid in marked(mark) if pid != os.getpid() and pid not in but]
        if not alive:
            return
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.1)
