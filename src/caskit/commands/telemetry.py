"""Say how the sampling of a replica went: img/s, how busy workers were and with what, retries, stragglers.

It reads what every run recorded in the replica's work folder, killed runs included; it works while one is running.
"""

import argparse
import dataclasses
import json

from caskit.commands.options import Context
from caskit.console import duration_text, print_line

EXAMPLE = "caskit telemetry runs/digits/first"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("replica", metavar="REPLICA", help="folder of a replica, frozen or not")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Read the records and print their sum."""
    from caskit.gen.workload import summarise
    from caskit.shards.store import open_store

    found = summarise(open_store(arguments.replica))
    if arguments.json:
        print_line(json.dumps(dataclasses.asdict(found)))
        return 0
    unended = f", {found.num_unended} without an end (killed, or at work)" if found.num_unended else ""
    print_line(f"runs        {found.num_runs}{unended}, at most {found.num_workers} workers at once")
    print_line(f"drawn       {found.num_images:,} images in {found.num_shards:,} shards, {found.num_redrawn:,} redrawn")
    print_line(f"rate        {found.images_per_s:,.1f} img/s over {duration_text(found.wall_s)} at work")
    print_line(
        f"busy        {found.busy:.1%} of the workers' time; processors computed {duration_text(found.processor_s)}"
    )
    shares = ", ".join(f"{phase} {share:.1%}" for phase, share in found.shares.items())
    print_line(f"shares      {shares or 'no shard was drawn'}")
    for name, kinds in (("retried", found.retried), ("failed", found.failed)):
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        print_line(f"{name:<12}{sum(kinds.values())}{f' ({listed})' if listed else ''}")
    print_line(f"stragglers  {found.num_stragglers}")
    for slow in found.stragglers:
        by = f" by {slow.worker}" if slow.worker else ""
        print_line(f"  shard {slow.shard}: {duration_text(slow.seconds)}, {slow.times_median:.1f} times the median{by}")
    if found.num_unreadable:
        print_line(f"unreadable  {found.num_unreadable} lines")
    return 0
