"""Check a frozen set against its ids. Exit code 1 and one line per fault if it is not what it says.

quick  records, sizes, counts and roots
full   every byte of every tar as well
deep   every pixel as well: images decode, labels are counted, duplicates are found
"""

import argparse
import sys

from caskit.commands.options import Context
from caskit.commands.sets import open_shown, reference_text
from caskit.console import Status, meter, print_line

EXAMPLE = "caskit verify runs/digits/first --level full"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("set", metavar="SET", help="PATH_OR_URL[@sha256:prefix]")
    parser.add_argument(
        "--parent", metavar="SET", help="of reconstructions: the real set, to check that every row stands for its image"
    )
    parser.add_argument("--level", choices=("quick", "full", "deep"), default="full", help="how closely (default full)")


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Verify, and print what was checked or what is wrong."""
    from caskit.manifests.errors import IntegrityError
    from caskit.shards.dataset import open_set
    from caskit.shards.fault import BrokenSet
    from caskit.shards.parentage import check_parent
    from caskit.shards.verify import VerifyProgress, verify

    try:
        with meter() as show:

            def progress(at: VerifyProgress) -> None:
                show(Status(title=f"verify {at.stage}", done=at.done, total=at.total, unit="shards"))

            report = verify(arguments.set, arguments.level, progress=progress)
            if arguments.parent is not None:
                check_parent(open_set(arguments.set, verify=False), open_shown(arguments.parent, show))
    except BrokenSet as broken:
        for fault in broken.faults:
            print(f"caskit: fault: {fault}", file=sys.stderr)
        print(f"caskit: {broken.location} is broken: {len(broken.faults)} faults shown", file=sys.stderr)
        return 1
    except IntegrityError as error:
        print(f"caskit: fault: {error}", file=sys.stderr)
        return 1
    print_line(reference_text(report.location, report.replica.replica_id))
    print_line(f"whole at level {report.level}: " + ", ".join(f"{count:,} {name}" for name, count in report.checks))
    if arguments.parent is not None:
        print_line(f"{report.replica.num_samples:,} rows stand for those of {arguments.parent}")
    if report.num_duplicates:
        print_line(f"{report.num_duplicates:,} images have the pixels of another one")
    return 0
