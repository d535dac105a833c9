"""Fetch a real dataset and write it as frozen sets: OUT/train, OUT/test and what other splits it has."""

import argparse
from pathlib import Path

from caskit.commands.options import Context, add_out, positive_integer
from caskit.commands.sets import reference_text
from caskit.console import Status, meter, print_line

EXAMPLE = "caskit data fashion-mnist --out runs/fashion-mnist/real"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("name", metavar="NAME", help="fashion-mnist, digits or imagefolder:PATH")
    parser.add_argument("--from", dest="from_dir", metavar="DIR", help="folder with the dataset's files, else fetched")
    add_out(parser, "folder that gets one set per split")
    parser.add_argument(
        "--split", default="train", help="what an imagefolder without split folders is: train, validation or test"
    )
    parser.add_argument("--samples-per-shard", type=positive_integer, metavar="K", help="samples in a shard")
    parser.add_argument("--skip-bad", action="store_true", help="list unreadable images in skipped.parquet and go on")


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Ingest every split of the dataset that is not there yet."""
    from caskit.manifests.plan import DEFAULT_SAMPLES_PER_SHARD
    from caskit.shards.ingest import IngestProgress, ingest
    from caskit.shards.sources import SOURCES, load

    out, samples_per_shard = Path(arguments.out), arguments.samples_per_shard or DEFAULT_SAMPLES_PER_SHARD
    if arguments.name in SOURCES and arguments.from_dir is None and _is_there(out, arguments.name, samples_per_shard):
        return 0
    from_dir = None if arguments.from_dir is None else Path(arguments.from_dir)
    sources = load(arguments.name, from_dir=from_dir, split=arguments.split)
    with meter() as show, context.stop.watched() as stop:
        replicas = {}
        for split, source in sources.items():

            def progress(at: IngestProgress, split: str = split) -> None:
                show(Status(title=f"{at.stage} {split}", done=at.done, total=at.total, unit="img"))

            replicas[split] = ingest(
                source,
                out / split,
                samples_per_shard=samples_per_shard,
                skip_bad=arguments.skip_bad,
                progress=progress,
                stop=stop,
            )
    for split, replica in replicas.items():
        print_line(f"{reference_text(out / split, replica.replica_id)}  {replica.num_samples:,} images")
    return 0


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
