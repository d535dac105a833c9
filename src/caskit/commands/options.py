"""Flags that several commands share, and what every command is handed."""

import argparse
import dataclasses
import re

from caskit.signals import StopRequest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """What the command line hands to a command besides its flags.

    Attributes:
        stop: asks a stage to stop at its next safe place.
        stage: (i, n) when this command is one of several, else None.
    """

    stop: StopRequest
    stage: tuple[int, int] | None = None


def stage_number(text: str) -> tuple[int, int]:
    """Parse `I/N` with 1 <= I <= N."""
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form I/N with 1 <= I <= N")
    return int(match[1]), int(match[2])


def positive_integer(text: str) -> int:
    """Parse a whole number of at least 1."""
    if re.fullmatch(r"[0-9]{1,15}", text) is None or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


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
