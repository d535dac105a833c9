"""Check that a generator keeps the promises that replicas stand on, and say what it costs.

Shapes and types; the seed alone decides an image; neither batch, global random states nor the process do; the label
does; settings survive pickling and JSON. Exit code 1 says which promise is broken and what to do about it.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from caskit.commands.options import Context, add_device, add_settings
from caskit.console import bytes_text, make_console, print_line
from caskit.manifests.plan import Numerics, Plan

if TYPE_CHECKING:
    from caskit.gen.contract import Contract

EXAMPLE = "caskit check-generator cvae:digits --classifier runs/digits/baseline-digits-seed0/classifier"
KEPT, BROKEN, NOT_CHECKED = "kept", "BROKEN", "not checked"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """Fields of the plan that `--set` reaches beside the family's own sampler settings."""

    microbatch_size: int
    numerics: Numerics = Numerics()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "generator", metavar="FAMILY[:PRESET]", help="generator; the preset may be left out where one alone is shipped"
    )
    parser.add_argument("--checkpoint", metavar="DIR", help="folder of a fit (default: what ships with the preset)")
    parser.add_argument(
        "--classifier", metavar="DIR", help="folder of `caskit train`, which then tells whether labels are respected"
    )
    add_device(parser)
    add_settings(parser, "the sampler's settings, microbatch_size or numerics.*")


def build_plan(arguments: argparse.Namespace, device: str) -> tuple[Plan, Path]:
    """Return a plan of the generator that is large enough to be checked, and the checkpoint's folder."""
    from caskit.commands.generators import shipped_generator
    from caskit.commands.settings import apply_to_all
    from caskit.gen.contract import CHECK_NUM
    from caskit.gen.family import family_path, load_family
    from caskit.gen.planning import find_checkpoint, make_plan

    folder = None if arguments.checkpoint is None else Path(arguments.checkpoint)
    family, preset = shipped_generator(arguments.generator, folder)
    checkpoint = find_checkpoint(family, preset, folder)
    module = load_family(family_path(family))
    defaults = (
        module.Settings(),
        CheckSettings(microbatch_size=module.MICROBATCH_SIZE, numerics=Numerics(device=device.partition(":")[0])),
    )
    sampler, chosen = apply_to_all(defaults, arguments.settings)
    plan = make_plan(
        checkpoint,
        num=CHECK_NUM * chosen.microbatch_size,
        sampler=dataclasses.asdict(sampler),
        numerics=chosen.numerics,
        microbatch_size=chosen.microbatch_size,
    )
    return plan, checkpoint.path


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
        memory = f"at most {bytes_text(cost.peak_bytes)} in a process of its own"
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
    plan, checkpoint = build_plan(arguments, device)
    contract = check_generator(
        plan,
        checkpoint=checkpoint,
        device=device,
        classifier=None if arguments.classifier is None else Path(arguments.classifier),
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
