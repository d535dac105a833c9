"""Fetch a real dataset and write it as frozen sets: OUT/train, OUT/test and what other splits it has."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from caskit.commands.options import Context, add_out, positive_integer
from caskit.commands.sets import reference_text
from caskit.console import Status, meter, print_line

if TYPE_CHECKING:
    from caskit.shards.sources.resizing import Resize

_MB = 1_000_000
EXAMPLE = "caskit data fashion-mnist --out runs/fashion-mnist/real"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "name", metavar="NAME", help="fashion-mnist, digits, cifar10, cifar100, imagenet or imagefolder:PATH"
    )
    parser.add_argument(
        "--from", dest="from_path", metavar="PATH", help="folder with the dataset's files, or its archive, else fetched"
    )
    add_out(parser, "folder that gets one set per split")
    parser.add_argument(
        "--split", default="train", help="what an imagefolder without split folders is: train, validation or test"
    )
    parser.add_argument(
        "--resolution",
        type=positive_integer,
        metavar="R",
        help="store the centre square of every image at RxR, as RGB (imagenet, imagefolder; default: the files' bytes)",
    )
    parser.add_argument(
        "--filter", metavar="NAME", help="how it is resampled: bicubic (default), bilinear, lanczos, box or adm"
    )
    parser.add_argument("--codec", metavar="NAME", help="how it is stored: png (default), jpeg or webp")
    parser.add_argument("--partial", action="store_true", help="take what there is of imagenet, not all of it")
    parser.add_argument("--samples-per-shard", type=positive_integer, metavar="K", help="samples in a shard")
    parser.add_argument("--threads", type=positive_integer, metavar="T", help="that decode and encode (default: cores)")
    parser.add_argument("--skip-bad", action="store_true", help="list unreadable images in skipped.parquet and go on")


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Ingest every split of the dataset that is not there yet."""
    from caskit.manifests.plan import DEFAULT_SAMPLES_PER_SHARD
    from caskit.shards.ingest import IngestProgress, ingest
    from caskit.shards.sources import SOURCES, load

    out, samples_per_shard = Path(arguments.out), arguments.samples_per_shard or DEFAULT_SAMPLES_PER_SHARD
    resize = _resize(arguments)
    simple = arguments.name in SOURCES and arguments.from_path is None and resize is None and not arguments.partial
    if simple and _is_there(out, arguments.name, samples_per_shard):
        return 0
    with meter() as show, context.stop.watched() as stop:

        def told(name: str, done: int, total: int) -> None:
            show(Status(title=f"read {name}", done=done // _MB, total=total // _MB, unit="MB"))

        sources = load(
            arguments.name,
            from_path=None if arguments.from_path is None else Path(arguments.from_path),
            split=arguments.split,
            resize=resize,
            partial=arguments.partial,
            told=told,
            stop=stop,
        )
        replicas = {}
        for split, source in sources.items():

            def progress(at: IngestProgress, split: str = split) -> None:
                show(Status(title=f"{at.stage} {split}", done=at.done, total=at.total, unit="img"))

            replicas[split] = ingest(
                source,
                out / split,
                samples_per_shard=samples_per_shard,
                skip_bad=arguments.skip_bad,
                threads=arguments.threads,
                progress=progress,
                stop=stop,
            )
    for split, replica in replicas.items():
        print_line(f"{reference_text(out / split, replica.replica_id)}  {replica.num_samples:,} images")
    return 0


def _resize(arguments: argparse.Namespace) -> "Resize | None":
    """Return the size that images are stored at. Raises InputError for settings of a size that is not given."""
    from caskit.manifests.codec import Codec
    from caskit.manifests.errors import InputError
    from caskit.shards.sources.resizing import Resize

    if arguments.resolution is None:
        given = [flag for flag in ("filter", "codec") if getattr(arguments, flag) is not None]
        if given:
            raise InputError(f"--{given[0]} is for images that are resized: --resolution R says to what")
        return None
    return Resize(
        side=arguments.resolution, filter=arguments.filter or "bicubic", codec=Codec.of(arguments.codec or "png")
    )


def _is_there(out: Path, name: str, samples_per_shard: int) -> bool:
    """Say whether a dataset of pinned files was written here by the same command, so that nothing need be fetched."""
    from caskit.manifests.canonical import parse_canonical
    from caskit.manifests.ingest import Ingest
    from caskit.manifests.replica import Replica

    lines = []
    for split in ("train", "test"):
        replica_path, ingest_path = out / split / "replica.json", out / split / "ingest.json"
        if not (replica_path.exists() and ingest_path.exists()):
            return False
        replica = Replica.from_json(parse_canonical(replica_path.read_bytes(), name=str(replica_path)))
        record = Ingest.from_json(parse_canonical(ingest_path.read_bytes(), name=str(ingest_path)))
        if (record.dataset, record.split, record.samples_per_shard) != (name, split, samples_per_shard):
            return False
        if replica.origin_sha256 != record.ingest_id:
            return False
        lines.append(
            f"{reference_text(out / split, replica.replica_id)}  {replica.num_samples:,} images, already there"
        )
    for line in lines:
        print_line(line)
    return True
