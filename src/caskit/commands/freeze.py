"""Close a replica whose shards were sampled with --no-freeze or --part: check, count, and write replica.json last."""

import argparse

from caskit.commands.options import Context
from caskit.commands.sets import reference_text
from caskit.console import print_line

EXAMPLE = "caskit freeze runs/digits/first"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("dir", metavar="DIR", help="folder or URL of the replica")
    parser.add_argument("--licence", metavar="TEXT", help="noted in provenance.json")


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Freeze, and print the reference of the set."""
    from caskit.gen.sampling import freeze_replica

    replica = freeze_replica(arguments.dir, licence=arguments.licence)
    print_line(f"{reference_text(arguments.dir, replica.replica_id)}  {replica.num_samples:,} images")
    return 0
