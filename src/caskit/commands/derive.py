"""Make a checkpoint from another one: biggan_deep with batch-norm statistics computed again at a law of z.

The weights stay what they are. What was done, with all that decides it, is in the new checkpoint and in its id; equal
flags give an equal id.
"""

import argparse
from pathlib import Path

from caskit.commands.options import Context, add_device, add_out, add_settings
from caskit.console import Status, meter, print_line
from caskit.manifests.errors import InputError

EXAMPLE = "caskit derive --gen biggan_deep --checkpoint runs/biggan-256 --z-scale 1.5 --out runs/biggan-256-at-1.5"
FLAGS = ("z_scale", "z_mode")  # fields of the config that have flags of their own


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--gen", required=True, metavar="FAMILY[:PRESET]", help="generator to derive from")
    parser.add_argument("--checkpoint", metavar="DIR", help="its folder (default: what ships with the preset)")
    parser.add_argument(
        "--z-scale", type=float, metavar="X", help="truncation that samples will be drawn with (default 1)"
    )
    parser.add_argument("--z-mode", choices=("scale", "resample"), help="what it does to z (default scale)")
    add_out(parser, "folder of the new checkpoint")
    add_device(parser)
    add_settings(parser, "what decides the statistics (num_batches, batch_size, seed, threads)")


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Derive, and print both ids."""
    from caskit.commands.generators import family_and_preset
    from caskit.commands.settings import apply_settings
    from caskit.gen.family import BOUND, open_family
    from caskit.gen.planning import find_checkpoint
    from caskit.train.device import pick_device

    family, preset = family_and_preset(arguments.gen, None)
    module = open_family(family, allow_code=False)
    derive = getattr(module, "derive", None)
    if family in BOUND or derive is None:
        raise InputError(f"--gen {arguments.gen}: family {family} has nothing to derive, biggan_deep has")
    law = {name: getattr(arguments, name) for name in FLAGS if getattr(arguments, name) is not None}
    config = apply_settings(module.DeriveConfig(**law), arguments.settings, fixed=FLAGS)  # type: ignore[attr-defined]
    source = find_checkpoint(family, preset, None if arguments.checkpoint is None else Path(arguments.checkpoint))
    device = pick_device(arguments.device)
    with meter() as show, context.stop.watched() as stop:
        checkpoint = derive(
            source,
            config,
            Path(arguments.out),
            device=device,
            progress=lambda done, total: show(Status(title="derive", done=done, total=total, unit="batches")),
            stop=stop,
        )
    print_line(f"derived from {source.checkpoint_id}")
    print_line(f"checkpoint   {checkpoint.checkpoint_id}")
    if context.stage is None:
        settings = f"--set z_scale={config.z_scale:g} --set z_mode={config.z_mode}"
        print_line(
            f"next         caskit sample --gen {family} --checkpoint {arguments.out} {settings} --num 1000 --out DIR"
        )
    return 0
