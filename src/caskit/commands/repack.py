"""Write the samples of a set into shards of another size: same samples, same order, same content_root.

The new set is verified in full at the end, which computes from its samples alone that the set that they were taken from
has the replica_id that packing.json names. Same command again goes on where it stopped.
"""

import argparse
import datetime
import re

from caskit.commands.options import Context
from caskit.commands.sets import open_shown, reference_text
from caskit.console import Status, facts_table, meter, print_box
from caskit.manifests.errors import InputError

EXAMPLE = "caskit repack runs/digits/first --shard-size 1GB --out runs/digits/first-1gb"
_SIZE = re.compile(r"([1-9][0-9]{0,11})\s*(kB|MB|GB|B)?")
_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}


def parse_size(text: str) -> int:
    """Parse `1GB`, `500MB` or a number of bytes. Raises argparse.ArgumentTypeError for another form."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 1GB, 500MB, 64kB or a number of bytes")
    return int(match[1]) * _UNITS[match[2] or "B"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("set", metavar="SET", help="PATH_OR_URL[@sha256:prefix]")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the repacked set")
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--samples-per-shard", type=int, metavar="N", help="samples in every shard but the last")
    size.add_argument(
        "--shard-size", type=parse_size, metavar="SIZE", help="as many samples as give no larger tar: 1GB"
    )


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Repack, verify, and print what became of it."""
    from caskit.shards.packing import largest_shard
    from caskit.shards.repack import repack
    from caskit.shards.verify import VerifyProgress, verify

    with meter() as show, context.stop.watched() as stop:
        source = open_shown(arguments.set, show)
        size = arguments.samples_per_shard
        if size is None:
            size = largest_shard(source.table.column("nbytes").to_numpy(), arguments.shard_size)
            if size == 0:
                raise InputError(f"--shard-size {arguments.shard_size} bytes: a tar of one sample is larger")
        replica = repack(
            source,
            arguments.out,
            samples_per_shard=size,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            progress=lambda done, total: show(Status(title="repack", done=done, total=total, unit="shards")),
            stop=stop,
        )

        def progress(at: VerifyProgress) -> None:
            show(Status(title=f"verify {at.stage}", done=at.done, total=at.total, unit="shards"))

        verify(arguments.out, "full", progress=progress)
    facts = {
        "set": reference_text(arguments.out, replica.replica_id),
        "from": reference_text(source.store.location, source.replica.replica_id),
        "content_root": f"{replica.content_root}, equal in both",
        "shards": f"{source.replica.num_shards:,} became {replica.num_shards:,} of up to {size:,} samples",
    }
    print_box("Repacked", [facts_table(facts)])
    return 0
