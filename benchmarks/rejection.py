"""Rejection at k = 1, 2, 4: what the best of k candidates does to CAS, to agreement with classifiers, and to the cost.

Run: python benchmarks/rejection.py (digits with cvae, three minutes on two quiet cores), or for instance
`python benchmarks/rejection.py --gen vqvae2 --data fashion-mnist --workers 2 --work runs/rejection`; with --work the
same command goes on where it stopped. The table goes into benchmarks/rejection.md, a section per generator, data and
number of images; the last line printed is one JSON object. `--short` (digits, cvae, few images and steps, within a
minute) writes no file. `--accept P` keeps the first candidate whose label has probability P, not the best of all k.

The judge is the recipe's classifier trained on the real train split, as `make sample BEST_OF=k` has it, with a seed of
its own. Agreement is the share of images of which a classifier's first answer is the label; a second real classifier of
another seed, the witness, kept nothing, so its agreement shows what is more than the judge's own taste.
"""

import argparse
import dataclasses
import datetime
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caskit.commands.generators import family_and_preset
from caskit.evaluate.predict import predict
from caskit.evaluate.score import score
from caskit.gen.checkpoint import Checkpoint
from caskit.gen.executors import Part
from caskit.gen.planning import find_checkpoint, make_plan
from caskit.gen.rejection import make_rejection
from caskit.gen.sampling import SampleConfig, freeze_replica, sample
from caskit.manifests.plan import DEFAULT_SAMPLES_PER_SHARD, Numerics, Plan
from caskit.shards.dataset import FrozenSet, open_set
from caskit.shards.ingest import ingest
from caskit.shards.software import versions
from caskit.shards.sources import load
from caskit.train.device import pick_device
from caskit.train.presets import get_recipe
from caskit.train.recipes import Recipe
from caskit.train.training import load_classifier, train

RESULT = Path(__file__).with_suffix(".md")
NUM_TURNS = 4  # the replicas are drawn in so many parts by turns, so that a change of the machine's load meets all
SHORT = {"gen": "cvae", "data": "digits", "num": 200, "seeds": [0], "candidates": [1, 4]}
SHORT_STEPS = 40
TITLE = "# Rejection: the best of k candidates by a classifier"
COLUMNS = (
    "k",
    "CAS top-1, %",
    "by training seed",
    "gap to Real, points",
    "judge agrees, %",
    "witness agrees, %",
    "worker s",
    "processor s",
    "img per processor s",
    "cost",
    "judge's share",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured of one k, or of Real (`candidates` 0: agreement on the test images, no cost).

    Attributes:
        candidates: k.
        top1: on the real test images, of every training seed.
        judge_agreement, witness_agreement: shares of the replica's images.
        worker_s: wall seconds that workers took to draw, judge, encode and commit the replica, starting apart.
        processor_s: seconds that they computed; other work on the machine does not lengthen them.
        images_per_s: kept images per processor second, on a GPU per worker second.
        judge_share: of the worker seconds.
    """

    candidates: int
    top1: tuple[float, ...]
    judge_agreement: float
    witness_agreement: float
    worker_s: float = 0.0
    processor_s: float = 0.0
    images_per_s: float = 0.0
    judge_share: float = 0.0

    @property
    def mean(self) -> float:
        """Mean top-1 over the training seeds."""
        return float(np.mean(self.top1))


def say(text: str) -> None:
    """Tell on stderr how far it is."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def fetch(name: str, out: Path) -> tuple[FrozenSet, FrozenSet]:
    """Return the train and the test split of a real data set."""
    if not (out / "test" / "replica.json").exists():
        for split, source in load(name).items():
            ingest(source, out / split, samples_per_shard=DEFAULT_SAMPLES_PER_SHARD)
    return open_set(str(out / "train")), open_set(str(out / "test"))


def fit_classifier(data: FrozenSet, recipe: Recipe, seed: int, out: Path, device: torch.device) -> Path:
    """Train a classifier and return its folder."""
    say(f"train {out.name}")
    train(data, recipe, seed=seed, out=out, device=device)
    return out


def agreement(folder: Path, data: FrozenSet, device: torch.device) -> float:
    """Return the share of a set's images of which a classifier's first answer is the label."""
    ranks = predict(load_classifier(folder, device=device), data).column("rank").to_numpy()
    return float((ranks == 0).mean())


def make_plans(options: argparse.Namespace, checkpoint: Checkpoint, real: FrozenSet, judge: Path) -> dict[int, Plan]:
    """Return a plan for every k, equal but for the rejection, in shards that the turns can share out."""
    numerics = Numerics(device=options.device.partition(":")[0])
    one = make_plan(checkpoint, num=options.num, like=real, numerics=numerics)
    per_turn = min(DEFAULT_SAMPLES_PER_SHARD, one.num // (2 * NUM_TURNS))
    samples_per_shard = max(1, per_turn // one.microbatch_size) * one.microbatch_size
    rejections = {
        k: None if k == 1 else make_rejection(k, judge, checkpoint, threshold=options.accept)
        for k in options.candidates
    }
    return {
        k: dataclasses.replace(one, samples_per_shard=samples_per_shard, rejection=rejection)
        for k, rejection in rejections.items()
    }


def draw(options: argparse.Namespace, plans: dict[int, Plan], checkpoint: Path, judge: Path, work: Path) -> None:
    """Make all replicas by turns, every second turn in reverse order."""
    for turn in range(1, NUM_TURNS + 1):
        for k in sorted(plans, reverse=turn % 2 == 0):
            out = work / f"replica-{k}"
            if (out / "replica.json").exists():
                continue
            say(f"sample k={k}, part {turn} of {NUM_TURNS}")
            config = SampleConfig(
                executor="ray" if options.workers else "inline",
                num_workers=options.workers,
                classifier=None if k == 1 else judge,
                part=Part(index=turn, count=NUM_TURNS),
                device=options.device,
            )
            sample(plans[k], out, checkpoint=checkpoint, config=config)
    for k in plans:
        freeze_replica(work / f"replica-{k}")


def cost(replica: Path) -> tuple[float, float, float]:
    """Return the seconds that workers took for a replica's shards, those of processors, and those in the judge."""
    texts = [path.read_text() for path in (replica / "_work/telemetry").iterdir()]
    events = [json.loads(line) for text in texts for line in text.splitlines()]
    seconds = {event["shard"]: event["seconds"] for event in events if event["event"] == "shard"}
    total, processor, judged = (
        sum(s.get(name, 0.0) for s in seconds.values()) for name in ("total", "processor", "judge")
    )
    return total, processor, judged


def measure(options: argparse.Namespace, work: Path) -> list[Row]:
    """Make everything and return Real's row and one per k."""
    device = pick_device(options.device)
    recipe = get_recipe(options.recipe)
    if options.short:
        recipe = dataclasses.replace(recipe, num_steps=SHORT_STEPS)
    real_train, real_test = fetch(options.data, work / "real")
    judge, witness = (
        fit_classifier(real_train, recipe, options.judge_seed + i, work / name, device)
        for i, name in enumerate(("judge", "witness"))
    )

    def row(data: FrozenSet, name: str, k: int, agreed: FrozenSet, seconds: tuple[float, float, float] | None) -> Row:
        scores = []
        for seed in options.seeds:
            folder = fit_classifier(data, recipe, seed, work / f"{name}-seed{seed}", device)
            record = score(folder, real_test, out=work / f"score-{name}-seed{seed}", device=device)
            scores.append(float(record["top1"]["value"]))
        shares = [agreement(classifier, agreed, device) for classifier in (judge, witness)]
        made = Row(candidates=k, top1=tuple(scores), judge_agreement=shares[0], witness_agreement=shares[1])
        if seconds is None:
            return made
        total, processor, judged = seconds
        rate = len(data) / (processor if device.type == "cpu" else total)
        share = judged / total
        return dataclasses.replace(made, worker_s=total, processor_s=processor, images_per_s=rate, judge_share=share)

    rows = [row(real_train, "real", 0, real_test, None)]
    family, preset = family_and_preset(options.gen, None if options.checkpoint else options.data)
    checkpoint = find_checkpoint(family, preset, options.checkpoint)
    plans = make_plans(options, checkpoint, real_train, judge)
    draw(options, plans, checkpoint.path, judge, work)
    for k in plans:
        replica = open_set(str(work / f"replica-{k}"))
        rows.append(row(replica, f"best-{k}", k, replica, cost(work / f"replica-{k}")))
    return rows


def cells(row: Row, real: Row, first: Row) -> list[str]:
    """Return the cells of one row of the table."""
    shared = [
        f"{100 * row.mean:.2f}",
        " ".join(f"{100 * value:.2f}" for value in row.top1),
        f"{100 * (real.mean - row.mean):.2f}",
        f"{100 * row.judge_agreement:.2f}",
        f"{100 * row.witness_agreement:.2f}",
    ]
    if row is real:
        return ["Real", *shared[:2], "", *shared[3:], "", "", "", "", ""]
    ratio = f"{first.images_per_s / row.images_per_s:.2f}x"
    seconds = [f"{row.worker_s:.1f}", f"{row.processor_s:.1f}"]
    return [str(row.candidates), *shared, *seconds, f"{row.images_per_s:.0f}", ratio, f"{100 * row.judge_share:.0f} %"]


def section(options: argparse.Namespace, rows: Sequence[Row], num: int) -> str:
    """Return the result as a section of Markdown."""
    real, first = rows[0], rows[1]
    found = versions()
    software = ", ".join(f"{name} {found[name]}" for name in ("python", "torch", "timm") if name in found)
    workers = f"{options.workers} Ray workers" if options.workers else "one process (inline)"
    lines = [
        f"## {options.gen} on {options.data}, {num} images"
        + (f", the first of probability {options.accept:g}" if options.accept else ""),
        "",
        f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, {software}, device {options.device}; "
        f"sampling by {workers}, the k drawn by turns in {NUM_TURNS} parts.",
        f"Command: `python benchmarks/rejection.py {command(options)}`.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(cells(row, real, first)) + " |" for row in rows),
        "",
        f"Recipe {options.recipe}; training seeds {', '.join(map(str, options.seeds))}; judge and witness are the "
        f"recipe's classifiers of the real train split with seeds {options.judge_seed} and {options.judge_seed + 1}. "
        "Real's agreement is that on the real test images. One sampling seed, 0. Worker seconds (drawing, judging, "
        "encoding, committing) are wall time of a machine that other work may have shared; cost is by processor "
        "seconds (on a GPU by worker seconds).",
        "",
    ]
    return "\n".join(lines)


def command(options: argparse.Namespace) -> str:
    """Return the options that were given, but for folders."""
    given = {"gen": options.gen, "data": options.data, "recipe": options.recipe}
    given |= {
        "num": options.num,
        "workers": options.workers,
        "judge-seed": options.judge_seed,
        "device": options.device,
        "accept": options.accept,
    }
    words = [f"--{name} {value}" for name, value in given.items() if value is not None]
    words += [f"--{name} {','.join(map(str, getattr(options, name)))}" for name in ("seeds", "candidates")]
    return " ".join([*words, *(["--checkpoint DIR"] if options.checkpoint else [])])


def put_section(text: str, added: str) -> str:
    """Return a result file with a section in place of the one that begins with the same line, or at the end."""
    parts = ("\n" + text).split("\n## ")
    heading = added.removeprefix("## ").partition("\n")[0]
    head = parts[0].strip() or TITLE
    kept = ["## " + part.strip() + "\n" for part in parts[1:] if part.partition("\n")[0].strip() != heading]
    return "\n".join([head + "\n", *kept, added])


def numbers(text: str) -> list[int]:
    """Parse numbers separated by commas."""
    return [int(part) for part in text.split(",")]


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Rejection at several k: CAS, agreement, cost.")
    parser.add_argument("--gen", default="cvae", metavar="FAMILY[:PRESET]")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="of a fit (default: what ships with the preset)")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--num", type=int, help="images of each replica (default: as many as the real train split has)")
    parser.add_argument("--recipe", help="(default: named like the data)")
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2], help="of the trainings (default 0,1,2)")
    parser.add_argument(
        "--candidates", type=numbers, default=[1, 2, 4], help="k, the first is the base (default 1,2,4)"
    )
    parser.add_argument("--accept", type=float, metavar="P", help="threshold of `caskit sample` (default: none)")
    parser.add_argument("--judge-seed", type=int, default=100, help="the witness has the next one (default 100)")
    parser.add_argument("--workers", type=int, help="Ray workers (default: inline)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, help="folder to work in and to keep; the same command goes on there")
    parser.add_argument("--out", type=Path, help=f"file of the table (default {RESULT.name} beside this script)")
    parser.add_argument("--short", action="store_true", help="small, to see that it works; ignores what would be large")
    options = parser.parse_args()
    if options.short:
        vars(options).update(SHORT)
    options.recipe = options.recipe or options.data
    options.candidates = sorted(set(options.candidates))
    options.device = str(pick_device(options.device))
    return options


def main() -> None:
    """Measure, write the table, print JSON."""
    options = parse()
    with tempfile.TemporaryDirectory(prefix="caskit-rejection-") as folder:
        work = (options.work or Path(folder)).absolute()
        rows = measure(options, work)
        num = len(open_set(str(work / f"replica-{options.candidates[0]}")))
    text = section(options, rows, num)
    print(text)
    out = options.out or (None if options.short else RESULT)
    if out is not None:
        out.write_text(put_section(out.read_text() if out.exists() else "", text))
    described: dict[str, Any] = {"gen": options.gen, "data": options.data, "num": num, "recipe": options.recipe}
    print(json.dumps({**described, "rows": [{**dataclasses.asdict(row), "mean_top1": row.mean} for row in rows]}))


if __name__ == "__main__":
    main()
