"""Sample a synthetic replica: the plan is written first, then shard after shard, then it is frozen.

The same command again goes on where it stopped; on the same plan, any number of workers gives the same bytes.
"""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caskit.commands.options import (
    Context,
    add_allow_code,
    add_device,
    add_out,
    add_seed,
    add_settings,
    positive_integer,
)
from caskit.commands.sets import open_shown, reference_text
from caskit.console import Meter, Status, bytes_text, duration_text, meter, print_line
from caskit.manifests.codec import DEFAULTS, Codec
from caskit.manifests.errors import InputError
from caskit.manifests.plan import DEFAULT_SAMPLES_PER_SHARD, Plan

if TYPE_CHECKING:
    from caskit.gen.checkpoint import Checkpoint
    from caskit.gen.sampling import SampleConfig
    from caskit.gen.telemetry import Progress
    from caskit.manifests.rejection import Rejection
    from caskit.manifests.replica import Replica

EXAMPLE = "caskit sample --gen cvae:digits --num 1000 --seed 0 --workers 2 --out runs/digits/first"
CODEC_PREFIX = "codec."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planned:
    """A run before its first shard.

    Attributes:
        plan: what the flags describe.
        checkpoint: folder of the weights, None for a function.
        device: for the workers, see `device_name`.
        note: what the family says of the settings, if anything.
    """

    plan: Plan
    checkpoint: Path | None
    device: str
    note: str | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--gen", required=True, metavar="FAMILY[:PRESET]", help="generator, or a function: callable:MODULE:FUNCTION"
    )
    parser.add_argument("--checkpoint", metavar="DIR", help="folder of a fit (default: what ships with the preset)")
    parser.add_argument("--num", type=positive_integer, metavar="N", help="samples; may be left out with --like")
    parser.add_argument("--like", metavar="SET", help="real set whose label histogram to follow (default: balanced)")
    parser.add_argument(
        "--classes",
        metavar="SET",
        help="of a function: real set whose classes and image size it draws (default: --like)",
    )
    add_seed(parser, "of the label order and of every sample")
    parser.add_argument(
        "--best-of",
        type=positive_integer,
        metavar="K",
        help="draw K candidates per sample and keep the best by --classifier (quality for diversity; 2 to 64); 1 takes "
        "the first one (default: what the checkpoint says)",
    )
    parser.add_argument(
        "--classifier",
        metavar="DIR",
        help="folder of `caskit train`, the judge of --best-of (default: the checkpoint's own, if it has one)",
    )
    parser.add_argument(
        "--accept",
        type=float,
        metavar="P",
        help="with --best-of: keep the first candidate whose label has at least probability P (default: draw all K)",
    )
    parser.add_argument(
        "--workers", type=positive_integer, metavar="W", help="processes (default: one per CPU core or GPU)"
    )
    parser.add_argument(
        "--executor", choices=("ray", "inline"), default="ray", help="where the work runs (default ray)"
    )
    parser.add_argument("--ray-address", metavar="A", help="join this Ray cluster instead of starting Ray here")
    parser.add_argument("--part", metavar="I/N", help="make only every N-th shard; `caskit freeze` ends it")
    parser.add_argument("--no-freeze", action="store_true", help="leave the replica open")
    parser.add_argument("--extend", metavar="DIR", help="adopt the shards that a smaller replica of the same plan has")
    parser.add_argument("--codec", choices=tuple(DEFAULTS), default="png", help="how images are stored (default png)")
    parser.add_argument(
        "--record-codes", action="store_true", help="keep each sample's codes beside its shard, for `caskit audit`"
    )
    parser.add_argument(
        "--samples-per-shard",
        type=positive_integer,
        default=DEFAULT_SAMPLES_PER_SHARD,
        metavar="K",
        help=f"(default {DEFAULT_SAMPLES_PER_SHARD})",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="time a few microbatches, print what it would cost, stop"
    )
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first shard that failed twice")
    parser.add_argument("--allow-environment", action="store_true", help="go on in another environment class")
    parser.add_argument(
        "--discard-orphans", action="store_true", help="delete tars without a commit and make them again"
    )
    parser.add_argument("--licence", metavar="TEXT", help="noted in provenance.json")
    add_allow_code(parser)
    add_out(parser, "folder of the replica, or s3://, gs://, az:// (docs/storage.md)")
    add_device(parser)
    add_settings(parser, "the sampler's settings, of the plan (microbatch_size, numerics.precision) or codec.*")


def split_codec(name: str, settings: list[str]) -> tuple[Codec, list[str]]:
    """Take `codec.key=value` out of the settings. Raises InputError naming the codec's settings."""
    from caskit.commands.settings import parse_value, split_setting

    values: dict[str, Any] = {}
    rest = []
    for text in settings:
        key, value = split_setting(text)
        if not key.startswith(CODEC_PREFIX):
            rest.append(text)
            continue
        field = key.removeprefix(CODEC_PREFIX)
        if field not in DEFAULTS[name]:
            allowed = ", ".join(CODEC_PREFIX + known for known in DEFAULTS[name])
            raise InputError(f"--set {text}: no such field, allowed for {name}: {allowed}")
        values[field] = parse_value(value, type(DEFAULTS[name][field]), text, key)
    return Codec.of(name, values), rest


def device_name(text: str) -> str:
    """Return the device for the workers: `cuda` without a number leaves each worker the GPU it is given."""
    from caskit.train.device import pick_device

    device = pick_device(text)
    return text if text.startswith("cuda:") else device.type


def rejection_of(arguments: argparse.Namespace, checkpoint: "Checkpoint") -> "Rejection | None":
    """Return which candidate of a sample is kept: as the flags say, else as the checkpoint does; None: the first."""
    from caskit.gen.own_judge import own_judge, own_rejection
    from caskit.gen.rejection import make_rejection

    if arguments.best_of == 1:
        return None
    if arguments.best_of is not None and arguments.classifier is not None:
        return make_rejection(arguments.best_of, Path(arguments.classifier), checkpoint, threshold=arguments.accept)
    own = own_rejection(checkpoint)
    if own is None and arguments.best_of is not None:
        raise InputError(
            "--best-of K needs --classifier DIR, a folder of `caskit train`: this generator brings no judge of its own"
        )
    if own is None:
        return None
    folder = own_judge(checkpoint, own)
    if arguments.best_of is None:
        return own
    return make_rejection(arguments.best_of, folder, checkpoint, threshold=arguments.accept)


def build_plan(arguments: argparse.Namespace, device: str, show: Meter) -> tuple[Plan, Path | None]:
    """Return the plan that the flags describe, and the checkpoint's folder, None for a function."""
    from caskit.commands.generators import choose, family_and_preset
    from caskit.gen.planning import make_plan

    allow = arguments.allow_code
    family_and_preset(arguments.gen, None, allow_code=allow)  # a wrong name dies before the set is read
    if arguments.best_of in (None, 1) and arguments.classifier is not None:
        raise InputError("--classifier DIR goes with --best-of K, from 2: it judges the K candidates of a sample")
    if arguments.best_of in (None, 1) and arguments.accept is not None:
        raise InputError("--accept P goes with --best-of K, from 2: it says which of the K candidates is good enough")
    codec, settings = split_codec(arguments.codec, arguments.settings)
    like = None if arguments.like is None else open_shown(arguments.like, show)
    hint = like.ingest.dataset if like is not None and like.ingest is not None else None
    family, preset = family_and_preset(arguments.gen, hint if arguments.checkpoint is None else None, allow_code=allow)
    data = like if arguments.classes is None else open_shown(arguments.classes, show)
    chosen = choose(family, preset, arguments=arguments, data=data, settings=settings, device=device)
    plan = make_plan(
        chosen.checkpoint,
        num=arguments.num,
        like=like,
        seed=arguments.seed,
        codec=codec,
        sampler=chosen.sampler,
        numerics=chosen.settings.numerics,
        samples_per_shard=arguments.samples_per_shard,
        microbatch_size=chosen.settings.microbatch_size,
        max_attempts=chosen.settings.max_attempts,
        pixel_digests=chosen.settings.pixel_digests,
        record_codes=chosen.settings.record_codes or arguments.record_codes,
        rejection=rejection_of(arguments, chosen.checkpoint),
        allow_code=allow,
    )
    return plan, chosen.folder


def note_of(plan: Plan, checkpoint: Path | None, *, allow_code: bool) -> str | None:
    """Return what the generator's family has to say about these settings, if anything."""
    from caskit.gen.family import describe_sampling, make_settings, open_family
    from caskit.gen.opening import open_planned

    family = open_family(plan.family, allow_code=allow_code)
    if getattr(family, "describe", None) is None:
        return None
    record = open_planned(plan, checkpoint, allow_code=allow_code).record
    return str(describe_sampling(family, record, make_settings(family, plan.sampler)))


def plan_run(arguments: argparse.Namespace) -> Planned:
    """Return what has to be known before a run, and takes torch and the family's code to know."""
    device = device_name(arguments.device)
    with meter() as show:
        plan, checkpoint = build_plan(arguments, device, show)
    note = note_of(plan, checkpoint, allow_code=arguments.allow_code)
    return Planned(plan=plan, checkpoint=checkpoint, device=device, note=note)


def build_config(arguments: argparse.Namespace, device: str) -> "SampleConfig":
    """Return how the plan is to be worked off."""
    from caskit.gen.executors import Part
    from caskit.gen.sampling import SampleConfig

    return SampleConfig(
        executor=arguments.executor,
        num_workers=arguments.workers,
        ray_address=arguments.ray_address,
        classifier=None if arguments.classifier is None else Path(arguments.classifier),
        part=Part() if arguments.part is None else Part.parse(arguments.part),
        freeze=not arguments.no_freeze,
        extend=None if arguments.extend is None else Path(arguments.extend),
        device=device,
        allow_environment=arguments.allow_environment,
        allow_code=arguments.allow_code,
        discard_orphans=arguments.discard_orphans,
        fail_fast=arguments.fail_fast,
        licence=arguments.licence,
    )


def sampling_status(progress: "Progress") -> Status:
    """Translate the stage's progress for the meter."""
    details = {"shards": f"{progress.shards_done}/{progress.num_shards}", "retried": str(progress.num_retried)}
    if progress.num_failed:
        details["failed"] = str(progress.num_failed)
    return Status(
        title="sample",
        done=progress.images_done,
        total=progress.num_images,
        unit="img",
        rate=progress.images_per_s,
        details=details,
    )


def print_dry_run(plan: Plan, checkpoint: Path | None, config: "SampleConfig") -> int:
    """Time a few microbatches and print what the plan would cost."""
    from caskit.gen.dry_run import MAX_SHARD_S, WARNED_SHARD_S, dry_run

    cost = dry_run(plan, checkpoint=checkpoint, config=config)
    print_line(f"plan     {plan.plan_id}")
    print_line(f"samples  {cost.num_samples:,} in {cost.num_shards:,} shards")
    print_line(f"size     about {bytes_text(cost.num_bytes)}")
    workers = "1 worker" if cost.num_workers == 1 else f"{cost.num_workers} workers"
    print_line(f"time     about {duration_text(cost.seconds)}: {workers}, {cost.images_per_s:,.0f} img/s each")
    print_line(f"shard    {plan.samples_per_shard:,} samples, about {duration_text(cost.shard_s)} of one worker")
    if cost.suggested_samples_per_shard is not None:
        warning = "warning: a worker that is killed loses that much; " if cost.shard_s > WARNED_SHARD_S else ""
        print_line(
            f"hint     {warning}--samples-per-shard {cost.suggested_samples_per_shard} keeps a shard below "
            f"{duration_text(MAX_SHARD_S)}"
        )
    return 0


def _sample(planned: Planned, out: str, config: "SampleConfig", stop: Callable[[], bool]) -> "Replica | None":
    from caskit.gen.sampling import sample

    with meter() as show:
        return sample(
            planned.plan,
            out,
            checkpoint=planned.checkpoint,
            config=config,
            progress=lambda progress: show(sampling_status(progress)),
            stop=stop,
        )


def run(arguments: argparse.Namespace, context: Context) -> int:
    """Plan, sample and freeze, or say what it would cost."""
    from caskit.gen.errand import run_errand

    config = build_config(arguments, arguments.device)  # what is wrong with it is said before anything is opened
    # Where this process draws it needs torch in any case; a driver that waits for workers is better off without.
    drawing = config.executor == "inline" or arguments.dry_run
    with context.stop.watched() as stop:
        planned = plan_run(arguments) if drawing else run_errand(plan_run, arguments)
        config = dataclasses.replace(config, device=planned.device)
        if planned.note is not None:
            print_line(planned.note)
        if planned.plan.rejection is not None and arguments.best_of is None:
            words = planned.plan.rejection.words
            print_line(f"each image is the {words}, by the checkpoint's own judge; --best-of 1 takes the first")
        if arguments.dry_run:
            return print_dry_run(planned.plan, planned.checkpoint, config)
        replica = _sample(planned, arguments.out, config, stop)
    if replica is None:
        print_line(f"{arguments.out}  not frozen yet")
        print_line(f"next  caskit freeze {arguments.out}")
        return 0
    print_line(f"{reference_text(arguments.out, replica.replica_id)}  {replica.num_samples:,} images")
    if context.stage is None:
        print_line(f"next  caskit train --data {arguments.out} --recipe RECIPE --out DIR")
    return 0
