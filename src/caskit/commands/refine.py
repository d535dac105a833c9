"""Teach a fitted generator by its own samples: vqvae2, whose priors learn on from samples that a classifier labelled.

The classifier is one that `caskit train` trained on the same real set. The new checkpoint samples as the old one does
and names the old one, the set, the classifier and the settings; equal ones give an equal id. The same command again
goes on where it stopped.
"""

import argparse
from pathlib import Path

from caskit.commands.options import Context, add_device, add_out, add_settings
from caskit.commands.sets import open_shown
from caskit.console import meter, print_line
from caskit.manifests.errors import InputError

EXAMPLE = "caskit refine --gen vqvae2:digits --data runs/digits/real/train --classifier runs/judge --out runs/refined"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--gen", required=True, metavar="FAMILY[:PRESET]", help="generator to refine")
    parser.add_argument("--checkpoint", metavar="DIR", help="its folder (default: what ships with the preset)")
    parser.add_argument(
        "--data", required=True, metavar="SET", help="set that it was fitted to, PATH_OR_URL[@sha256:prefix]"
    )
    parser.add_argument("--classifier", required=True, metavar="DIR", help="folder of a classifier trained on that set")
    add_out(parser, "folder of the new checkpoint, its logs and its resume points")
    add_device(parser)
    add_settings(parser, "how (num_drawn, share_drawn, top.num_steps, ...)")


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Refine, and print both ids."""
    from caskit.commands.engine import engine_status
    from caskit.commands.generators import family_and_preset
    from caskit.commands.settings import apply_settings
    from caskit.gen.family import BOUND, open_family
    from caskit.gen.planning import find_checkpoint
    from caskit.train.device import pick_device
    from caskit.train.training import load_classifier

    family, preset = family_and_preset(arguments.gen, None)
    module = open_family(family, allow_code=False)
    refine = getattr(module, "refine", None)
    if family in BOUND or refine is None:
        raise InputError(f"--gen {arguments.gen}: family {family} has no refinement, vqvae2 has")
    config = apply_settings(module.RefineConfig(), arguments.settings)  # type: ignore[attr-defined]
    source = find_checkpoint(family, preset, None if arguments.checkpoint is None else Path(arguments.checkpoint))
    device = pick_device(arguments.device)
    classifier = load_classifier(Path(arguments.classifier), device=device)
    with meter() as show, context.stop.watched() as stop:
        data = open_shown(arguments.data, show)
        checkpoint = refine(
            source,
            data,
            classifier,
            config,
            Path(arguments.out),
            device=device,
            progress=engine_status(show),
            stop=stop,
        )
    print_line(f"refined from {source.checkpoint_id}")
    print_line(f"checkpoint   {checkpoint.checkpoint_id}")
    if context.stage is None:
        print_line(f"next         caskit sample --gen {family} --checkpoint {arguments.out} --num 1000 --out DIR")
    return 0
