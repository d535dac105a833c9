"""Publish a frozen set: copy it to s3://, gs://, az://, hf:// or another folder, each file once, looked at on arrival.

The set is checked in full first; replica.json is written last, so a set that can be read there is whole. The same
command again goes on, or adds signatures that were made since. Nothing below _work/ is published. A store that lets a
file be overwritten is refused. On the Hugging Face Hub it is commits, of which the last one brings replica.json; a
dataset that is not there is made, private. Credentials come from the environment (docs/storage.md).
"""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from caskit.commands.options import Context, positive_integer
from caskit.commands.sets import reference_text
from caskit.console import Meter, Status, bytes_text, meter, print_line

if TYPE_CHECKING:
    from caskit.shards.remote.progress import Transfer, TransferConfig

EXAMPLE = "caskit push runs/digits/first s3://bucket/digits/first"
DEFAULT_WORKERS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("set", metavar="SET", help="PATH[@sha256:prefix]")
    where = "where to: s3://BUCKET/PREFIX, gs://, az://, hf://datasets/ORG/NAME[@BRANCH]/PATH, or a folder"
    parser.add_argument("url", metavar="URL", help=where)
    add_transfer(parser)


def add_transfer(parser: argparse.ArgumentParser) -> None:
    """Add the flags of both directions."""
    parser.add_argument(
        "--workers",
        type=positive_integer,
        default=DEFAULT_WORKERS,
        metavar="W",
        help=f"files in work at a time (default {DEFAULT_WORKERS})",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be moved, move nothing")


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Push, and print the reference of the published set."""
    from caskit.shards.remote.push import push

    with meter() as show, context.stop.watched() as stop:
        moved = push(arguments.set, arguments.url, transfer_config("push", arguments, show, stop))
    print_transfer(moved, dry_run=arguments.dry_run)
    return 0


def transfer_config(
    title: str, arguments: argparse.Namespace, show: Meter, stop: Callable[[], bool]
) -> "TransferConfig":
    """Return how the flags of `add_transfer` want a transfer done, shown on the meter under a title."""
    from caskit.shards.remote.progress import TransferConfig, TransferProgress
    from caskit.shards.verify import VerifyProgress

    def verifying(at: VerifyProgress) -> None:
        show(Status(title=f"verify {at.stage}", done=at.done, total=at.total, unit="shards"))

    def progress(at: TransferProgress) -> None:
        sizes = f"{bytes_text(at.bytes_done)}/{bytes_text(at.num_bytes)}"
        show(Status(title=title, done=at.files_done, total=at.num_files, unit="files", details={"bytes": sizes}))

    return TransferConfig(
        workers=arguments.workers, dry_run=arguments.dry_run, verifying=verifying, progress=progress, stop=stop
    )


def print_transfer(moved: "Transfer", *, dry_run: bool) -> None:
    """Print where the set is, and what was moved."""
    verb = "to move" if dry_run else "moved"
    print_line(reference_text(moved.location, moved.replica_id))
    print_line(
        f"{verb}: {moved.files_moved:,} of {moved.num_files:,} files, "
        f"{bytes_text(moved.bytes_moved)} of {bytes_text(moved.num_bytes)}"
    )
