"""Make a damaged set in a folder whole again, and prove that its ids are what they were.

Bad and missing files are found by the digests that the replica_id covers. --from MIRROR fetches them from another copy,
any place that `caskit pull` reads; --resample draws bad shards again with the plan's generator, in the environment
class that the set was drawn in. Neither is believed: a file gets its name only with the due digest. What is good is
not touched. If replica.json itself is lost, the reference says which set is due: DIR@sha256:ID.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from caskit.commands.options import Context, add_allow_code, add_device
from caskit.commands.sets import reference_text
from caskit.console import Status, facts_table, meter, plain_text, print_box, print_line
from caskit.manifests.errors import InputError

if TYPE_CHECKING:
    from caskit.shards.damage import Source
    from caskit.shards.repair import Repaired

EXAMPLE = "caskit repair runs/digits/first --from s3://bucket/digits/first"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("set", metavar="SET", help="DIR[@sha256:prefix], a folder")
    ways = parser.add_mutually_exclusive_group(required=True)
    ways.add_argument("--from", dest="mirror", metavar="MIRROR", help="URL or folder of another copy of the set")
    ways.add_argument("--resample", action="store_true", help="draw bad shards again")
    parser.add_argument(
        "--checkpoint", metavar="DIR", help="for --resample: folder of the plan's checkpoint (default: what ships)"
    )
    parser.add_argument(
        "--classifier", metavar="DIR", help="for --resample: of a plan with rejection (default: the checkpoint's own)"
    )
    add_allow_code(parser)
    add_device(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what is bad, replace nothing")


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Repair, and print what was replaced."""
    from caskit.shards.repair import RepairProgress, repair
    from caskit.shards.verify import VerifyProgress

    with meter() as show, context.stop.watched() as stop:

        def progress(at: RepairProgress) -> None:
            show(Status(title=at.stage, done=at.done, total=at.total, unit="files"))

        def verifying(at: VerifyProgress) -> None:
            show(Status(title=f"verify {at.stage}", done=at.done, total=at.total, unit="shards"))

        repaired = repair(
            arguments.set,
            _source(arguments),
            dry_run=arguments.dry_run,
            progress=progress,
            verifying=verifying,
            stop=stop,
        )
    print_repaired(repaired, dry_run=arguments.dry_run)
    return 0


def print_repaired(repaired: "Repaired", *, dry_run: bool) -> None:
    """Print every bad file, and the ids."""
    for name, reason in repaired.reasons.items():
        print_line(f"{'bad' if dry_run else 'replaced'}  {name}: {plain_text(reason)}")
    replica, num = repaired.replica, len(repaired.reasons)
    proven = "due" if dry_run else "as before, verified in full"
    facts = {
        "set": reference_text(repaired.location, replica.replica_id),
        "replica_id": f"{replica.replica_id}, {proven}",
        "content_root": f"{replica.content_root}, {proven}",
        "files": f"{num:,} {'bad' if dry_run else 'replaced'}, {repaired.num_good:,} good and not touched",
    }
    print_box("Damage" if dry_run else "Repaired", [facts_table(facts)])


def _source(arguments: argparse.Namespace) -> "Source":
    """Return where good files come from."""
    if arguments.mirror is not None:
        for flag in ("checkpoint", "classifier"):
            if getattr(arguments, flag) is not None:
                raise InputError(f"--{flag} goes with --resample")
        from caskit.shards.remote.refetch import Mirror

        return Mirror(arguments.mirror)
    from caskit.commands.sample import device_name
    from caskit.gen.redrawing import RedrawConfig, Redrawing

    return Redrawing(
        RedrawConfig(
            checkpoint=None if arguments.checkpoint is None else Path(arguments.checkpoint),
            classifier=None if arguments.classifier is None else Path(arguments.classifier),
            device=device_name(arguments.device),
            allow_code=arguments.allow_code,
        )
    )
