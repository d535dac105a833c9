"""Pass a real set through a generator's autoencoder: a set of reconstructions, each under the key of its real image.

The same command again goes on where it stopped; any number of workers gives the same bytes.
"""

import argparse
import dataclasses
from pathlib import Path

from caskit.commands.options import Context, add_allow_code, add_device, add_out, add_settings, positive_integer
from caskit.commands.sample import device_name, sampling_status, split_codec
from caskit.commands.sets import open_shown, reference_text
from caskit.console import meter, print_line
from caskit.manifests.codec import DEFAULTS
from caskit.manifests.plan import DEFAULT_MICROBATCH_SIZE, DEFAULT_SAMPLES_PER_SHARD, Numerics

EXAMPLE = "caskit reconstruct --gen vqvae2:digits --data runs/digits/real/train --out runs/digits/reconstructions"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordSettings:
    """Fields of the record that `--set` reaches."""

    microbatch_size: int = DEFAULT_MICROBATCH_SIZE
    pixel_digests: bool = False
    numerics: Numerics = Numerics()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--gen", required=True, metavar="FAMILY[:PRESET]", help="generator; without a preset, the one named like DATA"
    )
    parser.add_argument("--checkpoint", metavar="DIR", help="folder of a fit (default: what ships with the preset)")
    parser.add_argument("--data", required=True, metavar="SET", help="real set, PATH_OR_URL[@sha256:prefix]")
    parser.add_argument(
        "--workers", type=positive_integer, metavar="W", help="processes (default: one per CPU core or GPU)"
    )
    parser.add_argument(
        "--executor", choices=("ray", "inline"), default="ray", help="where the work runs (default ray)"
    )
    parser.add_argument("--ray-address", metavar="A", help="join this Ray cluster instead of starting Ray here")
    parser.add_argument("--codec", choices=tuple(DEFAULTS), default="png", help="how images are stored (default png)")
    parser.add_argument(
        "--samples-per-shard",
        type=positive_integer,
        default=DEFAULT_SAMPLES_PER_SHARD,
        metavar="K",
        help=f"(default {DEFAULT_SAMPLES_PER_SHARD})",
    )
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first shard that failed twice")
    parser.add_argument("--allow-environment", action="store_true", help="go on in another environment class")
    parser.add_argument(
        "--discard-orphans", action="store_true", help="delete tars without a commit and make them again"
    )
    parser.add_argument("--licence", metavar="TEXT", help="noted in provenance.json")
    add_allow_code(parser)
    add_out(parser, "folder of the reconstructions")
    add_device(parser)
    add_settings(parser, "the record (microbatch_size, pixel_digests, numerics.precision) or codec.*")


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Reconstruct, check every row against its real image's, and print the reference of the set."""
    from caskit.commands.generators import family_and_preset
    from caskit.commands.settings import apply_settings
    from caskit.gen.planning import find_checkpoint
    from caskit.gen.reconstruction import make_reconstruction, reconstruct
    from caskit.gen.sampling import SampleConfig

    allow = arguments.allow_code
    family_and_preset(arguments.gen, None, allow_code=allow)  # a wrong name dies before the set is read
    device = device_name(arguments.device)
    codec, settings = split_codec(arguments.codec, arguments.settings)
    chosen = apply_settings(RecordSettings(numerics=Numerics(device=device.partition(":")[0])), settings)
    config = SampleConfig(
        executor=arguments.executor,
        num_workers=arguments.workers,
        ray_address=arguments.ray_address,
        device=device,
        allow_environment=arguments.allow_environment,
        allow_code=allow,
        discard_orphans=arguments.discard_orphans,
        fail_fast=arguments.fail_fast,
        licence=arguments.licence,
    )
    folder = None if arguments.checkpoint is None else Path(arguments.checkpoint)
    with meter() as show, context.stop.watched() as stop:
        parent = open_shown(arguments.data, show)
        dataset = parent.ingest.dataset if parent.ingest is not None and folder is None else None
        family, preset = family_and_preset(arguments.gen, dataset, allow_code=allow)
        checkpoint = find_checkpoint(family, preset, folder, allow_code=allow)
        record = make_reconstruction(
            checkpoint,
            parent,
            codec=codec,
            numerics=chosen.numerics,
            samples_per_shard=arguments.samples_per_shard,
            microbatch_size=chosen.microbatch_size,
            pixel_digests=chosen.pixel_digests,
            allow_code=allow,
        )
        replica = reconstruct(
            record,
            Path(arguments.out),
            parent=parent,
            checkpoint=checkpoint.path,
            config=config,
            progress=lambda progress: show(dataclasses.replace(sampling_status(progress), title="reconstruct")),
            stop=stop,
        )
    assert replica is not None, "without parts a set is frozen"
    print_line(f"{reference_text(arguments.out, replica.replica_id)}  {replica.num_samples:,} reconstructions")
    print_line(f"next  caskit train --data {arguments.out} --recipe RECIPE --out DIR")
    return 0
