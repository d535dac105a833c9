"""Measure a set beside a real one as a network sees both: IS, FID, KID, precision, recall, density, coverage.

Images are read from the shards. Every name says by which extractor, with the digest of its weights, and of how many of
the replica's first images, as in `fid[inception-2015@6726825d]@50k`; by other networks than Inception, IS, FID and KID
are called cs, fd and kd. The real set counts whole. Features are kept between runs.
"""

import argparse
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from caskit.commands.options import Context, add_device, add_out, positive_integer
from caskit.commands.sets import open_shown
from caskit.console import facts_table, meter, print_box
from caskit.manifests.errors import InputError

EXAMPLE = (
    "caskit metrics runs/digits/replica --real runs/digits/real/train --extractor classifier "
    "--weights runs/digits/real-classifier --out runs/digits/metrics"
)
NUM_FEATURES, KID_SUBSET_SIZE, NEAREST_K = 10_000, 1000, 5  # of evaluate.fidelity, not imported for a --help


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("set", metavar="REPLICA", help="what is measured, PATH_OR_URL[@sha256:prefix]")
    parser.add_argument("--real", required=True, metavar="SET", help="real images beside it; usual is the train split")
    parser.add_argument(
        "--extractor",
        default="inception-2015",
        metavar="NAME",
        help="inception-2015 (default), timm:NAME, dinov2-vits14, -vitb14, -vitl14 or -vitg14, classifier",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="of the extractor: .safetensors or .pth, of classifier a folder of caskit train; only inception-2015 "
        "is fetched without",
    )
    parser.add_argument(
        "--num",
        metavar="N|all",
        help="images of the replica, its first ones (default 50000, or all if there are fewer)",
    )
    parser.add_argument(
        "--num-features",
        type=positive_integer,
        default=NUM_FEATURES,
        metavar="M",
        help=f"images of each set for KID, precision, recall, density, coverage (default {NUM_FEATURES})",
    )
    parser.add_argument(
        "--kid-subset-size",
        type=positive_integer,
        default=KID_SUBSET_SIZE,
        metavar="M",
        help=f"images per subset of KID (default {KID_SUBSET_SIZE})",
    )
    parser.add_argument(
        "--nearest",
        type=positive_integer,
        default=NEAREST_K,
        metavar="K",
        help=f"neighbours of precision, recall, density and coverage (default {NEAREST_K})",
    )
    parser.add_argument(
        "--resize", metavar="HOW", help="tf1-bilinear (default of inception-2015), bicubic (of timm, dinov2), bilinear"
    )
    parser.add_argument("--batch-size", type=positive_integer, default=64, metavar="B", help="(default 64)")
    parser.add_argument("--cache", metavar="DIR", help="where features are kept (default: the user's cache folder)")
    parser.add_argument("--no-cache", action="store_true", help="neither read nor keep features")
    add_out(parser, "folder of metrics.json")
    add_device(parser)


def parse_num(text: str | None, total: int) -> int | None:
    """Return how many images are measured; None for the usual number. Raises InputError."""
    if text is None or text == "all":
        return None if text is None else total
    if not text.isdecimal() or not text.isascii() or len(text) > 15 or int(text) < 2:
        raise InputError(f"--num {text!r} is neither a whole number of at least 2 nor all")
    return int(text)


def metrics_table(record: dict[str, Any]) -> Table:
    """Lay out a row per metric."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("metric", "value", "sd", "N", "N real"):
        table.add_column(name, justify="left" if name == "metric" else "right", no_wrap=True)
    for entry in record["metrics"]:
        sd = "" if entry["sd"] is None else f"{entry['sd']:.4g}"
        real = "" if entry["num_reference"] is None else f"{entry['num_reference']:,}"
        mark = " !" if entry["marks"] else ""
        table.add_row(Text(entry["name"]), f"{entry['value']:.6g}{mark}", sd, f"{entry['num']:,}", real)
    return table


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Measure, and print a table."""
    from caskit.commands.engine import engine_status
    from caskit.evaluate.fidelity import METRICS_NAME, Settings, default_folder, measure, open_extractor
    from caskit.train.device import pick_device

    device = pick_device(arguments.device)
    settings = Settings(
        num_features=arguments.num_features,
        kid_subset_size=arguments.kid_subset_size,
        nearest_k=arguments.nearest,
    )
    if arguments.cache is not None and arguments.no_cache:
        raise InputError("--cache and --no-cache exclude each other")
    cache = default_folder() if arguments.cache is None else Path(arguments.cache)
    weights = None if arguments.weights is None else Path(arguments.weights)
    with meter() as show, context.stop.watched() as stop:
        replica, reference = open_shown(arguments.set, show), open_shown(arguments.real, show)
        num = parse_num(arguments.num, len(replica))
        extractor = open_extractor(arguments.extractor, weights=weights, resize=arguments.resize, device=device)
        if weights is None:
            from caskit.evaluate.fidelity.inception import published_path

            weights = published_path()  # of the one extractor that can do without
        record = measure(
            replica,
            reference,
            extractor,
            out=Path(arguments.out),
            num=num,
            settings=settings,
            weights=weights,
            cache=None if arguments.no_cache else cache,
            batch_size=arguments.batch_size,
            device=device,
            progress=engine_status(show, unit="batches"),
            stop=stop,
        )
    body: list[Any] = [metrics_table(record), ""]
    body += [Text(f"not measured: {entry['metric']}, {entry['reason']}") for entry in record["omitted"]]
    if any(entry["marks"] for entry in record["metrics"]):
        body.append(Text(f"! fewer images than the {record['dim']:,} features: far too large, compare it with nothing"))
    print_box(
        f"Fidelity by {arguments.extractor}", [*body, facts_table({"numbers": str(Path(arguments.out) / METRICS_NAME)})]
    )
    return 0
