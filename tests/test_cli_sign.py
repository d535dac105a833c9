"""`caskit sign`, `verify --trusted-keys` and `info --trust`: what they print and exit with."""

import json
import os
import re
from pathlib import Path

import pytest

from caskit import cli


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of digits, signed by lab.pem; other.pem signed nothing."""
    folder = tmp_path_factory.mktemp("signed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        sample = ["sample", "--gen", "cvae:digits", "--num", "20", "--executor", "inline", "--out", "set"]
        assert cli.main(sample) == 0
        assert cli.main(["sign", "--new-key", "lab.pem"]) == 0
        assert cli.main(["sign", "--new-key", "other.pem"]) == 0
        assert cli.main(["sign", "set", "--key", "lab.pem"]) == 0
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def run(capsys: pytest.CaptureFixture[str], *command: str) -> tuple[int, str, str]:
    code = cli.main(list(command))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_signed_set_is_told_from_one_that_nobody_trusted_signed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "verify", "set", "--require-signature", "--trusted-keys", "lab.pem.pub")
    assert code == 0 and "signed by trusted key " in out
    code, out, err = run(capsys, "verify", "set", "--require-signature", "--trusted-keys", "other.pem.pub")
    assert code == 1 and not out
    assert err == "caskit: fault: set: no signature by a trusted key; 1 by other keys\n"
    code, out, _ = run(capsys, "verify", "set", "--trusted-keys", "other.pem.pub")
    assert code == 0 and "which is not trusted: not checked" in out
    code, out, _ = run(capsys, "verify", "set")
    assert code == 0 and "signatures: 1, not checked; --trusted-keys FILE says whose count" in out


def test_trust_says_what_is_proven_and_what_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "verify", "set")[0] == 0
    code, out, _ = run(capsys, "info", "set", "--trust", "--trusted-keys", "lab.pem.pub", "--json")
    states = {one["question"]: one["state"] for one in json.loads(out)["findings"]}
    assert code == 0 and states["who stands for it"] == "proven"
    assert states["every byte is the one that the replica_id stands for"] == "proven"
    assert states["the generator that its plan names drew it"] == "not checked"
    assert states["the licence"] == "cannot be shown"
    code, out, _ = run(capsys, "info", "set", "--trust", "--trusted-keys", "other.pem.pub")
    assert code == 0 and "signatures: 1, none by a trusted key" in out
    tar = Path("set/shards/shard-000000.tar")
    os.utime(tar)
    code, out, _ = run(capsys, "info", "set", "--trust")
    assert code == 0 and re.search(r"not checked +every byte .* caskit verify set", out)
    code, out, _ = run(capsys, "info", "set", "--trust")
    assert code == 0 and "signatures: 1; --trusted-keys FILE says whose count" in out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["sign", "set"], "one of the arguments --key --new-key is required"),
        (["sign", "set", "--new-key", "more.pem"], "--new-key makes a key and signs nothing"),
        (["sign", "--new-key", "lab.pem"], "lab.pem: is there already"),
        (["sign", "--key", "lab.pem"], "which set?"),
        (["sign", "set", "--key", "lab.pem.pub"], "lab.pem.pub: not a private key in PEM form"),
        (["sign", "set", "--key", "none.pem"], "none.pem"),
        (["sign", "set@sha256:00000000", "--key", "lab.pem"], "the reference asks for sha256:00000000"),
        (["verify", "set", "--require-signature"], "--require-signature needs --trusted-keys FILE"),
        (["verify", "set", "--trusted-keys", "lab.pem"], "block 1 is a PRIVATE KEY"),
        (["info", "set", "--trusted-keys", "lab.pem.pub"], "--trusted-keys goes with --trust"),
    ],
)
def test_mistakes_are_answered_in_one_line(
    capsys: pytest.CaptureFixture[str], command: list[str], message: str
) -> None:
    try:
        code = cli.main(command)
    except SystemExit as exit_:
        code = exit_.code  # type: ignore[assignment]
    err = capsys.readouterr().err
    assert code == 2 and message in err and err.count("\n") == 1
