"""Flags that several commands share, and what every command is handed."""

import argparse
import dataclasses
import re

from caskit.console import duration_text
from caskit.signals import StopRequest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """The place of a command in a run of several: `number` of `count`, and about how long it takes, if known."""

    number: int
    count: int
    estimate_s: float | None = None

    def __str__(self) -> str:
        about = "" if self.estimate_s is None else f", about {duration_text(self.estimate_s)}"
        return f"stage {self.number} of {self.count}{about}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """What the command line hands to a command besides its flags.

    Attributes:
        stop: asks a stage to stop at its next safe place.
        stage: where this command stands when it is one of several, else None.
    """

    stop: StopRequest
    stage: Stage | None = None


def parse_stage(text: str) -> Stage:
    """Parse `I/N` with 1 <= I <= N, or `I/N:SECONDS`."""
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})(:([0-9]{1,9}))?", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form I/N[:SECONDS] with 1 <= I <= N")
    return Stage(number=int(match[1]), count=int(match[2]), estimate_s=float(match[4]) if match[4] else None)


def positive_integer(text: str) -> int:
    """Parse a whole number of at least 1."""
    if re.fullmatch(r"[0-9]{1,15}", text) is None or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def gibibytes(text: str) -> float:
    """Parse an amount of memory in GiB, 0 to a million."""
    if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of GiB, such as 0, 0.5 or 16")
    return float(text)


def seed_number(text: str) -> int:
    """Parse a whole number of at least 0."""
    if re.fullmatch(r"[0-9]{1,16}", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def add_out(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Add `--out`."""
    parser.add_argument("--out", required=True, metavar="DIR", help=help_text)


def add_seed(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Add `--seed`."""
    parser.add_argument("--seed", type=seed_number, default=0, metavar="S", help=f"{help_text} (default 0)")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device`."""
    parser.add_argument(
        "--device", default="auto", metavar="auto|cpu|cuda[:i]", help="where to compute (default auto: cuda if present)"
    )


def add_allow_code(parser: argparse.ArgumentParser) -> None:
    """Add `--allow-code`."""
    parser.add_argument(
        "--allow-code",
        action="store_true",
        help="run a generator that is not caskit's own: a function (callable:...) or an installed package's family",
    )


def add_settings(parser: argparse.ArgumentParser, config: str) -> None:
    """Add `--set`, which may be given often; `config` says what it sets fields of."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help=f"set one field of {config}; may be repeated; an unknown field is answered with the list of them",
    )
