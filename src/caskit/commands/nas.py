"""Score real images with synthetic ones beside them (NAS): one training per share of the synthetic set and seed.

What the paper calls the Naive Augmentation Score. `--fixed steps` trains all alike, so that more images are each seen
less often; `--fixed epochs` lengthens the trainings with the number of images. The same command again goes on where it
stopped.
"""

import argparse
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from caskit.commands.options import Context, add_device, add_out, add_settings, positive_integer
from caskit.console import facts_table, meter, print_box
from caskit.manifests.errors import InputError

CURVE_NAME = "nas.svg"
EXAMPLE = (
    "caskit nas --real-train runs/digits/real/train --synthetic runs/replica --real-test runs/digits/real/test "
    "--recipe digits --out runs/nas"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--real-train", required=True, metavar="SET", help="real images to train on")
    parser.add_argument("--synthetic", required=True, metavar="SET", help="set to put beside them")
    parser.add_argument("--real-test", required=True, metavar="SET", help="real images to test on")
    parser.add_argument("--recipe", required=True, metavar="R", help="how to train, such as fashion-mnist or digits")
    parser.add_argument(
        "--shares",
        type=share_list,
        default=(0.0, 0.25, 0.5, 1.0),
        metavar="X,X,...",
        help="of the synthetic set, 0 for the real images alone (default 0,0.25,0.5,1)",
    )
    parser.add_argument(
        "--fixed", choices=("steps", "epochs"), default="steps", help="what all trainings have alike (default steps)"
    )
    parser.add_argument(
        "--seeds", type=positive_integer, default=3, metavar="N", help="trainings per share, seeds 0 to N-1 (default 3)"
    )
    add_out(parser, "folder of classifiers, scores, table and plot")
    add_device(parser)
    add_settings(parser, "the recipe")


def share_list(text: str) -> tuple[float, ...]:
    """Parse numbers from 0 to 1 separated by commas."""
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form X,X,... with numbers from 0 to 1") from None
    if not all(0 <= share <= 1 for share in shares):
        raise argparse.ArgumentTypeError(f"{text!r} has a share that is not from 0 to 1")
    return shares


def result_table(result: dict[str, Any]) -> Table:
    """Lay out a row per share: mean over the seeds, their range, the gain."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("", "images", "steps", "top-1", "seeds from, to", "gain"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    for row in result["rows"]:
        top1, gain = row["top1"], row["gain_points"]
        table.add_row(
            Text("real" if row["share"] == 0 else f"real + {100 * row['share']:g} %"),
            f"{row['num']:,}",
            f"{row['num_steps']:,}",
            Text(f"{100 * top1['mean']:.2f} %", style="bold"),
            f"{100 * top1['min']:.2f} to {100 * top1['max']:.2f}",
            "" if gain is None or row["share"] == 0 else f"{gain['mean']:+.2f} points",
        )
    return table


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Train, score, write nas.json and nas.svg, and print the rows."""
    from caskit.commands.engine import engine_status
    from caskit.commands.sets import open_shown
    from caskit.commands.settings import apply_settings
    from caskit.evaluate.nas import NAS_NAME, naive_augmentation_score
    from caskit.evaluate.report.curve import augmentation_curve
    from caskit.train.device import pick_device
    from caskit.train.presets import get_recipe

    recipe = apply_settings(get_recipe(arguments.recipe), arguments.settings, fixed=("name", "version"))
    device, out = pick_device(arguments.device), Path(arguments.out)
    with meter() as show, context.stop.watched() as stop:
        real, synthetic, test = (
            open_shown(reference, show)
            for reference in (arguments.real_train, arguments.synthetic, arguments.real_test)
        )
        if real.kind != "real":
            raise InputError(f"{arguments.real_train}: is a {real.kind} set, --real-train is of real images")
        result = naive_augmentation_score(
            real,
            synthetic,
            test,
            recipe=recipe,
            out=out,
            shares=arguments.shares,
            fixed=arguments.fixed,
            seeds=range(arguments.seeds),
            device=device,
            progress=engine_status(show),
            stop=stop,
        )
    facts = {"numbers": str(out / NAS_NAME)}
    if len(arguments.shares) > 1:
        where = test.ingest.dataset if test.ingest is not None else test.kind
        (out / CURVE_NAME).write_text(augmentation_curve(result, title=f"NAS on {where}"), encoding="utf-8")
        facts["curve"] = str(out / CURVE_NAME)
    print_box("Naive Augmentation Score", [result_table(result), "", facts_table(facts)])
    return 0
