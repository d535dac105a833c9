"""Train a classifier on a frozen set; the same command again goes on where it stopped."""

import argparse
from pathlib import Path

from caskit.commands.options import Context, add_device, add_out, add_seed, add_settings
from caskit.commands.sets import open_shown
from caskit.console import meter, print_line

EXAMPLE = "caskit train --data runs/digits/first --recipe digits --seed 0 --out runs/digits/classifier"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--data", required=True, metavar="SET", help="set to train on, PATH_OR_URL[@sha256:prefix]")
    parser.add_argument(
        "--recipe", required=True, metavar="R", help="how to train, a name such as fashion-mnist or digits"
    )
    parser.add_argument(
        "--first-shards", type=int, metavar="K", help="train on the first K shards of a synthetic set only"
    )
    add_seed(parser, "of the weights, the order and the augmentation")
    add_out(parser, "folder of the classifier")
    add_device(parser)
    add_settings(parser, "the recipe, or save_every and log_every of the engine")


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Train, and print where the classifier is."""
    from caskit.commands.engine import engine_status
    from caskit.commands.settings import apply_to_all
    from caskit.train.device import pick_device
    from caskit.train.engine import EngineConfig
    from caskit.train.recipes import get_recipe
    from caskit.train.training import train

    configs = (get_recipe(arguments.recipe), EngineConfig(seed=arguments.seed))
    recipe, engine = apply_to_all(configs, arguments.settings, fixed=("name", "version", "seed"))
    device = pick_device(arguments.device)
    with meter() as show, context.stop.watched() as stop:
        data = open_shown(arguments.data, show)
        if arguments.first_shards is not None:
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
        )
    print_line(f"classifier {record['classifier_id'][:16]}, recipe {record['recipe_id'][:16]}")
    if context.stage is None:
        print_line(f"next  caskit score --classifier {arguments.out} --real SET --out DIR")
    return 0
