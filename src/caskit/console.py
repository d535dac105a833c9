"""What a person sees: a live bar or plain lines, the stage that runs, and the box at the end.

Progress goes to stderr and results to stdout, so that `caskit info --json | jq` sees the result alone.
"""

import contextlib
import dataclasses
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

PLAIN_EVERY_S = 10.0  # between two progress lines when the output is no terminal
LIVE_EVERY_S = 0.1
PLAIN_WIDTH = 120  # of a log file, where rich would assume 80 columns and fold paths


def duration_text(seconds: float) -> str:
    """Spell a duration for people: `42 s`, `3 min 20 s`, `1 h 02 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def bytes_text(num_bytes: float) -> str:
    """Spell a size in decimal units: `512 B`, `12.3 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def make_console(*, stderr: bool) -> Console:
    """Open one of the two streams; a stream that is no terminal gets lines long enough for paths."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else PLAIN_WIDTH, highlight=False, soft_wrap=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Status:
    """How far a stage is.

    Attributes:
        title: what is being done; another one than before begins a new bar.
        done, total: in `unit`.
        unit: what is counted: `img`, `steps`.
        rate: images per second; None lets the meter measure `done`, if that counts images.
        details: further figures by name, shown as they are (`shards`: `12/60`).
    """

    title: str
    done: int
    total: int
    unit: str
    rate: float | None = None
    details: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Meter:
    """Shows statuses: a live bar on a terminal, else a line now and then.

    The rate and the time left count from a title's first status: what an earlier run did speeds up nothing.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._first: tuple[int, float] = (0, 0.0)  # done and time of the title's first status
        self._last: Status | None = None
        self._shown: Status | None = None
        self._shown_at = 0.0
        self._task: TaskID | None = None
        self._live = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}", markup=False),
            console=console,
            expand=True,
            auto_refresh=False,  # no thread of its own: stages fork
        )

    def __enter__(self) -> "Meter":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._finish_title()
        if self._console.is_terminal:
            self._live.stop()

    def __call__(self, status: Status) -> None:
        """Take the newest status; it is shown if it is the first of its title or the last one shown is old."""
        now = self._clock()
        new_title = self._last is None or self._last.title != status.title
        if new_title:
            self._finish_title()
            self._first = (status.done, now)
            self._task = None
        self._last = status
        if new_title or now - self._shown_at >= (LIVE_EVERY_S if self._console.is_terminal else PLAIN_EVERY_S):
            self._show(status, now)

    def _finish_title(self) -> None:
        if self._last is not None and self._last is not self._shown:
            self._show(self._last, self._clock())

    def _text(self, status: Status, now: float) -> str:
        first_done, first_at = self._first
        elapsed_s = now - first_at
        speed = (status.done - first_done) / elapsed_s if elapsed_s > 0 else 0.0
        rate = speed if status.rate is None and status.unit == "img" else status.rate
        parts = [f"{status.done:,}/{status.total:,} {status.unit}"]
        if rate:
            parts.append(f"{rate:,.0f} img/s")
        if status.done >= status.total:
            parts.append(f"took {duration_text(elapsed_s)}")
        elif speed > 0:
            parts.append(f"{duration_text((status.total - status.done) / speed)} left")
        parts += [f"{name} {value}" for name, value in status.details.items()]
        return " · ".join(parts)

    def _show(self, status: Status, now: float) -> None:
        self._shown, self._shown_at = status, now
        text = self._text(status, now)
        if not self._console.is_terminal:
            print_raw(self._console, f"{status.title}: {text}")
            return
        if self._task is None:
            self._task = self._live.add_task(status.title, total=max(1, status.total), text=text)
        self._live.update(self._task, completed=status.done, total=max(1, status.total), text=text, refresh=True)


@contextlib.contextmanager
def meter(*, quiet: bool = False) -> Iterator[Meter]:
    """Show progress on stderr, unless another process of the same run does."""
    console = make_console(stderr=True)
    console.quiet = quiet
    with Meter(console) as shown:
        yield shown


def plain_text(text: str) -> str:
    """Return text with all that a terminal would obey instead of showing it spelled out: names may be anybody's."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def print_raw(console: Console, text: str) -> None:
    """Print text as it is: long paths are neither folded nor coloured."""
    console.print(plain_text(text), markup=False, overflow="ignore", no_wrap=True, crop=False)


def program() -> str:
    """Return how this shell calls caskit: by name where it is on the PATH, else by the path it was called by."""
    called = Path(sys.argv[0])
    return "caskit" if shutil.which("caskit") is not None or called.name != "caskit" else str(called)


def print_stage(stage: object, command: str) -> None:
    """Say on stderr which stage of a run begins and by which command, for a person to repeat it."""
    console = make_console(stderr=True)
    console.print(Text.assemble("\n", (str(stage), "bold cyan")))
    console.print(Text(command, style="dim"), soft_wrap=True)


def print_line(text: str) -> None:
    """Print one line of a result on stdout."""
    print_raw(make_console(stderr=False), text)


def print_box(title: str, body: Sequence[RenderableType]) -> None:
    """Print the small box that closes a run."""
    console = make_console(stderr=False)
    console.print(Panel(Group(*body), title=title, title_align="left", expand=False, padding=(0, 1)))


def facts_table(facts: Mapping[str, str]) -> Table:
    """Lay out names and values in two columns."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, Text(plain_text(value)))
    return table
