"""Fetch a published set into a folder: every file is held to its digest on arrival, and the whole is checked in full.

--classes, --shards or --keys fetch a part: a set of kind view, which names the whole set by its replica_id and proves
that its samples are that set's. Only their rows and the bytes of their images move.

The set's records come first, since they say what every tar must be; with `URL@sha256:prefix` they have to be those of
that replica_id. The same command again goes on. Credentials come from the environment (docs/storage.md).
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from caskit.commands.options import Context, positive_integer
from caskit.commands.push import add_transfer, print_transfer, transfer_config
from caskit.console import meter, print_line
from caskit.manifests.errors import InputError
from caskit.manifests.sets import SetReference

if TYPE_CHECKING:
    from caskit.shards.remote.subset import Part

EXAMPLE = "caskit pull s3://bucket/digits/first@sha256:0123456789abcdef runs/pulled"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "set", metavar="URL", help="URL_OR_PATH[@sha256:prefix]: s3://, gs://, az://, http(s)://, hf://"
    )
    parser.add_argument("dir", metavar="DIR", help="folder to fetch it into")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--classes", metavar="C,C", help="only these classes, by label or id")
    part.add_argument(
        "--shards", type=positive_integer, metavar="K", help="only the first K shards, evenly of all classes"
    )
    part.add_argument("--keys", metavar="FILE", help="only the samples whose keys stand in FILE, one a line")
    parser.add_argument(
        "--waste",
        type=float,
        metavar="F",
        help="of a part: bytes beside the images that may come too, as a share (default 0.04; more is fewer requests)",
    )
    add_transfer(parser)


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Pull, and print the reference of the set."""
    from caskit.shards.remote.pull import pull
    from caskit.shards.remote.ranges import WASTE
    from caskit.shards.remote.subset import pull_part

    waste = WASTE if arguments.waste is None else arguments.waste
    with meter() as show, context.stop.watched() as stop:
        config, part, out = transfer_config("pull", arguments, show, stop), _part(arguments), Path(arguments.dir)
        if part is None:
            moved = pull(arguments.set, out, config)
        else:
            moved = pull_part(arguments.set, out, part, config, waste=waste)
    if moved.source.rstrip("/") != SetReference.parse(arguments.set).location.rstrip("/"):
        print_line(f"from {moved.source}")  # a branch on the Hub, at the commit that was read
    print_transfer(moved, dry_run=arguments.dry_run)
    return 0


def _part(arguments: argparse.Namespace) -> "Part | None":
    """Return which samples the flags ask for, None for all of them."""
    from caskit.shards.remote.subset import Part

    if arguments.classes is not None:
        return Part(select="classes", names=tuple(arguments.classes.split(",")))
    if arguments.shards is not None:
        return Part(select=f"first-shards:{arguments.shards}")
    if arguments.keys is not None:
        return Part(select="keys", names=tuple(Path(arguments.keys).read_text().split()))
    if arguments.waste is not None:
        raise InputError("--waste goes with --classes, --shards or --keys")
    return None
