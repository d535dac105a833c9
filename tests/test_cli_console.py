import io

import pytest
from rich.console import Console

from caskit.commands.options import parse_stage
from caskit.console import Meter, Status, bytes_text, duration_text, facts_table, print_box, print_line, print_stage


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def show(statuses: list[tuple[float, Status]], *, terminal: bool) -> str:
    clock, out = Clock(), io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=80, color_system=None, legacy_windows=False)
    with Meter(console, clock=clock) as meter:
        for seconds, status in statuses:
            clock.now = 100.0 + seconds
            meter(status)
    return out.getvalue()


def images(done: int, **details: str) -> Status:
    return Status(title="sample", done=done, total=1000, unit="img", details=details)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (3720, "1 h 02 min"), (-1, "0 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_345_678, "12.3 MB"), (2e12, "2.0 TB")]
)
def test_sizes(num_bytes: float, text: str) -> None:
    assert bytes_text(num_bytes) == text


def test_without_a_terminal_there_is_a_line_now_and_then() -> None:
    statuses = [(float(second), images(second * 20, shards=f"{second}/50")) for second in range(26)]
    lines = show(statuses, terminal=False).splitlines()
    assert lines == [
        "sample: 0/1,000 img · shards 0/50",
        "sample: 200/1,000 img · 20 img/s · 40 s left · shards 10/50",
        "sample: 400/1,000 img · 20 img/s · 30 s left · shards 20/50",
        "sample: 500/1,000 img · 20 img/s · 25 s left · shards 25/50",
    ]


def test_what_an_earlier_run_did_is_not_counted_as_speed() -> None:
    lines = show([(0.0, images(900)), (10.0, images(950))], terminal=False).splitlines()
    assert lines[-1] == "sample: 950/1,000 img · 5 img/s · 10 s left"


def test_a_finished_title_says_how_long_it_took_and_another_begins() -> None:
    other = Status(title="density", done=5, total=40, unit="steps", rate=1234.0, details={"loss": "0.5"})
    lines = show([(0.0, images(0)), (4.0, images(1000)), (5.0, other)], terminal=False).splitlines()
    assert lines[1] == "sample: 1,000/1,000 img · 200 img/s · took 5 s"
    assert lines[2] == "density: 5/40 steps · 1,234 img/s · loss 0.5"


def test_a_long_line_is_not_folded_without_a_terminal() -> None:
    status = images(0, retried="0", path="x" * 200)
    assert show([(0.0, status)], terminal=False).splitlines()[0].endswith("x" * 200)


def test_a_terminal_gets_one_live_line() -> None:
    text = show([(0.0, images(0)), (1.0, images(500, shards="1/2", retried="0"))], terminal=True)
    assert "500/1,000 img · 500 img/s · 1 s left · shards 1/2 · retried 0" in text
    assert "\x1b[" in text


def test_markup_in_names_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_line("runs/[bold]/a")
    assert capsys.readouterr().out == "runs/[bold]/a\n"


def test_the_stage_is_numbered_and_estimated_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    command = f"caskit train --data [x] --out {'x' * 200}"
    print_stage(parse_stage("3/8:200"), command)
    print_stage(parse_stage("4/8"), command)
    printed = capsys.readouterr()
    assert printed.err == f"\nstage 3 of 8, about 3 min 20 s\n{command}\n\nstage 4 of 8\n{command}\n"
    assert printed.out == ""


def test_the_box_holds_facts_with_whole_paths(capsys: pytest.CaptureFixture[str]) -> None:
    path = "runs/fashion-mnist/cvae-seed0/report.html"
    print_box("caskit", [facts_table({"report": path, "next": "caskit info [x]"})])
    printed = capsys.readouterr().out
    assert path in printed
    assert "caskit info [x]" in printed
    assert len(printed.splitlines()) == 4
