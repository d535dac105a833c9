"""Write labelled images of another program as a frozen set of kind `imported`: digests of everything, seeds of nothing.

SOURCE is a folder of class folders; an .npz with arr_0 (uint8 images) and arr_1 (labels); a Hugging Face dataset in
Parquet files; or WebDataset tars (KEY.jpg beside KEY.cls, a field of KEY.json, or a prompt in KEY.txt). Labels are
required, and images of one size. What cannot be audited about such a set stands in its provenance.json and on its card.
"""

import argparse
from pathlib import Path

from caskit.commands.options import Context, add_out, positive_integer
from caskit.commands.sets import open_shown, reference_text
from caskit.console import Status, meter, print_line

EXAMPLE = "caskit import samples.npz --classes runs/digits/real/train --out runs/digits/imported"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("source", metavar="SOURCE", help="path of the images")
    parser.add_argument(
        "--classes",
        metavar="FILE",
        help="class list in label order: a text file with a name per line, .json, .csv with name (and id), or a caskit "
        "set; needed where the source has numbers only and the set is to be compared with another",
    )
    parser.add_argument(
        "--label-field", metavar="NAME", help="column of labels (parquet), or field of the .json members (img2dataset)"
    )
    parser.add_argument("--image-field", metavar="NAME", help="column of images (parquet), if there are several")
    parser.add_argument(
        "--prompt-classes",
        metavar="FILE",
        help="labels are prompts (.txt members, or the label field): table from prompt to class name, .json or .csv "
        "with columns prompt and class",
    )
    parser.add_argument("--split", metavar="NAME", help="train, validation or test, of a source that has several")
    parser.add_argument(
        "--channels",
        type=positive_integer,
        metavar="C",
        help="1 or 3: how images are read, where that loses nothing (default: as the first image)",
    )
    parser.add_argument("--name", metavar="TEXT", help="what to call the set; part of its identity")
    parser.add_argument("--generator", metavar="TEXT", help="what made the images, noted in provenance.json as stated")
    parser.add_argument("--licence", metavar="TEXT", help="noted in provenance.json")
    parser.add_argument("--samples-per-shard", type=positive_integer, metavar="K", help="samples in a shard")
    parser.add_argument("--skip-bad", action="store_true", help="list unreadable images in skipped.parquet and go on")
    add_out(parser, "folder of the set")


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Import what is not imported yet, and print the reference of the set."""
    from caskit.manifests.errors import InputError
    from caskit.manifests.plan import DEFAULT_SAMPLES_PER_SHARD
    from caskit.shards.imports import import_source
    from caskit.shards.ingest import IngestProgress
    from caskit.shards.sources.classes import read_classes
    from caskit.shards.sources.labels import read_prompts
    from caskit.shards.sources.recognise import CASKIT, Options, form_of, recognise

    path, out = Path(arguments.source), Path(arguments.out)
    if form_of(path) == CASKIT:
        with meter() as show:
            data = open_shown(arguments.source, show)
        print_line(f"{reference_text(path, data.replica.replica_id)}  a caskit set already, used as it is")
        return 0
    if out.resolve().is_relative_to(path.resolve()):
        raise InputError(f"{out}: lies inside {path}, the set would become part of its own source; use another folder")
    options = Options(
        split=arguments.split,
        classes=None if arguments.classes is None else read_classes(Path(arguments.classes)),
        label_field=arguments.label_field,
        image_field=arguments.image_field,
        prompts=None if arguments.prompt_classes is None else read_prompts(Path(arguments.prompt_classes)),
    )
    with meter() as show, context.stop.watched() as stop:

        def progress(at: IngestProgress) -> None:
            show(Status(title=f"{at.stage} {path.name}", done=at.done, total=at.total, unit="img"))

        replica = import_source(
            recognise(path, options),
            out,
            name=arguments.name,
            generator=arguments.generator,
            licence=arguments.licence,
            channels=arguments.channels,
            samples_per_shard=arguments.samples_per_shard or DEFAULT_SAMPLES_PER_SHARD,
            skip_bad=arguments.skip_bad,
            progress=progress,
            stop=stop,
        )
    print_line(f"{reference_text(out, replica.replica_id)}  {replica.num_samples:,} images, imported")
    print_line("no seeds are known: what cannot be audited is listed in its provenance.json")
    return 0
