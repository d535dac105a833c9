"""Train a classifier on a frozen set; the same command again goes on where it stopped.

Under torchrun, `torchrun --nproc-per-node N -m caskit train ...`, N processes share each step. Any number of them
goes on with what another number began.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from caskit.commands.options import (
    Context,
    add_device,
    add_out,
    add_seed,
    add_settings,
    gibibytes,
    positive_integer,
)
from caskit.commands.sets import open_mixture
from caskit.console import meter, print_line
from caskit.manifests.errors import InputError
from caskit.train.launch import read_launch

EXAMPLE = "caskit train --data runs/digits/first --recipe digits --seed 0 --out runs/digits/classifier"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--data",
        required=True,
        action="append",
        metavar="SET[:SHARE]",
        help="set to train on, PATH_OR_URL[@sha256:prefix]; :0.25 takes the first quarter of a synthetic set; given "
        "again, real images have synthetic ones beside them",
    )
    parser.add_argument(
        "--recipe", required=True, metavar="R", help="how to train, a name such as fashion-mnist or cas-resnet50"
    )
    parser.add_argument(
        "--model", metavar="NAME", help="any model of timm in place of the recipe's, which makes it another recipe"
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="train through torch.compile: other last bits, so another recipe (the same as --set compile=true)",
    )
    parser.add_argument(
        "--first-shards", type=int, metavar="K", help="train on the first K shards of a synthetic set only"
    )
    parser.add_argument(
        "--workers",
        type=positive_integer,
        default=0,
        metavar="W",
        help="processes beside each that trains, which read and augment ahead; no bit depends on W (default none: a "
        "thread makes the next images)",
    )
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="also log for TensorBoard, to tensorboard/ in the classifier's folder",
    )
    parser.add_argument(
        "--hold",
        type=gibibytes,
        default=2.0,
        metavar="GIB",
        help="memory for the set's images in each process that trains: all as pixels, else as stored, else none; no "
        "bit depends on it (default 2; 0 holds nothing)",
    )
    parser.add_argument(
        "--stream",
        type=gibibytes,
        default=0.0,
        metavar="GIB",
        help="begin before a set at a URL is here: fetch its shards in the order of need, at most so much of them on "
        "this machine; needs a recipe that shuffles by blocks (default: fetch the whole set first)",
    )
    add_seed(parser, "of the weights, the order and the augmentation")
    add_out(parser, "folder of the classifier")
    add_device(parser)
    add_settings(parser, "the recipe, or save_every and log_every of the engine")


def reading_line(reading: dict[str, Any]) -> str:
    """Say how images were read."""
    if reading["held"] == "nothing":
        return "images  read as they were needed"
    return f"images  held in memory as {reading['held']}, {reading['held_bytes'] / 1e6:,.1f} MB"


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Train, and print where the classifier is."""
    from caskit.commands.engine import engine_status
    from caskit.commands.settings import apply_to_all
    from caskit.shards.mixture import Mixture
    from caskit.train.device import pick_device
    from caskit.train.distributed import joined
    from caskit.train.engine import EngineConfig
    from caskit.train.presets import get_recipe
    from caskit.train.training import train

    preset = get_recipe(arguments.recipe)
    if arguments.model is not None:
        preset = dataclasses.replace(preset, model=f"timm:{arguments.model}")
    if arguments.compile:
        preset = dataclasses.replace(preset, compile=True)
    configs = (preset, EngineConfig(seed=arguments.seed, tensorboard=arguments.tensorboard))
    recipe, engine = apply_to_all(configs, arguments.settings, fixed=("name", "version", "seed", "tensorboard"))
    launch = read_launch()
    device = pick_device(arguments.device, launch)
    with (
        joined(launch, device) as world,
        meter(quiet=not world.first) as show,
        context.stop.watched() as stop,
    ):
        data = open_mixture(arguments.data, show, world, launch, stream_bytes=int(arguments.stream * 2**30))
        if arguments.first_shards is not None:
            if isinstance(data, Mixture):
                raise InputError("--first-shards is of one synthetic set; in a mixture write SET:SHARE")
            data = data.first_shards(arguments.first_shards)
        record = train(
            data,
            recipe,
            seed=arguments.seed,
            out=Path(arguments.out),
            device=device,
            config=engine,
            progress=engine_status(show),
            stop=stop,
            world=world,
            num_workers=arguments.workers,
            memory_bytes=int(arguments.hold * 2**30),
        )
        world.barrier()  # torchrun ends the others as soon as one has ended badly
    if not world.first:
        return 0
    if "reading" in record:  # not of a classifier of long ago
        print_line(reading_line(record["reading"]))
    print_line(f"classifier {record['classifier_id'][:16]}, recipe {record['recipe_id'][:16]}")
    if context.stage is None:
        print_line(f"next  caskit score --classifier {arguments.out} --real SET --out DIR")
    return 0
