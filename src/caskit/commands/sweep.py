"""Sample a generator at several values of one setting, and score each replica: one replica per value, one table.

What is run per value are commands that anyone can run by hand; DIR/sweep.json lists them with what they gave. With
--recipe and --real-test each replica gets its CAS, with --real-train beside Real rows that are trained once. The same
command again goes on where it stopped; values may be added.
"""

import argparse
import importlib
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from caskit.commands.options import (
    Context,
    add_allow_code,
    add_device,
    add_out,
    add_seed,
    add_settings,
    positive_integer,
)
from caskit.commands.sample import CODEC_PREFIX
from caskit.console import facts_table, print_box, print_line
from caskit.manifests.errors import InputError
from caskit.manifests.plan import FORMAT_VERSION
from caskit.train.folder import write_atomic

RECORD_NAME, CURVE_NAME = "sweep.json", "sweep.svg"
TRUNCATION = "z_scale"  # the setting that --truncation varies
EXAMPLE = (
    "caskit sweep --gen cvae:digits --vary temperature=0.6,1,1.4 --like runs/digits/real/train "
    "--real-test runs/digits/real/test --recipe digits --out runs/digits/sweep"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--gen", required=True, metavar="FAMILY[:PRESET]", help="generator")
    parser.add_argument("--checkpoint", metavar="DIR", help="folder of a fit (default: what ships with the preset)")
    varied = parser.add_mutually_exclusive_group(required=True)
    varied.add_argument("--vary", type=setting_values, metavar="KEY=V,V,...", help="a sampler setting and its values")
    varied.add_argument(
        "--truncation", type=truncations, metavar="V,V,...", dest="vary", help=f"values of {TRUNCATION}, as of BigGAN's"
    )
    parser.add_argument(
        "--standing",
        action="store_true",
        help="with --truncation: recompute the batch-norm statistics at each value (`caskit derive`)",
    )
    parser.add_argument(
        "--like", metavar="SET", help="real set whose label histogram to follow (default: --real-train)"
    )
    parser.add_argument(
        "--num", type=positive_integer, metavar="N", help="samples per value (default: as many as --like)"
    )
    parser.add_argument(
        "--best-of",
        type=positive_integer,
        metavar="K",
        help="as `caskit sample`, by the checkpoint's own judge; 1: the first draw (default: what the checkpoint says)",
    )
    add_seed(parser, "of the replicas")
    parser.add_argument("--workers", type=positive_integer, metavar="W", help="sampling processes")
    parser.add_argument(
        "--executor", choices=("ray", "inline"), default="ray", help="where sampling runs (default ray)"
    )
    parser.add_argument("--recipe", metavar="R", help="how to train the classifiers; without it nothing is scored")
    parser.add_argument(
        "--set-recipe",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set one field of the recipe; may be repeated",
    )
    parser.add_argument("--real-test", metavar="SET", help="real images to test on")
    parser.add_argument(
        "--real-train", metavar="SET", help="real images to train the Real rows on, once for all values"
    )
    parser.add_argument("--seeds", type=positive_integer, default=3, metavar="N", help="trainings per set (default 3)")
    add_allow_code(parser)
    add_out(parser, "folder of replicas, scores, table and plot")
    add_device(parser)
    add_settings(parser, "the sampler's settings or of the plan, the same for all values")


def setting_values(text: str) -> tuple[str, tuple[str, ...]]:
    """Parse `KEY=V,V,...`: a setting and two or more different values, as texts."""
    key, equals, values = text.partition("=")
    parts = tuple(part.strip() for part in values.split(","))
    if not equals or not key.isidentifier() or not all(parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE,VALUE,...")
    if len(set(parts)) < len(parts) or len(parts) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} has to name two or more different values")
    wrong = [part for part in parts if not part.replace(".", "").replace("-", "").replace("_", "").isalnum()]
    if wrong:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is not a number or a name")
    return key, parts


def truncations(text: str) -> tuple[str, tuple[str, ...]]:
    """Parse `V,V,...` as values of the truncation."""
    return setting_values(f"{TRUNCATION}={text}")


def _check(arguments: argparse.Namespace) -> None:
    if (arguments.recipe is None) != (arguments.real_test is None):
        raise InputError("--recipe R and --real-test SET go together: replicas are scored with both, or only sampled")
    if arguments.real_train is not None and arguments.recipe is None:
        raise InputError("--real-train is for Real rows, which need --recipe and --real-test; --like names a histogram")
    if arguments.like is None and arguments.real_train is None and arguments.num is None:
        raise InputError("how many samples? give --num N, or --like SET whose histogram to follow")
    if arguments.standing and arguments.vary[0] != TRUNCATION:
        raise InputError(f"--standing is for --truncation, {arguments.vary[0]} is no truncation")
    _check_settings(arguments)
    _check_judge(arguments)


def _check_judge(arguments: argparse.Namespace) -> None:
    """Raise InputError for --best-of with a generator that brings no judge."""
    from caskit.commands.generators import family_and_preset
    from caskit.gen.own_judge import own_rejection
    from caskit.gen.planning import find_checkpoint

    if arguments.best_of in (None, 1):
        return
    family, preset = family_and_preset(arguments.gen, None, allow_code=arguments.allow_code)
    folder = None if arguments.checkpoint is None else Path(arguments.checkpoint)
    if own_rejection(find_checkpoint(family, preset, folder, allow_code=arguments.allow_code)) is None:
        raise InputError(f"--best-of {arguments.best_of}: this generator brings no judge of its own, allowed: 1")


def _check_settings(arguments: argparse.Namespace) -> None:
    """Raise InputError for a setting or a value that the generator does not take, before any replica is made."""
    from caskit.commands.generators import PlanSettings, family_and_preset
    from caskit.commands.settings import apply_to_all
    from caskit.gen.family import BOUND, open_family

    family, _ = family_and_preset(arguments.gen, None, allow_code=arguments.allow_code)
    if family in BOUND:
        raise InputError(f"--gen {arguments.gen}: a function has no sampler settings to vary")
    module = open_family(family, allow_code=arguments.allow_code)
    configs = module.Settings(), PlanSettings(microbatch_size=module.MICROBATCH_SIZE)
    common = [text for text in arguments.settings if not text.startswith(CODEC_PREFIX)]
    key, values = arguments.vary
    for value in values:
        apply_to_all(configs, [*common, f"{key}={value}"])


def commands(arguments: argparse.Namespace, value: str, home: Path) -> list[list[str]]:
    """Return the commands of one value, each a list of words.

    Args:
        arguments: of this command.
        value: the setting's.
        home: folder of the value whose score trains the Real rows, which are everybody's.
    """
    key, _ = arguments.vary
    folder = value_folder(arguments, value)
    device = ["--device", arguments.device]
    settings = [word for text in arguments.settings for word in ("--set", text)]
    code = ["--allow-code"] if arguments.allow_code else []
    checkpoint, found = arguments.checkpoint, []
    if arguments.standing:
        source = ["--checkpoint", checkpoint] if checkpoint else []
        checkpoint = str(folder / "checkpoint")
        mode = [text.partition("=")[2] for text in arguments.settings if text.startswith("z_mode=")]
        modes = ["--z-mode", mode[-1]] if mode else []
        words = ["--gen", arguments.gen, *source, "--z-scale", value, *modes, *device, "--out", checkpoint]
        found.append(["derive", *words])
    like = arguments.like or arguments.real_train
    words = ["--gen", arguments.gen, *_flag("--checkpoint", checkpoint), *_flag("--like", like)]
    words += [*_flag("--num", arguments.num), "--seed", str(arguments.seed), *_flag("--workers", arguments.workers)]
    words += _flag("--best-of", arguments.best_of)
    words += ["--executor", arguments.executor, *settings, "--set", f"{key}={value}", *code, *device]
    found.append(["sample", *words, "--out", str(folder / "replica")])
    if arguments.recipe is not None:
        words = ["--synthetic", str(folder / "replica"), "--real-test", arguments.real_test]
        if arguments.real_train is not None:
            words += ["--real-train", arguments.real_train] if folder == home else ["--baseline", str(home / "cas")]
        words += [word for text in arguments.set_recipe for word in ("--set", text)]
        words += ["--recipe", arguments.recipe, "--seeds", str(arguments.seeds), *device]
        found.append(["cas", *words, "--out", str(folder / "cas")])
    return found


def _flag(name: str, value: object) -> list[str]:
    return [] if value is None else [name, str(value)]


def value_folder(arguments: argparse.Namespace, value: str) -> Path:
    """Return the folder of one value."""
    return Path(arguments.out) / f"{arguments.vary[0]}-{value}"


def run_command(words: Sequence[str], context: Context) -> None:
    """Run one of the commands. Raises what it raises; argparse's errors cannot occur, as all words are ours."""
    module = importlib.import_module(f"caskit.commands.{words[0]}")
    parser = argparse.ArgumentParser(prog=f"caskit {words[0]}", allow_abbrev=False)
    module.add_arguments(parser)
    module.run(parser.parse_args(words[1:]), context)


def row_of(arguments: argparse.Namespace, value: str, words: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return what sweep.json says about one value whose commands have run."""
    from caskit.evaluate.cas import CAS_NAME
    from caskit.shards.dataset import open_set

    folder = value_folder(arguments, value)
    replica = open_set(str(folder / "replica"))
    row: dict[str, Any] = {
        "value": value,
        "folder": folder.name,
        "replica_id": replica.replica.replica_id,
        "num": len(replica),
        "commands": [shlex.join(["caskit", *command]) for command in words],
        "scores": None,
        "top1": None,
        "gap_points": None,
    }
    if arguments.recipe is not None:
        scored = json.loads((folder / "cas" / CAS_NAME).read_bytes())["rows"][-1]
        row |= {name: scored[name] for name in ("scores", "top1", "gap_points")}
    return row


def result_table(record: dict[str, Any]) -> Table:
    """Lay out a row per value."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in (record["setting"], "images", "top-1", "seeds from, to", "gap to Real", "replica"):
        table.add_column(name, justify="left" if name == "replica" else "right", no_wrap=True)
    for row in record["rows"]:
        top1, gap = row["top1"], row["gap_points"]
        table.add_row(
            Text(row["value"]),
            f"{row['num']:,}",
            Text("" if top1 is None else f"{100 * top1['mean']:.2f} %", style="bold"),
            "" if top1 is None else f"{100 * top1['min']:.2f} to {100 * top1['max']:.2f}",
            "" if gap is None else f"{gap['mean']:.2f} points",
            Text(row["replica_id"][:16]),
        )
    return table


def draw(record: dict[str, Any], real: dict[str, Any] | None) -> str:
    """Return the SVG of the scores; values have to be numbers above 0."""
    from caskit.evaluate.report.curve import Point, curve

    points = [
        Point(x=float(row["value"]), label=row["value"], scores=tuple(score["top1"] for score in row["scores"]))
        for row in record["rows"]
    ]
    title = f"{record['generator']}, recipe {record['recipe']}"
    return curve(points, title=title, x_title=record["setting"], real=real)


def _drawable(record: dict[str, Any]) -> bool:
    try:
        return record["recipe"] is not None and all(float(row["value"]) > 0 for row in record["rows"])
    except ValueError:
        return False  # names, such as z_mode=scale,resample, have no place on an axis


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Run the commands of every value, then write and print the table."""
    from caskit.evaluate.cas import CAS_NAME
    from caskit.evaluate.trainings import REAL_FOLDER

    _check(arguments)
    key, values = arguments.vary
    folders = {value: value_folder(arguments, value) for value in values}
    # Where Real rows were trained before they stay, though values were put in front since.
    home = next((value for value in values if (folders[value] / "cas" / REAL_FOLDER).is_dir()), values[0])
    rows = {}
    for number, value in enumerate(sorted(values, key=lambda value: value != home), start=1):
        print_line(f"{key} = {value}, {number} of {len(values)}")
        words = commands(arguments, value, folders[home])
        for command in words:
            run_command(command, context)
        rows[value] = row_of(arguments, value, words)
    record = {
        "format_version": FORMAT_VERSION,
        "generator": arguments.gen,
        "setting": key,
        "recipe": arguments.recipe,
        "rows": [rows[value] for value in values],
    }
    out = Path(arguments.out)
    _write(out / RECORD_NAME, json.dumps(record, indent=2, sort_keys=True) + "\n")
    facts = {"numbers": str(out / RECORD_NAME)}
    if _drawable(record):
        scored = json.loads((folders[home] / "cas" / CAS_NAME).read_bytes())["rows"]
        real = next((row for row in scored if row["metric"] == "real"), None)
        _write(out / CURVE_NAME, draw(record, real))
        facts["plot"] = str(out / CURVE_NAME)
    print_box(f"Sweep of {key}", [result_table(record), "", facts_table(facts)])
    return 0


def _write(path: Path, text: str) -> None:
    def write(part: Path) -> None:
        part.write_text(text, encoding="utf-8")

    write_atomic(path, write)
