"""Check that a generator keeps the promises that replicas stand on, and say what it costs.

Shapes and types; the seed alone decides an image; neither batch, global random states nor the process do; the label
does; settings survive pickling and JSON. Exit code 1 says which promise is broken and what to do about it.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from caskit.commands.options import Context, add_allow_code, add_device, add_settings
from caskit.commands.sets import open_shown
from caskit.console import Meter, bytes_text, make_console, meter, print_line
from caskit.manifests.plan import Plan

if TYPE_CHECKING:
    from caskit.gen.contract import Contract

EXAMPLE = "caskit check-generator cvae:digits --classifier runs/digits/baseline-digits-seed0/classifier"
KEPT, BROKEN, NOT_CHECKED = "kept", "BROKEN", "not checked"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "generator",
        metavar="FAMILY[:PRESET]",
        help="generator, or callable:MODULE:FUNCTION; the preset may be left out where one alone ships",
    )
    parser.add_argument("--checkpoint", metavar="DIR", help="folder of a fit (default: what ships with the preset)")
    parser.add_argument(
        "--classifier", metavar="DIR", help="folder of `caskit train`, which then tells whether labels are respected"
    )
    parser.add_argument(
        "--classes", metavar="SET", help="of a function: real set whose classes and image size it draws"
    )
    add_allow_code(parser)
    add_device(parser)
    add_settings(parser, "the sampler's settings, microbatch_size or numerics.*")


def build_plan(arguments: argparse.Namespace, device: str, show: Meter) -> tuple[Plan, Path | None]:
    """Return a plan of the generator that is large enough to be checked, and the checkpoint's folder."""
    from caskit.commands.generators import choose, shipped_generator
    from caskit.gen.contract import CHECK_NUM
    from caskit.gen.planning import make_plan

    allow = arguments.allow_code
    folder = None if arguments.checkpoint is None else Path(arguments.checkpoint)
    family, preset = shipped_generator(arguments.generator, folder, allow_code=allow)
    data = None if arguments.classes is None else open_shown(arguments.classes, show)
    chosen = choose(family, preset, arguments=arguments, data=data, settings=arguments.settings, device=device)
    plan = make_plan(
        chosen.checkpoint,
        num=max(CHECK_NUM * chosen.settings.microbatch_size, len(chosen.checkpoint.classes)),
        sampler=chosen.sampler,
        numerics=chosen.settings.numerics,
        microbatch_size=chosen.settings.microbatch_size,
        max_attempts=chosen.settings.max_attempts,
        allow_code=allow,
    )
    return plan, chosen.folder


def contract_table(contract: "Contract") -> Table:
    """Lay out the promises, a line each, and the cost below them."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in contract.checks:
        status = BROKEN if check.problems else KEPT if check.checked else NOT_CHECKED
        style = {KEPT: "green", BROKEN: "bold red", NOT_CHECKED: "dim"}[status]
        table.add_row(check.name, Text(status, style=style), Text("; ".join(check.problems) or check.note))
    if contract.cost is not None:
        cost = contract.cost
        memory = "at most, in a process of its own with Python and torch"
        if cost.device_bytes is not None:
            memory += f", {bytes_text(cost.device_bytes)} on the device"
        table.add_row("load", f"{cost.load_s:.1f} s", "")
        table.add_row("speed", f"{cost.images_per_s:,.0f} img/s", "of one worker, drawing and encoding")
        table.add_row("memory", bytes_text(cost.peak_bytes), memory)
    return table


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Check, print a table and the verdict."""
    from caskit.commands.sample import device_name
    from caskit.gen.contract import check_generator

    device = device_name(arguments.device)
    with meter() as show:
        plan, checkpoint = build_plan(arguments, device, show)
    contract = check_generator(
        plan,
        checkpoint=checkpoint,
        device=device,
        classifier=None if arguments.classifier is None else Path(arguments.classifier),
        allow_code=arguments.allow_code,
    )
    image = f"{plan.height}x{plan.width} with {plan.channels} channels"
    print_line(f"{plan.family}:{plan.preset}  {len(plan.classes)} classes, {image}, batches of {plan.microbatch_size}")
    make_console(stderr=False).print(contract_table(contract))
    if contract.passed:
        print_line("PASS: replicas of this generator can be made again and audited")
        return 0
    for check in contract.checks:
        for problem in check.problems:
            print(f"caskit: broken promise: {check.name}: {problem}", file=sys.stderr)
    print_line(f"FAIL: {len(contract.problems)} broken promises")
    return 1
