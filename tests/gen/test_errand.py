"""Errands: what needs torch is asked in another process, and comes back as if it had been asked here."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from caskit.cli import build_parser, main
from caskit.commands.sample import plan_run
from caskit.gen.checkpoint import Checkpoint
from caskit.gen.errand import run_errand, send
from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError, RunFailed
from caskit.shards.fault import BrokenSet

DRIVE = """
import sys
from caskit import cli
from caskit.gen import executors, sampling

def hand_out(worker, shards, *, num_workers, **options):
    print("handed out", list(shards), num_workers, worker.device)

sampling.run_ray = hand_out  # Ray's own imports are Ray's; everything before and after them is caskit's
code = cli.main(sys.argv[1:])
held = [name for name in ("torch", "torchvision", "timm", "pandas", "scipy", "sklearn") if name in sys.modules]
print("code", code, "held", held)
"""

DESCRIBE = """
import json, sys
from caskit import cli

codes = [cli.main(words) for words in json.loads(sys.argv[1])]
held = [name for name in ("torch", "torchvision", "timm", "ray", "scipy", "sklearn") if name in sys.modules]
print("codes", codes, "held", held)
"""


def test_an_errand_answers_from_another_process_with_the_same_path() -> None:
    assert send(os.getpid) != os.getpid()
    assert send(Codec.of, "png") == Codec.of("png")
    assert send(eval, "__import__('sys').path") == sys.path


def test_a_process_that_holds_torch_needs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", sys)
    assert run_errand(os.getpid) == os.getpid()
    monkeypatch.delitem(sys.modules, "torch")
    assert run_errand(os.getpid) != os.getpid()


def test_errors_come_back_as_they_were_raised(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="codec 'gif'"):
        send(Codec.of, "gif")
    with pytest.raises(FileNotFoundError) as missing:
        send(os.stat, tmp_path / "nothing")
    assert missing.value.filename == str(tmp_path / "nothing")
    with pytest.raises(ModuleNotFoundError) as module:
        send(__import__, "no_such_package")
    assert module.value.name == "no_such_package"
    with pytest.raises(ZeroDivisionError) as unexpected:
        send(divmod, 1, 0)
    assert "Traceback" in unexpected.value.__notes__[0]


def test_an_error_of_others_is_told_and_not_imported() -> None:
    with pytest.raises(RunFailed, match=r"^JSONDecodeError: Expecting value"):
        send(json.loads, "x")


def test_errors_that_are_more_than_a_message_come_back_too() -> None:
    faults = "[Fault(file='1.tar', message='is cut'), Fault(file='2.tar', message='is gone')]"
    with pytest.raises(BrokenSet, match=r"^a set: 1\.tar: is cut \(and 1 more\)$") as broken:
        send(exec, f"from caskit.shards.fault import *\nraise BrokenSet('a set', {faults})")
    assert [fault.file for fault in broken.value.faults] == ["1.tar", "2.tar"]
    with pytest.raises(InputError, match="^the Hub said no$") as refused:
        send(exec, "from caskit.shards.remote.hub import Refused\nraise Refused('the Hub said no', 403)")
    assert type(refused.value) is InputError


def test_a_process_that_ends_without_an_answer_is_reported() -> None:
    with pytest.raises(RunFailed, match="started for _exit and ended without an answer, exit code 3"):
        send(os._exit, 3)


def test_a_request_to_stop_is_left_to_the_caller() -> None:
    blocked = send(signal.pthread_sigmask, signal.SIG_BLOCK, [])
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1} <= blocked
    assert not {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1} & signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_the_driver_of_a_run_never_holds_torch_and_plans_the_same(tmp_path: Path) -> None:
    words = ["sample", "--gen", "cvae:digits", "--num", "20", "--samples-per-shard", "8", "--workers", "2"]
    words += ["--device", "cpu", "--no-freeze", "--out", str(tmp_path / "replica")]
    done = subprocess.run([sys.executable, "-c", DRIVE, *words], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[0] == "handed out [0, 1, 2] 2 cpu", done.stderr
    assert done.stdout.splitlines()[-1] == "code 0 held []"
    here = plan_run(build_parser().parse_args(words))
    assert (tmp_path / "replica" / "plan.json").read_bytes() == here.plan.to_bytes()


def test_who_ends_or_describes_a_run_never_holds_torch(pebble: Checkpoint, tmp_path: Path) -> None:
    replica = str(tmp_path / "replica")
    words = ["sample", "--gen", "pebble", "--checkpoint", str(pebble.path), "--num", "20", "--out", replica]
    assert main([*words, "--executor", "inline", "--no-freeze"]) == 0
    commands = [["freeze", replica], ["verify", replica], ["info", replica], ["telemetry", replica]]
    called = [sys.executable, "-c", DESCRIBE, json.dumps(commands)]
    done = subprocess.run(called, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "codes [0, 0, 0, 0] held []", done.stderr


def test_the_driver_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    words = ["sample", "--gen", "cvae:nope", "--num", "20", "--out", str(tmp_path / "replica")]
    done = subprocess.run([sys.executable, "-c", DRIVE, *words], capture_output=True, text=True, check=False)
    assert done.stderr.startswith("caskit: error: --gen cvae:nope: cvae has no preset 'nope', use one of ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == "code 2 held []\n"
