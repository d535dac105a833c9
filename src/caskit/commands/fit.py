"""Fit a generator to a frozen set and write its checkpoint; the same command again goes on where it stopped.

Under torchrun, `torchrun --nproc-per-node N -m caskit fit ...`, N processes fit one model.
"""

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from caskit.commands.options import Context, add_allow_code, add_device, add_out, add_settings
from caskit.commands.sets import open_together
from caskit.console import meter, print_line
from caskit.manifests.errors import InputError
from caskit.train.launch import read_launch

if TYPE_CHECKING:
    from caskit.gen.family import Family

EXAMPLE = "caskit fit --gen cvae:digits --data runs/digits/real/train --out runs/digits/fit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--gen", required=True, metavar="FAMILY[:PRESET]", help="what to fit; without a preset, the one named like DATA"
    )
    parser.add_argument("--data", required=True, metavar="SET", help="set to fit to, PATH_OR_URL[@sha256:prefix]")
    add_out(parser, "folder of the checkpoint, its logs and its resume points")
    parser.add_argument(
        "--from-autoencoder",
        metavar="FILE",
        help="vqvae2: take the first stage from a .pt file of rosinality/vq-vae-2-pytorch instead of training one",
    )
    add_allow_code(parser)
    add_device(parser)
    add_settings(parser, "the preset's fit config")


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Fit, and print the checkpoint's id."""
    from caskit.commands.engine import engine_status
    from caskit.commands.generators import family_and_preset
    from caskit.commands.settings import apply_settings
    from caskit.gen.checkpoint import load_checkpoint
    from caskit.gen.family import BOUND, open_family
    from caskit.train.device import pick_device
    from caskit.train.distributed import joined

    allow = arguments.allow_code
    name, _ = family_and_preset(arguments.gen, None, allow_code=allow)  # a wrong name dies before the set is read
    if name in BOUND:
        raise InputError(
            f"--gen {arguments.gen}: a function is not fitted by caskit; a package of your own can have a fit"
        )
    family = open_family(name, allow_code=allow)
    fit = _fit_of(family, arguments.from_autoencoder)
    launch = read_launch()
    device = pick_device(arguments.device, launch)
    with (
        joined(launch, device) as world,
        meter(quiet=not world.first) as show,
        context.stop.watched() as stop,
    ):
        data = open_together(arguments.data, show, world, launch)
        if data.split not in (None, "train"):
            raise InputError(
                f"{arguments.data}: is a {data.split} split, a generator is not fitted to what it is scored on"
            )
        dataset = None if data.ingest is None else data.ingest.dataset
        _, preset = family_and_preset(arguments.gen, dataset, allow_code=allow)
        if preset is None:
            presets = ", ".join(f"{name}:{known}" for known in family.PRESETS)
            raise InputError(f"--gen {arguments.gen}: name a preset, {presets}")
        config = apply_settings(family.PRESETS[preset](), arguments.settings, fixed=("preset", "imported_autoencoder"))
        out = fit(
            data, config, Path(arguments.out), device=device, progress=engine_status(show), stop=stop, world=world
        )
        world.barrier()  # torchrun ends the others as soon as one has ended badly
    if not world.first:
        return 0
    print_line(f"checkpoint {load_checkpoint(out).checkpoint_id}")
    print_line(f"next       caskit sample --gen {name}:{preset} --checkpoint {out} --num 1000 --out DIR")
    return 0


def _fit_of(family: "Family", autoencoder: str | None) -> Callable[..., Path]:
    """Return how to fit: from the beginning, or from an autoencoder's file where the family can."""
    if autoencoder is None:
        return family.fit
    start: Callable[..., Path] | None = getattr(family, "fit_from_autoencoder", None)
    if start is None:
        raise InputError(f"--from-autoencoder: family {family.NAME} cannot start from one, vqvae2 can")
    return functools.partial(start, Path(autoencoder))
