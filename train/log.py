"""The log of a run: a line of JSON and a row of CSV per interval, and TensorBoard's files where they are asked for.

The JSON lines are what a resumed run goes on from; the table is made again from them whenever a run goes on.
"""

import csv
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caskit.train.folder import write_atomic

TENSORBOARD_FOLDER = "tensorboard"


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log in their order, without one that was being written when its run was killed."""
    lines: list[dict[str, Any]] = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
            int(line["step"])
        except (ValueError, KeyError, TypeError):
            break
        lines.append(line)
    return lines


def throughput(lines: list[dict[str, Any]]) -> dict[str, float]:
    """Return seconds, images per second and, where it was measured, the share of time spent waiting for data.

    Over all intervals of a log; what a killed run did in vain is in none of them.
    """
    seconds = sum(line["seconds"] for line in lines)
    found = {"seconds": round(seconds, 1)}
    for name, digits in (("images_per_s", 1), ("waiting", 4)):
        if lines and all(name in line for line in lines):
            total = sum(line[name] * line["seconds"] for line in lines)
            found[name] = round(total / max(seconds, 1e-9), digits)
    return found


def require_tensorboard() -> None:
    """Raise ModuleNotFoundError, which the command line explains, where TensorBoard is not installed."""
    importlib.import_module("tensorboard")


class RunLog:
    """A log that is written to, `<name>.jsonl` and `<name>.csv` in a run's folder.

    Args:
        out: the folder.
        name: of the run.
        step: updates that were done; the lines of later ones are dropped, they will be written again.
        tensorboard: also write event files below `tensorboard/<name>`.
    """

    def __init__(self, out: Path, name: str, *, step: int, tensorboard: bool = False) -> None:
        self._path, self._table = out / f"{name}.jsonl", out / f"{name}.csv"
        lines = [line for line in read_log(self._path) if line["step"] <= step]
        if self._path.exists():
            text = "".join(json.dumps(line) + "\n" for line in lines)
            write_atomic(self._path, lambda temporary: _write_text(temporary, text))
        self._columns: list[str] = []
        self._tabulate(lines)
        self._events: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            # TensorBoard then hides what an earlier session wrote of the steps that are done again.
            purge = {"purge_step": step + 1} if step else {}
            self._events = SummaryWriter(str(out / TENSORBOARD_FOLDER / name), **purge)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add what is known after `step` updates."""
        line = {"step": step, **numbers}
        with open(self._path, "a") as file:
            file.write(json.dumps(line) + "\n")
        if set(line) <= set(self._columns):
            with open(self._table, "a", newline="") as table:
                self._writer(table).writerow(line)
        else:
            self._tabulate(read_log(self._path))
        if self._events is not None:
            for key, value in numbers.items():
                self._events.add_scalar(key, value, step)
            self._events.flush()

    def _tabulate(self, lines: list[dict[str, Any]]) -> None:
        """Write the whole table; a column that a line does not have is empty there."""
        self._columns = list(dict.fromkeys(key for line in lines for key in line))

        def write(temporary: Path) -> None:
            with open(temporary, "w", newline="") as file:
                writer = self._writer(file)
                if self._columns:
                    writer.writeheader()
                writer.writerows(lines)

        write_atomic(self._table, write)

    def _writer(self, file: Any) -> "csv.DictWriter[str]":
        return csv.DictWriter(file, self._columns, lineterminator="\n")

    def close(self) -> None:
        """Close the event files."""
        if self._events is not None:
            self._events.close()


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)
