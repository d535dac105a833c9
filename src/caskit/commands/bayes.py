"""`caskit score --bayes`: a generator with exact likelihoods as a classifier."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caskit.commands.options import Context
from caskit.commands.sets import open_shown
from caskit.console import meter, print_line
from caskit.manifests.errors import InputError

if TYPE_CHECKING:
    from caskit.gen.checkpoint import Checkpoint
    from caskit.shards.dataset import FrozenSet


def run_bayes(arguments: argparse.Namespace, context: Context) -> int:
    """Classify by Bayes' rule, and print the result on one line."""
    from caskit.commands.engine import engine_status
    from caskit.commands.generators import family_and_preset
    from caskit.evaluate.bayes import bayes_score
    from caskit.gen.family import open_family
    from caskit.gen.planning import find_checkpoint
    from caskit.train.device import pick_device

    if arguments.baseline is not None:
        raise InputError("--baseline is of a recipe, and --bayes has none; compare the two scores yourself")
    if arguments.duplicates is not None:
        raise InputError("--duplicates is of what a classifier was trained on, and --bayes trains none")
    allow, device = arguments.allow_code, pick_device(arguments.device)
    family_and_preset(arguments.bayes, None, allow_code=allow)  # a wrong name dies before the set is read
    folder = None if arguments.checkpoint is None else Path(arguments.checkpoint)
    with meter() as show, context.stop.watched() as stop:
        data = open_shown(arguments.real, show)
        dataset = data.ingest.dataset if data.ingest is not None and folder is None else None
        name, preset = family_and_preset(arguments.bayes, dataset, allow_code=allow)
        checkpoint = find_checkpoint(name, preset, folder, allow_code=allow)
        family = open_family(name, allow_code=allow)
        generator = family.load(checkpoint, family.Settings(), device)
        log_likelihoods = getattr(generator, "log_likelihoods", None)
        if log_likelihoods is None:
            raise InputError(f"--bayes {arguments.bayes}: family {name} knows no exact likelihoods, pixelcnn does")
        _check_fits(checkpoint, data)
        record = bayes_score(
            log_likelihoods,
            data,
            generator={**_named(checkpoint.record), "checkpoint_id": checkpoint.checkpoint_id},
            out=Path(arguments.out),
            device=device,
            progress=engine_status(show, unit="batches"),
            stop=stop,
        )
    top1 = record["top1"]
    interval = f"({100 * top1['low']:.2f} to {100 * top1['high']:.2f})"
    print_line(
        f"Bayes top-1 {100 * top1['value']:.2f} % {interval}, {record['bits_per_dimension']:.3f} bits per dimension"
    )
    return 0


def _named(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ("family", "preset")}


def _check_fits(checkpoint: "Checkpoint", data: "FrozenSet") -> None:
    """Raise InputError unless a set's classes and the size of all its images are the generator's."""
    where = data.store.location
    if checkpoint.classes != data.classes:
        raise InputError(f"{where}: class list differs from that of {checkpoint.path}")
    found = {name: data.table.column(name).unique().to_pylist() for name in ("height", "width")}
    for name, values in {**found, "channels": [data.channels]}.items():
        if values != [checkpoint.record[name]]:
            raise InputError(
                f"{where}: {name} of its images is {values[0]}, of the generator's {checkpoint.record[name]}"
            )
