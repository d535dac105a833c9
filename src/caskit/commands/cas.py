"""Score a synthetic set by CAS: train on it alone, once per seed, test on real images, and write the report.

With --real-train the Real rows are trained beside it. A SET is a caskit set, or what `caskit import` reads: a folder of
class folders, an .npz with labels, Hugging Face Parquet files, WebDataset tars; it is imported on the way, once for
equal content. The class list is that of the real test images unless --classes names another. The same command again
goes on where it stopped.
"""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from caskit.commands.options import Context, add_device, add_out, add_settings, positive_integer
from caskit.console import duration_text, facts_table, meter, print_box, print_line
from caskit.manifests.errors import InputError

if TYPE_CHECKING:
    import torch

    from caskit.evaluate.trainings import Training
    from caskit.train.recipes import Recipe

CURVE_NAME = "curve.svg"
EXAMPLE = (
    "caskit cas --synthetic runs/replica --real-train runs/digits/real/train --real-test runs/digits/real/test "
    "--recipe digits --out runs/cas"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--synthetic", required=True, metavar="SET", help="set to score, PATH[@sha256:prefix]")
    parser.add_argument("--real-test", required=True, metavar="SET", help="real images to test on")
    beside = parser.add_mutually_exclusive_group()
    beside.add_argument("--real-train", metavar="SET", help="real images to train the Real rows on, one per seed")
    beside.add_argument(
        "--baseline",
        metavar="DIR",
        help="a Real row of the same recipe, scored before; or the folder of an earlier `caskit cas --real-train`",
    )
    parser.add_argument(
        "--classes",
        metavar="FILE",
        help="class list in label order, for sources of numbers: .txt, .json, .csv or a caskit set",
    )
    parser.add_argument("--recipe", required=True, metavar="R", help="how to train, such as fashion-mnist or digits")
    parser.add_argument(
        "--seeds", type=positive_integer, default=3, metavar="N", help="trainings per set, seeds 0 to N-1 (default 3)"
    )
    parser.add_argument(
        "--resampled",
        action="append",
        default=[],
        metavar="SET",
        help="a replica of the same plan with another sampling seed, scored as well; may be repeated",
    )
    parser.add_argument(
        "--gan-test",
        action="store_true",
        help="test the Real rows' classifiers on --synthetic too: how well its images keep to their labels",
    )
    parser.add_argument(
        "--duplicates",
        metavar="DIR",
        help="what `caskit duplicates` found in --synthetic, with --real-test; it stands in the report",
    )
    parser.add_argument(
        "--sizes",
        type=size_list,
        default=(),
        metavar="N,N,...",
        help="train on the first N images, each of whole shards",
    )
    add_out(parser, "folder of classifiers, scores and report")
    add_device(parser)
    add_settings(parser, "the recipe")


def size_list(text: str) -> tuple[int, ...]:
    """Parse whole numbers separated by commas."""
    return tuple(positive_integer(part.strip()) for part in text.split(","))


def result_table(result: dict[str, Any]) -> Table:
    """Lay out a row per set: mean over the seeds, their range, the gap with its interval over images and trainings."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("", "images", "top-1", "seeds from, to", "gap to Real", "95 % interval"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    for row in result["rows"]:
        top1, gap, interval = row["top1"], row["gap_points"], row["intervals"]["gap_points"]
        table.add_row(
            Text(_row_name(row)),
            f"{row['num']:,}",
            Text(f"{100 * top1['mean']:.2f} %", style="bold"),
            f"{100 * top1['min']:.2f} to {100 * top1['max']:.2f}",
            "" if gap is None else f"{gap['mean']:.2f} points",
            "" if interval is None else f"{interval['all']['low']:.2f} to {interval['all']['high']:.2f}",
        )
    return table


def _row_name(row: dict[str, Any]) -> str:
    if row["name"].startswith("sampling-seed-"):
        return f"{row['metric']}, {row['name'].replace('-', ' ')}"
    return "Real" if row["metric"] == "real" else str(row["metric"])


def show_cost(trainings: "list[Training]", recipe: "Recipe", device: "torch.device") -> None:
    """Print what the trainings take, with their time at a speed measured now."""
    from caskit.evaluate.cost import cost_line, images_per_s

    line = cost_line(trainings, recipe)
    left = [training for training in trainings if not training.finished]
    if left:
        rate = images_per_s(left[-1], recipe, device)
        seconds = len(left) * math.prod((recipe.num_steps, recipe.batch_size)) / rate
        line += f": about {duration_text(seconds)} at {rate:,.0f} img/s, measured now"
    print_line(line)


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Train, score, write cas.json and report.html, and print the rows."""
    from caskit.commands.engine import engine_status
    from caskit.commands.score import told_leak
    from caskit.commands.sets import open_any
    from caskit.commands.settings import apply_settings
    from caskit.evaluate.cas import CAS_NAME, classification_accuracy_score
    from caskit.evaluate.report import write_report
    from caskit.evaluate.report.curve import size_curve
    from caskit.evaluate.report.record import read_score
    from caskit.evaluate.score import LEAKED
    from caskit.evaluate.score import read_score as read_record
    from caskit.evaluate.trainings import plan_trainings
    from caskit.shards.sources.classes import read_classes
    from caskit.train.device import pick_device
    from caskit.train.presets import get_recipe

    recipe = apply_settings(get_recipe(arguments.recipe), arguments.settings, fixed=("name", "version"))
    device, out = pick_device(arguments.device), Path(arguments.out)
    with meter() as show, context.stop.watched() as stop:
        classes = None if arguments.classes is None else read_classes(Path(arguments.classes))
        test = open_any(arguments.real_test, show, stop, split="test", classes=classes)
        classes, channels = test.classes, test.channels
        synthetic = open_any(arguments.synthetic, show, stop, classes=classes, channels=channels)
        if synthetic.kind == "real":
            raise InputError(f"{arguments.synthetic}: is a real set, CAS is of synthetic images")
        real = None
        if arguments.real_train is not None:
            real = open_any(arguments.real_train, show, stop, split="train", classes=classes, channels=channels)
        seeds = range(arguments.seeds)
        others = [open_any(name, show, stop, classes=classes, channels=channels) for name in arguments.resampled]
        trainings = plan_trainings(
            synthetic, out, real_train=real, seeds=seeds, sizes=arguments.sizes, resampled=others
        )
        show_cost(trainings, recipe, device)
        result = classification_accuracy_score(
            synthetic,
            test,
            recipe=recipe,
            out=out,
            real_train=real,
            baseline=arguments.baseline,
            seeds=seeds,
            sizes=arguments.sizes,
            resampled=others,
            gan_test=arguments.gan_test,
            duplicates=arguments.duplicates,
            device=device,
            progress=engine_status(show),
            stop=stop,
        )
    last = next(row for row in result["rows"] if row["name"] == result["row"])
    shown = [last, *(row for row in result["rows"] if row["metric"] == "GAN-test")]
    folders = [out / score["location"] for row in shown for score in row["scores"]]
    report = write_report(folders, out / "report.html")
    facts = {"report": str(report), "numbers": str(out / CAS_NAME)}
    if len(arguments.sizes) > 1:
        where = test.ingest.dataset if test.ingest is not None else test.kind
        title = read_score(out / last["scores"][0]["location"]).title
        text = size_curve(result, title=f"{title} on {where}")
        (out / CURVE_NAME).write_text(text, encoding="utf-8")
        facts["curve"] = str(out / CURVE_NAME)
    leaked = last["metric"] == LEAKED
    title = "Not a CAS" if leaked else "Classification Accuracy Score"
    print_box(title, [result_table(result), "", facts_table(facts)])
    folder = out / last["scores"][0]["location"]
    return 1 if leaked and told_leak(read_record(folder), folder) else 0
