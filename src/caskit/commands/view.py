"""Serve a set as pages to a browser on this machine: classes, images by byte range, and the row behind each.

With --checkpoint, a sample of a replica can be drawn again from its page and compared with what is stored. Every image
is hashed when it is shown; only `caskit verify` reads all of them. Ctrl-C ends it.
"""

import argparse
import dataclasses
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from caskit.commands.options import Context, add_allow_code, add_device
from caskit.console import print_line
from caskit.manifests.errors import InputError

if TYPE_CHECKING:
    from caskit.evaluate.view import Browser, Redrawn
    from caskit.gen.audit import AuditConfig

EXAMPLE = "caskit view runs/digits/first --checkpoint runs/digits/fit"
POLL_S = 0.2


def port_number(text: str) -> int:
    """Parse a port. Raises argparse.ArgumentTypeError for what is none."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port, allowed: 0..65535")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("set", metavar="SET", help="PATH_OR_URL[@sha256:prefix]")
    parser.add_argument("--port", type=port_number, default=0, metavar="P", help="(default: a free one)")
    parser.add_argument("--checkpoint", metavar="DIR", help="of the replica's plan, to draw samples again")
    parser.add_argument(
        "--classifier",
        metavar="DIR",
        help="of a plan with rejection, to draw samples again (default: the checkpoint's own)",
    )
    add_allow_code(parser)
    add_device(parser)


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Serve until asked to stop."""
    from caskit.evaluate.view import Browser, serve

    browser = Browser(arguments.set)
    redraw, redraws = redrawing(arguments, browser)
    with (
        context.stop.watched() as stop,
        serve(browser, redraw=redraw, redraws=redraws, port=arguments.port) as address,
    ):
        print_line(address)
        while not stop():
            time.sleep(POLL_S)
    return 0


def redrawing(arguments: argparse.Namespace, browser: "Browser") -> "tuple[Callable[[str], Redrawn] | None, str]":
    """Return what draws a sample again, or None, and what that is, for people.

    Raises:
        InputError: a checkpoint for a set that no plan stands for.
    """
    from caskit.manifests.plan import Plan

    plan, location = browser.records.origin, browser.records.store.location
    if not isinstance(plan, Plan):
        if arguments.checkpoint is not None:
            raise InputError(f"{location}: is a {browser.replica.kind} set, only samples of a replica are drawn again")
        return None, f"not possible: a {browser.replica.kind} set has no plan"
    if arguments.checkpoint is None and not (arguments.allow_code and plan.family == "callable"):
        return None, "needs the checkpoint of its plan: caskit view --checkpoint DIR"

    from caskit.gen.audit import AuditConfig, Selection
    from caskit.train.device import pick_device

    config = AuditConfig(
        mode="redraw",
        device=str(pick_device(arguments.device)),
        classifier=None if arguments.classifier is None else Path(arguments.classifier),
        allow_code=arguments.allow_code,
    )
    checkpoint = None if arguments.checkpoint is None else Path(arguments.checkpoint)
    reference = f"{location}@sha256:{browser.replica.replica_id}"

    def redraw(key: str) -> "Redrawn":
        return draw_again(reference, checkpoint, dataclasses.replace(config, selection=Selection(keys=(key,))))

    return redraw, f"draws the {plan.microbatch_size} samples of its microbatch as the plan says, and compares"


def draw_again(reference: str, checkpoint: Path | None, config: "AuditConfig") -> "Redrawn":
    """Audit one sample by drawing it again, and return it beside what is stored."""
    import numpy as np
    from PIL import Image

    from caskit.evaluate.view import Redrawn
    from caskit.gen.audit import audit

    report = audit(reference, checkpoint, config)
    images = {}
    for pair in (pair for pair in report.pairs if pair.key in (config.selection.keys or ())):
        difference = np.abs(pair.stored.astype(np.int64) - pair.again.astype(np.int64))
        shown = {"stored": pair.stored, "drawn again": pair.again, "difference x 10": np.minimum(10 * difference, 255)}
        for name, pixels in shown.items():
            buffer = io.BytesIO()
            plain = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
            Image.fromarray(np.ascontiguousarray(plain.astype(np.uint8))).save(buffer, format="PNG")
            images[name] = buffer.getvalue()
    how = "equal bytes" if report.exact else f"pixels within {report.pixel_tolerance} grey levels"
    verdict = f"The checkpoint draws it: {how}." if report.passed else "The checkpoint does not draw what is stored."
    return Redrawn(images=images, verdict=verdict, faults=tuple(str(failure) for failure in report.failures[:5]))
