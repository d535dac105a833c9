"""A process that hands hostile sets and score folders to every command, under a limit of memory and of time.

`python hostile_readers.py HONEST WORK` prints a line of JSON per attack and command. A process of its own, one for all,
because its address space may grow by a gigabyte at most once everything is imported and has read something honest.
"""

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import caskit
from caskit import cli

sys.path.insert(0, str(Path(__file__).parent))
import hostile_scores  # type: ignore[import-not-found]
import hostile_sets  # type: ignore[import-not-found]
import hostile_tools  # type: ignore[import-not-found]

MAX_BYTES, MAX_SECONDS = 2**30, 60
TINY = ["--recipe", "digits", "--set", "num_steps=2", "--set", "widths=8,8"]
SOURCE = str(Path(caskit.__file__).resolve().parents[2])
DESCRIBE = ["git", "-C", SOURCE, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
opened: list[str] = []


def commands(honest: Path, victim: Path, out: Path) -> dict[str, list[str]]:
    """Return how each command is handed a hostile set: images to train on, or to test on."""
    known = json.loads((honest / "ids.json").read_bytes())
    return {
        "verify": ["verify", str(victim)],
        "deep": ["verify", str(victim), "--level", "deep"],
        "info": ["info", str(victim)],
        "trust": ["info", str(victim), "--trust"],
        "train": ["train", "--data", str(victim), "--out", str(out / "classifier"), *TINY],
        "score": ["score", "--classifier", str(honest / "classifier"), "--real", str(victim), "--out", str(out)],
        "check": ["check", str(honest / "score"), "--set", f"{known['test']}={victim}", "--level", "full"],
        "cas": [
            *("cas", "--synthetic", str(victim), "--real-test", str(honest / "test"), "--seeds", "1"),
            *("--baseline", str(honest / "real-score"), "--out", str(out / "cas"), *TINY),
        ],
    }


def score_commands(honest: Path, victim: Path, out: Path) -> dict[str, list[str]]:
    """Return how each command is handed a hostile score or classifier folder."""
    test = ["--real", str(honest / "test"), "--out", str(out / "score")]
    classifier = str(honest / "classifier")
    return {
        "check": ["check", str(victim)],
        "compare": ["compare", str(victim), str(honest / "score"), "--out", str(out)],
        "report": ["report", str(victim), "--out", str(out / "report.html")],
        "baseline": ["score", "--classifier", classifier, *test, "--baseline", str(victim)],
        "score": ["score", "--classifier", str(victim), *test],
    }


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Note every file that is opened outside, every connection and every program that is started.

    `caskit train` records the commit of its own source: that one call of git, whose every word is ours, may start.
    """
    if event == "subprocess.Popen" and list(arguments) == ["git", DESCRIBE, None, None]:
        return
    if event == "open" and isinstance(arguments[0], str | os.PathLike) and "/outside" in str(arguments[0]):
        opened.append(str(arguments[0]))
    elif event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "pickle.find_class"):
        opened.append(f"{event} {arguments}"[:200])


def run(command: list[str]) -> dict[str, Any]:
    """Run one command in this process."""
    output, started = io.StringIO(), time.monotonic()
    opened.clear()
    signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)  # of processor time
    signal.alarm(10 * MAX_SECONDS)  # waiting costs none
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            code = cli.main(command)
    except SystemExit as error:
        code = -1 if error.code is None else int(error.code)
    except BaseException:  # whatever it is, the attack found something
        code = -1
        output.write(traceback.format_exc())
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    return {"code": code, "output": output.getvalue(), "seconds": time.monotonic() - started, "opened": list(opened)}


def address_space() -> int:
    """Return the bytes of this process's address space."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def limit() -> None:
    """Let the address space grow by MAX_BYTES from here on."""
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + MAX_BYTES,) * 2)


def files(folder: Path) -> list[str]:
    """Return everything below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def cases(honest: Path, work: Path, what: str) -> Iterator[dict[str, Any]]:
    """Run every attack against every command; yields what came of it."""
    attacks = hostile_sets.SET_ATTACKS if what == "sets" else hostile_scores.SCORE_ATTACKS
    for number, attack in enumerate(attacks):
        base = work / str(number)
        outside = base / "outside"
        outside.mkdir(parents=True)
        (outside / "secret").write_text(hostile_tools.SECRET)
        source = {
            "sets": {"score": "test", "check": "test"},
            "scores": {"score": "classifier", "baseline": "real-score"},
        }[what]
        victims = {}
        for kind in sorted({"train" if what == "sets" else "score", *source.values()}):
            shutil.copytree(honest / kind, base / kind)
            if what == "scores" and (kind == "classifier") != (attack.refused_by == ("score",)):
                continue  # an attack on a score leaves classifiers alone, and the other way round
            attack.damage(base / kind, outside)
            victims[kind] = base / kind
        before = files(outside)
        make = commands if what == "sets" else score_commands
        for name in make(honest, base, base):
            kind = source.get(name, "train" if what == "sets" else "score")
            if kind not in victims:
                continue
            out = base / "out" / name
            out.mkdir(parents=True)
            listed = files(victims[kind])
            found = run(make(honest, victims[kind], out)[name])
            strays = sorted(set(files(outside)) - set(before)) + sorted(set(files(victims[kind])) - set(listed))
            yield {"attack": attack.name, "command": name, "strays": strays, **found}
        shutil.rmtree(base)


def main() -> None:
    """Read something honest with every command, then go through the attacks."""
    honest, work = Path(sys.argv[1]), Path(sys.argv[2])
    work.mkdir(exist_ok=True)
    for name, command in commands(honest, honest / "train", work / "warm").items():
        done = run(
            [*command[:1], *(w.replace("/train", "/test") if name in ("score", "check") else w for w in command[1:])]
        )
        assert done["code"] == 0, (name, done)
    for name, command in score_commands(honest, honest / "score", work / "warm-scores").items():
        if name != "score":
            done = run(command)
            assert done["code"] in (0, 2), (name, done)
    sys.addaudithook(watch)
    limit()
    for what in ("sets", "scores"):
        for case in cases(honest, work / what, what):
            print(json.dumps(case), flush=True)


if __name__ == "__main__":
    main()
