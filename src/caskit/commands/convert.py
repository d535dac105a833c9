"""Make a checkpoint from a file of published weights: strictly, without running anything that is in it.

The file's SHA-256 goes into the checkpoint's config, and so into its id.
"""

import argparse
from pathlib import Path

from caskit.commands.options import Context, add_out
from caskit.console import Status, meter, print_line
from caskit.manifests.errors import InputError

EXAMPLE = "caskit convert --gen biggan_deep:imagenet-256 --from pytorch_model.bin --out runs/biggan-256"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--gen", required=True, metavar="FAMILY:PRESET", help="what the file holds")
    parser.add_argument(
        "--from",
        required=True,
        dest="source",
        metavar="FILE_OR_URL",
        help="path or http(s) address; an address may end with #sha256=HEX (biggan_deep: a pytorch_model.bin of "
        "pytorch-pretrained-biggan)",
    )
    parser.add_argument("--sha256", metavar="HEX", help="what the file's digest must be")
    add_out(parser, "folder of the checkpoint")


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Convert, and print the checkpoint's id."""
    from caskit.commands.generators import family_and_preset
    from caskit.gen.family import open_family
    from caskit.gen.fetching import local_file

    family, preset = family_and_preset(arguments.gen, None)
    convert = getattr(open_family(family, allow_code=False), "convert", None)
    if convert is None:
        raise InputError(f"--gen {arguments.gen}: nothing is known that family {family} could be converted from")
    if preset is None:
        raise InputError(f"--gen {arguments.gen}: name the preset that the file holds, {family}:PRESET")
    with meter() as show:

        def report(done: int, total: int | None) -> None:
            show(Status(title="fetch", done=done // 10**6, total=(total or done) // 10**6, unit="MB"))

        with local_file(arguments.source, sha256=arguments.sha256, report=report) as (path, digest):
            checkpoint = convert(path, preset, Path(arguments.out), sha256=digest)
    print_line(f"file       sha256 {digest}")
    print_line(f"checkpoint {checkpoint.checkpoint_id}")
    if context.stage is None:
        print_line(
            f"next       caskit sample --gen {family}:{preset} --checkpoint {arguments.out} --num 1000 --out DIR"
        )
    return 0
