import argparse
import errno
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from caskit import cli
from caskit.manifests.errors import InputError, IntegrityError, NonReproducible, NotFinished, RunFailed

NAMES = [
    *(
        "data",
        "import",
        "fit",
        "convert",
        "refine",
        "derive",
        "check-generator",
        "sample",
        "telemetry",
        "reconstruct",
        "freeze",
        "repack",
    ),
    *(
        "sign",
        "push",
        "pull",
        "repair",
        "verify",
        "audit",
        "duplicates",
        "info",
        "view",
        "train",
        "score",
        "metrics",
        "check",
    ),
    "compare",
    *("report", "sweep", "nas", "cas"),
]


def command_parsers() -> dict[str, argparse.ArgumentParser]:
    parser = cli.build_parser()
    actions = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(actions[0].choices)


def run_raising(error: BaseException) -> int:
    def command(arguments: argparse.Namespace, context: Any) -> int:
        raise error

    return cli.run(argparse.Namespace(run=command, stage=None))


def test_the_names_of_the_commands_are_stable() -> None:
    assert list(command_parsers()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_command_shows_an_example_that_parses(name: str) -> None:
    text = command_parsers()[name].format_help()
    example = next(line.strip() for line in text.splitlines() if line.strip().startswith(f"caskit {name}"))
    arguments = cli.build_parser().parse_args(shlex.split(example)[1:])
    assert arguments.command == name
    assert "exit codes: 0 done, 1 failed, 2 bad input, 75 not finished" in text


@pytest.mark.parametrize("name", ["fit", "check-generator", "sample", "train", "score", "metrics"])
def test_commands_that_compute_take_a_device(name: str) -> None:
    assert "--device" in command_parsers()[name].format_help()


@pytest.mark.parametrize("name", ["fit", "check-generator", "sample", "train"])
def test_commands_with_a_config_take_settings(name: str) -> None:
    assert "--set" in command_parsers()[name].format_help()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["paint"], "invalid choice: 'paint'"),
        (["train", "--recipe", "digits", "--out", "x"], "the following arguments are required: --data"),
        (
            ["train", "--data", "x", "--recipe", "r", "--out", "x", "--seed", "-1"],
            "--seed: '-1' is not a whole number of at least 0",
        ),
        (
            ["train", "--data", "x", "--recipe", "digits", "--seed", "0", "--out", "x", "--hold", "-1"],
            "'-1' is not a number of",
        ),
        (["train", "--data", "x", "--recipe", "digits", "--seed", "0", "--out", "x", "--hold", "2GB"], "'2GB' is not"),
        (["sample", "--gen", "cvae", "--num", "many", "--out", "x"], "'many' is not a whole number of at least 1"),
        (["sample", "--gen", "cvae", "--nu", "5", "--out", "x"], "unrecognized arguments: --nu 5"),
        (["--stage", "3/2", "info", "x"], "'3/2' is not of the form I/N"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_exit_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("caskit: error: ")
    assert message in printed.err
    assert "--help" in printed.err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("num is 3\nfewer than 10"), 2, "caskit: error: num is 3 fewer than 10"),
        (IntegrityError("shard-000001.tar: cut"), 2, "caskit: error: shard-000001.tar: cut"),
        (RunFailed("2 shards failed"), 1, "caskit: error: 2 shards failed"),
        (NonReproducible("other bytes"), 1, "caskit: error: other bytes"),
        (NotFinished("stopped"), 75, "caskit: not finished: stopped; the same command goes on from here"),
        (KeyboardInterrupt(), 75, "caskit: not finished: interrupted; the same command goes on from here"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), 1, "caskit: error: a/b: No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), 2, "caskit: error: a/b: Permission denied"),
        (OSError(errno.EROFS, "Read-only file system", "a/b"), 2, "caskit: error: a/b: Read-only file system"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a"), 2, "caskit: error: a: No such file or"),
        (ModuleNotFoundError("x", name="timm.layers"), 2, "needs the package timm.layers: pip install 'caskit[train]'"),
    ],
)
def test_an_error_is_one_line_and_its_exit_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_raising(error) == code
    printed = capsys.readouterr().err
    assert line in printed
    assert printed.count("\n") == 1


def test_a_family_without_an_autoencoder_starts_from_none(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["fit", "--gen", "cvae:digits", "--data", "none", "--out", "none", "--from-autoencoder", "file.pt"]
    assert cli.main(command) == 2
    line = "caskit: error: --from-autoencoder: family cvae cannot start from one, vqvae2 can\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    "error", [AssertionError("ours"), ValueError("ours"), ModuleNotFoundError("x", name="numbers2")]
)
def test_our_own_mistakes_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        run_raising(error)


def test_the_exit_code_is_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    command: Callable[..., int] = lambda arguments, context: 1  # noqa: E731
    assert cli.run(argparse.Namespace(run=command, stage=None)) == 1


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("caskit 0.")
