"""Processes under watch: their memory as they run, their time, and kill -9 of all that a command has started.

Used by million.py and growth.py. Everything is read from /proc, so Linux alone. A command's processes are found by a
variable of their environment, which Ray's daemons and workers inherit, so that those of a killed driver are found too.
"""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

MARK = "CASKIT_WATCHED"
POLL_S = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """What a process holds now and held at most, and what of it no file backs, in bytes (VmRSS, VmHWM, RssAnon)."""

    now: int
    peak: int
    own: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """A command's processes at one moment: the driver itself, its Ray actors, and what all others hold together."""

    driver: Memory | None
    workers: Mapping[int, Memory]
    others: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended: its exit code (below 0 by a signal), seconds, and what it took.

    `processor_s` and `peak` are the driver's own, as the kernel gives them when it is waited for.
    """

    code: int
    wall_s: float
    processor_s: float
    peak: int
    load: float


def memory_of(process: int) -> Memory | None:
    """Return a process's memory; None if it ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    found = {
        name: int(rest.split()[0]) * 1024
        for name, _, rest in (line.partition(":") for line in lines)
        if rest[-2:] == "kB"
    }
    if "VmHWM" not in found:
        return None
    return Memory(now=found["VmRSS"], peak=found["VmHWM"], own=found["RssAnon"])


def marked(mark: str) -> list[int]:
    """Return the processes that were started with a mark, and those that these started."""
    entry, found = f"{MARK}={mark}".encode(), []
    for folder in Path("/proc").iterdir():
        try:
            environment = (folder / "environ").read_bytes() if folder.name.isdigit() else b""
        except OSError:  # it ended, or is another user's
            continue
        if entry in environment.split(b"\0"):
            found.append(int(folder.name))
    return found


def look(mark: str, driver: int) -> Family:
    """Read the memory of a command's processes."""
    workers, others = {}, 0
    for process in marked(mark):
        memory = memory_of(process)
        if memory is None or process == driver:
            continue
        try:
            line = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            continue
        if line.startswith(b"ray::ShardActor"):
            workers[process] = memory
        else:
            others += memory.now
    return Family(driver=memory_of(driver), workers=workers, others=others)


def kill_all(mark: str) -> int:
    """Kill -9 every process with a mark until none is left; returns how many there were."""
    killed = set[int]()
    while alive := marked(mark):
        for process in alive:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
            killed.add(process)
        time.sleep(0.05)
    return len(killed)


def watch(
    command: Sequence[str],
    *,
    mark: str,
    log: Path,
    seen: Callable[[Family], bool] | None = None,
    variables: Mapping[str, str] | None = None,
) -> Ended:
    """Run `caskit` with these words to its end.

    Args:
        command: words after `caskit`.
        mark: of its processes; none with it may be alive.
        log: where its output goes, appended.
        seen: called every POLL_S with what the processes hold; True kills them all.
        variables: for the environment, besides our own.
    """
    began = time.monotonic()
    environment = {**os.environ, **(variables or {}), MARK: mark}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "caskit", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG if seen is not None else 0)
            if ended:
                break
            if seen is not None and seen(look(mark, process.pid)):
                kill_all(mark)
                _, status, usage = os.wait4(process.pid, 0)
                break
            time.sleep(POLL_S)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Ended(
        code=process.returncode,
        wall_s=time.monotonic() - began,
        processor_s=usage.ru_utime + usage.ru_stime,
        peak=usage.ru_maxrss * 1024,
        load=os.getloadavg()[0],
    )
