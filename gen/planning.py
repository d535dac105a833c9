"""Makes plans: resolves a generator, a checkpoint and a quota into the record that decides every byte."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from caskit.gen.checkpoint import Checkpoint, load_checkpoint
from caskit.gen.family import BOUND, describe_sampling, family_path, make_settings, open_family
from caskit.manifests import quota as quotas
from caskit.manifests.canonical import parse_canonical
from caskit.manifests.codec import Codec
from caskit.manifests.errors import InputError
from caskit.manifests.origin import ORIGIN_FILES
from caskit.manifests.packing import Packing
from caskit.manifests.plan import DEFAULT_SAMPLES_PER_SHARD, Numerics, Plan, differing_fields
from caskit.manifests.reconstruction import Reconstruction
from caskit.manifests.rejection import Rejection
from caskit.shards.dataset import FrozenSet
from caskit.shards.store import AlreadyExists, Store

PLAN_NAME = "plan.json"


def parse_generator(text: str) -> tuple[str, str | None]:
    """Split `FAMILY[:PRESET]`. Raises InputError for a family that is not known."""
    family, separator, preset = text.partition(":")
    family_path(family)
    if separator and not preset:
        raise InputError(f"generator {text!r} is not of the form FAMILY[:PRESET]")
    return family, preset or None


def find_checkpoint(family: str, preset: str | None, folder: Path | None, *, allow_code: bool = False) -> Checkpoint:
    """Open the checkpoint to sample: the one in `folder`, else the one that ships with the family for the preset.

    Raises:
        InputError: unknown preset, none shipped for it, or a folder with another family's or preset's checkpoint; or
            a family that is not caskit's own, unless `allow_code`.
    """
    if family in BOUND:
        raise InputError(
            f"generators of family {family} are bound to classes and an image size, they have no checkpoint"
        )
    module = open_family(family, allow_code=allow_code)
    known = ", ".join(sorted(module.PRESETS))
    if folder is None:
        if preset is None:
            raise InputError(f"generator {family!r}: name a preset ({family}:PRESET; {known}) or a --checkpoint folder")
        if preset not in module.PRESETS:
            raise InputError(f"family {family} has no preset {preset!r}, use one of {known}")
        folder = module.packaged(preset)
        if folder is None:
            raise InputError(
                f"no checkpoint ships for {family}:{preset}; `caskit fit --gen {family}:{preset}` makes one, "
                "--checkpoint names its folder"
            )
    checkpoint = load_checkpoint(folder)
    record = checkpoint.record
    if record["family"] != family or preset not in (None, record["preset"]):
        asked = family if preset is None else f"{family}:{preset}"
        raise InputError(f"{folder}: holds a checkpoint of {record['family']}:{record['preset']}, not of {asked}")
    return checkpoint


def make_plan(
    checkpoint: Checkpoint,
    *,
    num: int | None = None,
    like: FrozenSet | None = None,
    seed: int = 0,
    codec: Codec | None = None,
    sampler: Mapping[str, Any] | None = None,
    numerics: Numerics | None = None,
    samples_per_shard: int = DEFAULT_SAMPLES_PER_SHARD,
    microbatch_size: int | None = None,
    max_attempts: int = 4,
    pixel_digests: bool = False,
    record_codes: bool = False,
    rejection: Rejection | None = None,
    allow_code: bool = False,
) -> Plan:
    """Make the plan of a replica.

    Args:
        checkpoint: what is sampled, opened or bound; it brings the class list and the size of the images.
        num: samples; may be left out with `like`, whose number is taken.
        like: a real set whose label histogram to follow; balanced without it.
        seed: begins every random number.
        codec: how images are stored; lossless PNG by default.
        sampler: the family's settings that differ from their defaults.
        numerics: device kind, precision, threads.
        samples_per_shard: see Plan, as for the next four.
        microbatch_size: samples drawn together; the family's own choice by default.
        max_attempts: draws of a sample.
        pixel_digests: also digest decoded pixels.
        record_codes: also keep the codes of each sample.
        rejection: from `rejection.make_rejection`, to keep the best of several candidates, or
            `own_judge.own_rejection(checkpoint)`; None takes the first draws.
        allow_code: the family may be another package's.

    Raises:
        InputError: a value that is not allowed, or a real set of other classes.
    """
    record = checkpoint.record
    family = open_family(record["family"], allow_code=allow_code)
    if record["family"] in BOUND:
        if sampler:
            raise InputError(f"family {family.NAME} has no sampler settings, its record says all of it")
        sampler = record["config"]
    made = make_settings(family, sampler or {})
    describe_sampling(family, record, made)  # settings that the checkpoint does not allow die here
    settings = dataclasses.asdict(made)
    numerics = numerics or Numerics()
    if numerics.compile:
        raise InputError(f"numerics.compile is true, family {family.NAME} does not compile its model; use false")
    if record_codes and not family.CODED:
        raise InputError(f"record_codes is true, family {family.NAME} draws no codes; use false")
    quota_name, quota = _quota(checkpoint, num, like, seed)
    return Plan(
        classes=checkpoint.classes,
        family=record["family"],
        preset=record["preset"],
        checkpoint_id=checkpoint.checkpoint_id,
        sampler=settings,
        sampler_version=family.SAMPLER_VERSION,
        quota=quota_name,
        histogram=quota.histogram,
        seed=seed,
        height=record["height"],
        width=record["width"],
        channels=record["channels"],
        codec=codec or Codec.of("png"),
        samples_per_shard=samples_per_shard,
        microbatch_size=family.MICROBATCH_SIZE if microbatch_size is None else microbatch_size,
        max_attempts=max_attempts,
        pixel_digests=pixel_digests,
        record_codes=record_codes,
        rejection=rejection,
        numerics=numerics,
    )


def _quota(checkpoint: Checkpoint, num: int | None, like: FrozenSet | None, seed: int) -> tuple[str, quotas.Quota]:
    if like is None:
        if num is None:
            raise InputError("how many samples? give a number, or a real set whose histogram to follow")
        return "balanced", quotas.balanced(num, len(checkpoint.classes), seed)
    if like.classes != checkpoint.classes:
        raise InputError(
            f"{checkpoint.path}: fitted to other classes ({len(checkpoint.classes)}, {checkpoint.classes.ids[0]}, ...) "
            f"than those of the set to follow ({len(like.classes)}, {like.classes.ids[0]}, ...)"
        )
    histogram = np.bincount(like.labels, minlength=len(like.classes))
    quota = quotas.like([int(count) for count in histogram], seed, num=num)
    return f"like:{like.replica.content_root}", quota


def write_plan(store: Store, plan: Plan | Reconstruction) -> None:
    """Write plan.json, or the record that stands for it, the first file of a set; or find the same one there.

    Raises:
        InputError: the folder holds another plan, naming the fields that differ, or a set of another kind.
    """
    for kind, name in ORIGIN_FILES.items():
        if kind != plan.KIND and store.exists(name):
            raise InputError(f"{store.location}: holds a {kind} set, a {plan.KIND} set needs a folder of its own")
    if store.exists(Packing.FILE):
        raise InputError(f"{store.location}: holds a set in shards of another size; choose another folder")
    try:
        store.create(plan.FILE, plan.to_bytes())
    except AlreadyExists:
        name = f"{store.location}/{plan.FILE}"
        there = type(plan).from_json(parse_canonical(store.read(plan.FILE), name=name), name=name)
        if there.origin_id != plan.origin_id:
            differing = differing_fields(plan.to_json(), there.to_json())
            held = "a replica of another plan" if plan.KIND == "synthetic" else "other reconstructions"
            raise InputError(f"{store.location}: holds {held}; these fields differ: {', '.join(differing)}") from None


def read_plan(store: Store) -> Plan:
    """Read plan.json. Raises InputError if there is none or it is not of its form."""
    name = f"{store.location}/{PLAN_NAME}"
    if not store.exists(PLAN_NAME):
        raise InputError(f"{name}: no such file; no replica was begun there")
    return Plan.from_json(parse_canonical(store.read(PLAN_NAME), name=name), name=name)
