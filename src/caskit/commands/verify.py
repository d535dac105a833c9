"""Check a frozen set against its ids. Exit code 1 and one line per fault if it is not what it says.

quick  records, sizes, counts and roots
full   every byte of every tar as well
deep   every pixel as well: images decode, labels are counted, duplicates are found

--in-place checks a published set where it lies, from its records and what its store states, without a copy of it.

With --trusted-keys, signatures by these keys are checked first (`caskit sign`); with --require-signature there has to
be one. With --audit-record, what a trusted key says that an audit of this set found has to be nothing.
"""

import argparse
import sys

from caskit.commands.options import Context
from caskit.commands.sets import open_shown, reference_text
from caskit.console import Status, meter, plain_text, print_line

EXAMPLE = "caskit verify runs/digits/first --level full"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("set", metavar="SET", help="PATH_OR_URL[@sha256:prefix]")
    parser.add_argument(
        "--parent", metavar="SET", help="of reconstructions: the real set, to check that every row stands for its image"
    )
    parser.add_argument("--trusted-keys", metavar="FILE", help="public keys (PEM) whose signatures are checked")
    parser.add_argument("--require-signature", action="store_true", help="fail unless one of them signed the set")
    parser.add_argument("--audit-record", metavar="FILE", help="of `caskit audit --sign`, by one of --trusted-keys")
    parser.add_argument(
        "--in-place",
        nargs="?",
        const="stated",
        choices=("stated", "read"),
        help="of a URL: keep no copy; tars by the SHA-256 that the store states, else, or with `read`, by reading them",
    )
    parser.add_argument("--level", choices=("quick", "full", "deep"), default="full", help="how closely (default full)")


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Verify, and print what was checked or what is wrong."""
    from caskit.manifests.errors import InputError, IntegrityError
    from caskit.shards.dataset import open_set
    from caskit.shards.fault import BrokenSet
    from caskit.shards.parentage import check_parent
    from caskit.shards.remote.in_place import verify_in_place
    from caskit.shards.verify import VerifyProgress, verify

    if arguments.require_signature and arguments.trusted_keys is None:
        raise InputError("--require-signature needs --trusted-keys FILE: whose signature?")
    if arguments.in_place is not None and (arguments.level != "full" or arguments.parent is not None):
        raise InputError("--in-place is a level of its own and takes no --parent; leave --level and --parent out")
    if arguments.audit_record is not None and arguments.trusted_keys is None:
        raise InputError("--audit-record needs --trusted-keys FILE: whose audit counts?")
    try:
        signed = _signed(arguments) + _audited(arguments)
        with meter() as show:

            def progress(at: VerifyProgress) -> None:
                show(Status(title=f"verify {at.stage}", done=at.done, total=at.total, unit="shards"))

            if arguments.in_place is None:
                report = verify(arguments.set, arguments.level, progress=progress)
            else:
                trust = arguments.in_place == "stated"
                report = verify_in_place(arguments.set, trust_store=trust, progress=progress)
            if arguments.parent is not None:
                check_parent(open_set(arguments.set, verify=False), open_shown(arguments.parent, show))
    except BrokenSet as broken:
        for fault in broken.faults:
            print(f"caskit: fault: {plain_text(str(fault))}", file=sys.stderr)
        print(f"caskit: {broken.location} is broken: {len(broken.faults)} faults shown", file=sys.stderr)
        return 1
    except IntegrityError as error:
        print(f"caskit: fault: {plain_text(str(error))}", file=sys.stderr)
        return 1
    print_line(reference_text(report.location, report.replica.replica_id))
    how = "in place" if arguments.in_place is not None else f"at level {report.level}"
    print_line(f"whole {how}: " + ", ".join(f"{count:,} {name}" for name, count in report.checks))
    for line in signed:
        print_line(line)
    if arguments.parent is not None:
        print_line(f"{report.replica.num_samples:,} rows stand for those of {arguments.parent}")
    if report.num_duplicates:
        print_line(f"{report.num_duplicates:,} images have the pixels of another one")
    return 0


def _audited(arguments: argparse.Namespace) -> list[str]:
    """Check a record of an audit and say what it found. Raises IntegrityError for a wrong one, or one that failed."""
    from pathlib import Path

    from caskit.manifests.errors import IntegrityError
    from caskit.manifests.sets import SetReference
    from caskit.shards.audits import read_audit
    from caskit.shards.keys import read_trusted
    from caskit.shards.records import read_replica
    from caskit.shards.store import open_store

    if arguments.audit_record is None:
        return []
    path = Path(arguments.audit_record)
    replica = read_replica(open_store(SetReference.parse(arguments.set).location))
    record, keyid = read_audit(path, read_trusted(Path(arguments.trusted_keys)), replica_id=replica.replica_id)
    num, who = record["counts"].get("samples", 0), f"key {keyid[:16]}"
    if not record["passed"]:
        raise IntegrityError(f"{path}: {who} found {record['num_failures']} faults in an audit of {num} samples")
    return [f"audited by {who}: {num:,} samples, {record['mode']}, nothing was found"]


def _signed(arguments: argparse.Namespace) -> list[str]:
    """Check signatures and say whose they are. Raises IntegrityError for a wrong one, or none where one is required."""
    from pathlib import Path

    from caskit.manifests.sets import SetReference
    from caskit.shards.signatures import check, envelope_names, require
    from caskit.shards.store import open_store

    store = open_store(SetReference.parse(arguments.set).location)
    if arguments.trusted_keys is None:
        num = len(envelope_names(store))
        return [f"signatures: {num:,}, not checked; --trusted-keys FILE says whose count"] if num else []
    from caskit.shards.keys import read_trusted

    signatures = check(store, read_trusted(Path(arguments.trusted_keys)))
    if arguments.require_signature:
        require(signatures, store.location)
    return [f"signed by trusted key {keyid[:16]}" for keyid in signatures.trusted] + [
        f"signed by key {keyid[:16]}, which is not trusted: not checked" for keyid in signatures.unknown
    ]
