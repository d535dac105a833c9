"""Fetch a published set into a folder: every file is held to its digest on arrival, and the whole is checked in full.

The set's records come first, since they say what every tar must be; with `URL@sha256:prefix` they have to be those of
that replica_id. The same command again goes on. Credentials come from the environment (docs/storage.md).
"""

import argparse
from pathlib import Path

from caskit.commands.options import Context
from caskit.commands.push import add_transfer, print_transfer, transfer_status
from caskit.console import Status, meter

EXAMPLE = "caskit pull s3://bucket/digits/first@sha256:0123456789abcdef runs/pulled"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("set", metavar="URL", help="URL_OR_PATH[@sha256:prefix]: s3://, gs://, az://, http(s)://")
    parser.add_argument("dir", metavar="DIR", help="folder to fetch it into")
    add_transfer(parser)


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Pull, and print the reference of the set."""
    from caskit.shards.remote.progress import TransferProgress
    from caskit.shards.remote.pull import pull
    from caskit.shards.verify import VerifyProgress

    with meter() as show, context.stop.watched() as stop:

        def verifying(at: VerifyProgress) -> None:
            show(Status(title=f"verify {at.stage}", done=at.done, total=at.total, unit="shards"))

        def progress(at: TransferProgress) -> None:
            show(transfer_status("pull", at))

        moved = pull(
            arguments.set,
            Path(arguments.dir),
            workers=arguments.workers,
            dry_run=arguments.dry_run,
            verifying=verifying,
            progress=progress,
            stop=stop,
        )
    print_transfer(moved, dry_run=arguments.dry_run)
    return 0
