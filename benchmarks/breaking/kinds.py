"""The kinds of faults of chaos.py. Each is done to a run that is under way, and undone where it is not final."""

import contextlib
import dataclasses
import os
import random
import resource
import shutil
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaos import Run

CLOCK_JUMPS_S = (-10 * 365 * 86400, -86400, -3600, -1, 1, 3600, 86400, 20 * 365 * 86400)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of fault.

    Attributes:
        do: does it, and undoes it if it can be undone; returns what the log should say about it.
        lanes: inline runs, runs on Ray, or both.
        share: how many of a hundred faults of a lane; the shares are weights.
        disk: it takes a disk of one's own.
    """

    do: Callable[["Run", random.Random], str]
    lanes: tuple[str, ...] = ("inline", "ray")
    share: int = 10
    disk: bool = False


def kill_driver(run: "Run", rng: random.Random) -> str:
    """Kill the driver; the same command is typed at once, while its workers may still be alive."""
    run.primary.kill()
    return "SIGKILL"


def stop_driver(run: "Run", rng: random.Random) -> str:
    """Stop the driver for a minute, half of the time with a second one that goes on meanwhile."""
    stopped = run.primary
    stopped.send(signal.SIGSTOP)
    second = rng.random() < 0.5
    if second:
        run.type()
    run.hold(run.stop_s)
    stopped.send(signal.SIGCONT)
    return f"SIGSTOP for {run.stop_s:.0f} s" + (", a second driver meanwhile" if second else "")


def second_driver(run: "Run", rng: random.Random) -> str:
    """Type the same command once more while it runs."""
    run.type()
    return "the same command a second time"


def _hold_then(undo: Callable[[], None], run: "Run", rng: random.Random) -> float:
    """Let the run go on for some seconds, then undo what was done to it; returns the seconds."""
    try:
        return run.hold(rng.uniform(0.5, 6) * run.scale)
    finally:
        undo()


def fill_disk(run: "Run", rng: random.Random) -> str:
    """Fill the disk for some seconds."""
    run.disk.fill()
    held = _hold_then(run.disk.free, run, rng)
    return f"ENOSPC on a tmpfs for {held:.1f} s"


def limit_files(run: "Run", rng: random.Random) -> str:
    """Let no file of the driver grow beyond some bytes for some seconds: a full disk that takes no root."""
    driver, size = run.primary, rng.choice((0, 700, 5000))
    held = 0.0
    with contextlib.suppress(ProcessLookupError):  # it ended just now
        _, hard = resource.prlimit(driver.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(driver.pid, resource.RLIMIT_FSIZE, (size, hard))
        held = run.hold(rng.uniform(0.5, 6) * run.scale)
        if driver.poll() is None:
            resource.prlimit(driver.pid, resource.RLIMIT_FSIZE, (hard, hard))
    return f"EFBIG beyond {size} bytes (RLIMIT_FSIZE) for {held:.1f} s"


def lock_folder(run: "Run", rng: random.Random) -> str:
    """Make the file system read-only for some seconds."""
    if not run.disk.lock():
        return ""
    held = _hold_then(run.disk.unlock, run, rng)
    return f"EROFS (remounted) for {held:.1f} s"


def jump_clock(run: "Run", rng: random.Random) -> str:
    """Make the clock of all of the run's drivers jump, forwards or backwards."""
    jump = rng.choice(CLOCK_JUMPS_S)
    run.clock.write_text(str(jump))
    run.hold(rng.uniform(0.2, 2))
    return f"{jump:+,} s for time.time and datetime.now of the driver"


def delete_scratch(run: "Run", rng: random.Random) -> str:
    """Delete the folders of scratch files and telemetry."""
    for name in ("tmp", "telemetry"):
        shutil.rmtree(run.out / "_work" / name, ignore_errors=True)
    return "_work/tmp and _work/telemetry deleted"


def delete_commits(run: "Run", rng: random.Random) -> str:
    """Delete half of the commits, or all of _work: tars without a commit are left, to be made again and adopted."""
    if rng.random() < 0.3:
        shutil.rmtree(run.out / "_work", ignore_errors=True)
        return "_work deleted"
    commits = sorted((run.out / "_work/commits").glob("*.parquet"))
    chosen = rng.sample(commits, len(commits) // 2)
    for path in chosen:
        path.unlink(missing_ok=True)
    return f"{len(chosen)} commits deleted"


def kill_actor(run: "Run", rng: random.Random) -> str:
    """Kill a Ray worker."""
    return _signal_actor(run, rng, signal.SIGKILL) and "SIGKILL"


def stop_actor(run: "Run", rng: random.Random) -> str:
    """Stop a Ray worker for a minute."""
    pid = _signal_actor(run, rng, signal.SIGSTOP)
    if not pid:
        return ""
    run.hold(run.stop_s)
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(pid), signal.SIGCONT)
    return f"SIGSTOP for {run.stop_s:.0f} s"


def kill_raylet(run: "Run", rng: random.Random) -> str:
    """Kill a raylet, and with it a node; another one joins some seconds later."""
    name = run.cluster.kill_raylet()
    run.hold(rng.uniform(0, 5))
    run.cluster.mend()
    return f"SIGKILL, {name}; another node joined"


def fill_objects(run: "Run", rng: random.Random) -> str:
    """Put more into Ray's object store than it holds, which spills to its disk, while the run goes on."""
    log = run.folder / f"objects-{run.commands}-{rng.randrange(10**6)}.log"
    child = run.cluster.fill_objects(log)
    for _ in range(600):
        run.hold(0.2)
        if os.waitpid(child, os.WNOHANG)[0]:
            break
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    lines = log.read_text(errors="replace").splitlines()
    return f"object store of 80 MB: {lines[-1][:80] if lines else 'no answer'} put"


def kill_head(run: "Run", rng: random.Random) -> str:
    """Kill the head and wait for the drivers to notice; the same command goes to a new cluster."""
    run.cluster.kill_head()
    held = run.hold(150, till_ended=True)
    run.cluster.start()
    return f"SIGKILL of GCS and raylet; a new cluster {held:.0f} s later"


def _signal_actor(run: "Run", rng: random.Random, number: int) -> str:
    for pid in rng.sample(actors := run.cluster.actors(), len(actors)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            return str(pid)
    return ""


KINDS = {
    "driver killed": Kind(do=kill_driver, share=18),
    "driver stopped": Kind(do=stop_driver, share=7),
    "two drivers": Kind(do=second_driver, share=10),
    "disk full": Kind(do=fill_disk, disk=True),
    "file size limit": Kind(do=limit_files, lanes=("inline",), share=6),
    "read-only folder": Kind(do=lock_folder, disk=True),
    "clock jump": Kind(do=jump_clock, lanes=("inline",)),
    "scratch deleted": Kind(do=delete_scratch),
    "commits deleted": Kind(do=delete_commits, share=8),
    "actor killed": Kind(do=kill_actor, lanes=("ray",), share=25),
    "actor stopped": Kind(do=stop_actor, lanes=("ray",), share=12),
    "raylet killed": Kind(do=kill_raylet, lanes=("ray",), share=14),
    "object store full": Kind(do=fill_objects, lanes=("ray",), share=6),
    "head killed": Kind(do=kill_head, lanes=("ray",), share=10),
}
