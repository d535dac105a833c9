"""Audit a replica against the generator that its plan names, without trusting who made it.

Where codes were recorded, one pass checks that each code's uniform lies in the code's interval of the CDF, and that the
codes decode to the stored pixels: far cheaper than drawing again, and free in batch size and threads. --redraw draws
whole microbatches again exactly as the plan says and compares bytes; it works for every generator.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from caskit.commands.options import Context, add_allow_code, add_device, positive_integer, seed_number
from caskit.commands.sets import reference_text
from caskit.console import Status, duration_text, facts_table, make_console, meter, plain_text, print_line

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

    from caskit.gen.audit import AuditConfig, AuditProgress, AuditReport

EXAMPLE = "caskit audit runs/digits/first --checkpoint runs/digits/fit --random 100 --audit-seed 7 --out DIR"
RECORD_NAME, SHEET_NAME = "audit.json", "audit.png"
SHOWN_FAILURES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("set", metavar="SET", help="the replica, PATH_OR_URL[@sha256:prefix]")
    parser.add_argument(
        "--checkpoint", metavar="DIR", help="folder of the plan's checkpoint; a function (callable) has none"
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--keys", metavar="A,B,...", help="check these samples (default: all)")
    chosen.add_argument("--random", type=positive_integer, metavar="K", help="check K samples drawn by --audit-seed")
    parser.add_argument(
        "--audit-seed",
        type=seed_number,
        metavar="S",
        help="of --random; the draw depends on it and on the replica_id alone, so it can be published before",
    )
    parser.add_argument("--redraw", action="store_true", help="draw again (default only where no codes were recorded)")
    parser.add_argument(
        "--classifier", metavar="DIR", help="of a plan with rejection, for --redraw (default: the checkpoint's own)"
    )
    parser.add_argument(
        "--epsilon",
        type=float,
        metavar="E",
        help="how far a uniform may lie outside its code's interval (default 1e-4)",
    )
    parser.add_argument(
        "--pixel-tolerance",
        type=int,
        metavar="N",
        help="grey levels (default 0 in the replica's environment class, batch size and threads, else 1 in float32)",
    )
    parser.add_argument("--batch-size", type=positive_integer, metavar="B", help="(default: the plan's microbatch)")
    parser.add_argument("--threads", type=positive_integer, metavar="T", help="(default: the plan's)")
    parser.add_argument(
        "--allow-checkpoint", action="store_true", help="use another checkpoint, or other source, than the plan's"
    )
    add_allow_code(parser)
    parser.add_argument("--record", metavar="FILE", help="write what was found for others: a new file, JSON")
    parser.add_argument("--sign", metavar="KEY", help="of --record: sign it with this private key (PEM)")
    parser.add_argument("--out", metavar="DIR", help=f"write {RECORD_NAME} and a contact sheet, {SHEET_NAME}")
    add_device(parser)


def build_config(arguments: argparse.Namespace) -> "AuditConfig":
    """Return how the audit is made."""
    from caskit.gen.audit import AuditConfig, Selection
    from caskit.train.device import pick_device

    selection = Selection(
        keys=None if arguments.keys is None else tuple(arguments.keys.split(",")),
        num_random=arguments.random,
        seed=arguments.audit_seed,
    )
    return AuditConfig(
        selection=selection,
        mode="redraw" if arguments.redraw else None,
        epsilon=arguments.epsilon,
        pixel_tolerance=arguments.pixel_tolerance,
        batch_size=arguments.batch_size,
        threads=arguments.threads,
        device=str(pick_device(arguments.device)),
        classifier=None if arguments.classifier is None else Path(arguments.classifier),
        allow_checkpoint=arguments.allow_checkpoint,
        allow_code=arguments.allow_code,
    )


def facts_of(report: "AuditReport") -> dict[str, str]:
    """Return what was checked and under which conditions, for people."""
    counts, facts = report.counts, {}
    facts["samples"] = f"{counts.get('samples', 0):,} of {counts.get('rows', 0):,} checked ({_chosen(report)})"
    if report.mode == "redraw":
        facts["redrawn"] = f"{counts.get('microbatches', 0):,} microbatches, {counts.get('draws', 0):,} draws"
    if report.max_excess is not None:
        inside = f"{counts.get('codes', 0):,} codes, largest distance outside an interval {report.max_excess:.3g}"
        facts["codes"] = f"{inside}, allowed {report.epsilon:g}"
    if counts.get("images"):
        equal = f"{counts['images_equal']:,} of {counts['images']:,} images have equal pixels"
        facts["pixels"] = f"{equal}, largest difference {report.max_pixel_difference}, allowed {report.pixel_tolerance}"
    for name, told in (("samples_explained_by_codes", "other codes, within epsilon"), ("samples_with_a_tie", "ties")):
        if counts.get(name):
            facts[told] = f"{counts[name]:,} samples"
    if report.environment_differs:
        shown = "; ".join(report.environment_differs[:3])
        facts["environment"] = f"another class than the replica's: {shown}, so equality is not demanded"
    facts["checkpoint"] = report.checkpoint_id[:16]
    if report.checkpoint_id != report.planned_checkpoint_id:
        facts["checkpoint"] += f", NOT the plan's {report.planned_checkpoint_id[:16]}"
    facts["took"] = duration_text(report.seconds)
    return facts


def _chosen(report: "AuditReport") -> str:
    chosen = report.selection
    if chosen["kind"] == "random":
        return f"{chosen['num_random']} drawn by audit seed {chosen['seed']}"
    return "all of them" if chosen["keys"] is None else f"{len(chosen['keys'])} named"


def write_result(report: "AuditReport", out: Path) -> None:
    """Write audit.json, and the contact sheet if there is an image."""
    from caskit.gen.audit import audit_sheet
    from caskit.train.folder import write_atomic

    out.mkdir(parents=True, exist_ok=True)
    files = {SHEET_NAME: audit_sheet(report.pairs)} if report.pairs else {}
    for name, data in {**files, RECORD_NAME: report.to_bytes()}.items():

        def write(path: Path, data: bytes = data) -> None:
            path.write_bytes(data)

        write_atomic(out / name, write)


def _signer(arguments: argparse.Namespace) -> "CryptoSigner | None":
    """Read the key before anything is drawn, and see that there is room for the record."""
    from caskit.manifests.errors import InputError
    from caskit.shards.keys import read_signer

    if arguments.record is not None and os.path.lexists(arguments.record):
        raise InputError(f"{arguments.record}: is there already, a record of an audit is never overwritten")
    if arguments.sign is None:
        return None
    if arguments.record is None:
        raise InputError("--sign signs the file of --record FILE")
    return read_signer(Path(arguments.sign))


def write_record(report: "AuditReport", path: Path, signer: "CryptoSigner | None") -> None:
    """Write what an audit found, whatever it found; signed, it is a DSSE envelope."""
    import json

    from caskit.shards.audits import signed_audit

    record = report.to_bytes()
    with path.open("xb") as file:
        file.write(record if signer is None else signed_audit(json.loads(record), signer))
    how = "not signed" if signer is None else f"signed by key {signer.public_key.keyid[:16]}"
    print_line(f"record  {path}, {how}")


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Audit, print a table and the verdict."""
    from caskit.gen.audit import audit
    from caskit.manifests.errors import IntegrityError

    signer = _signer(arguments)
    config = build_config(arguments)
    checkpoint = None if arguments.checkpoint is None else Path(arguments.checkpoint)
    try:
        with meter() as show:

            def progress(at: "AuditProgress") -> None:
                show(Status(title="audit", done=at.done, total=at.total, unit="img"))

            report = audit(arguments.set, checkpoint, config, progress=progress)
    except IntegrityError as error:
        print(f"caskit: fault: {plain_text(str(error))}", file=sys.stderr)
        return 1
    if arguments.out is not None:
        write_result(report, Path(arguments.out))
    if arguments.record is not None:
        write_record(report, Path(arguments.record), signer)
    print_line(f"{reference_text(report.location, report.replica_id)}  {report.mode}")
    make_console(stderr=False).print(facts_table(facts_of(report)))
    if report.passed:
        print_line("PASS: what was checked is what the plan and the checkpoint give")
        return 0
    for failure in report.failures[:SHOWN_FAILURES]:
        print(f"caskit: fault: {plain_text(str(failure))}", file=sys.stderr)
    left = report.num_failures - min(SHOWN_FAILURES, len(report.failures))
    print_line(f"FAIL: {report.num_failures:,} faults" + (f", {left:,} of them not shown" if left else ""))
    return 1
