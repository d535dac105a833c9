"""Checkpoints: a folder with checkpoint.json, which says what the weights are, and model.safetensors.

A generator that judges its own samples has the classifier beside it in `judge/`, see `own_judge`.
`checkpoint_id` is the SHA-256 of checkpoint.json, which holds the digest of the tensors' file. Nothing is pickled.
"""

import dataclasses
import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors

from caskit.manifests.canonical import MAX_JSON_BYTES, canonical_json, parse_canonical, sha256_hex
from caskit.manifests.classes import ClassList
from caskit.manifests.errors import InputError, IntegrityError
from caskit.manifests.plan import FORMAT_VERSION, check_fields, check_format_version, read_rejection
from caskit.manifests.rejection import Rejection

if TYPE_CHECKING:
    import torch

RECORD_NAME = "checkpoint.json"
TENSORS_NAME = "model.safetensors"
JUDGE_FOLDER = "judge"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointRecord:
    """What checkpoint.json says.

    Attributes:
        family, preset: which generator.
        config: the resolved configuration it was fitted with, JSON values.
        classes: `[{"id", "name"}, ...]` in label order.
        height, width, channels: of the images it draws.
        tensors: file name to SHA-256.
        derived_from, transform: of a checkpoint that was computed from another one, that one's id, and what was done
            to it, canonical JSON with all that decides the result.
        rejection: of one that brings a judge, how its samples are kept unless a plan says otherwise, see Rejection;
            left out of the JSON where there is none.
    """

    format_version: int = FORMAT_VERSION
    family: str
    preset: str
    config: Mapping[str, Any]
    classes: list[dict[str, str]]
    height: int
    width: int
    channels: int
    tensors: Mapping[str, str]
    derived_from: str | None = None
    transform: str | None = None
    rejection: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_format_version(self.format_version, name=RECORD_NAME)
        ClassList.from_json(self.classes, name=f"{RECORD_NAME}: classes")
        if not isinstance(self.tensors, dict) or set(self.tensors) != {TENSORS_NAME}:
            raise InputError(f"{RECORD_NAME}: tensors must name {TENSORS_NAME} and nothing else")
        for name in ("height", "width", "channels"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InputError(f"{RECORD_NAME}: {name} is {value!r}, must be a positive integer")
        if (self.derived_from is None) != (self.transform is None):
            raise InputError(f"{RECORD_NAME}: derived_from and transform go together, one of them is null")
        if self.derived_from is not None and (
            not isinstance(self.derived_from, str) or re.fullmatch(r"[0-9a-f]{64}", self.derived_from) is None
        ):
            raise InputError(f"{RECORD_NAME}: derived_from is {self.derived_from!r}, must be 64 hex digits")
        if self.transform is not None and not isinstance(self.transform, str):
            raise InputError(f"{RECORD_NAME}: transform is {self.transform!r}, must be text")
        for name, kind in (("family", str), ("preset", str), ("config", dict)):
            if not isinstance(getattr(self, name), kind):
                raise InputError(f"{RECORD_NAME}: {name} is {getattr(self, name)!r}, must be of type {kind.__name__}")
        if self.rejection is not None:
            read_rejection(self.rejection, name=RECORD_NAME)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, those of the file."""
        value = dataclasses.asdict(self)
        if self.rejection is None:
            del value["rejection"]
        return value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint on disk whose digests were verified when it was opened.

    Attributes:
        path: its folder.
        record: checkpoint.json as JSON values, see CheckpointRecord.
    """

    path: Path
    record: dict[str, Any]

    @property
    def checkpoint_id(self) -> str:
        """SHA-256 of checkpoint.json, 64 hex digits."""
        return sha256_hex(canonical_json(self.record))

    @property
    def classes(self) -> ClassList:
        """The classes it was fitted to."""
        return ClassList.from_json(self.record["classes"], name=RECORD_NAME)

    def tensors(self) -> dict[str, "torch.Tensor"]:
        """Read the tensors, on the CPU."""
        from safetensors.torch import load_file  # on use: a driver that hands shards out needs no torch

        return load_file(self.path / TENSORS_NAME)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_checkpoint(
    path: Path,
    *,
    family: str,
    preset: str,
    config: Mapping[str, Any],
    classes: ClassList,
    height: int,
    width: int,
    channels: int,
    tensors: Mapping[str, "torch.Tensor"],
    derived_from: str | None = None,
    transform: str | None = None,
    rejection: Rejection | None = None,
    judge: Path | None = None,
) -> Checkpoint:
    """Write a checkpoint folder; checkpoint.json comes last, so its existence means that the checkpoint is whole.

    The tensors' file carries no free metadata: its order would differ from process to process and with it the id.
    The arguments are the fields of CheckpointRecord, and of one with a rejection the folder of the classifier that it
    names, which is verified and copied.
    """
    assert (rejection is None) == (judge is None), "a judge goes with a rejection"
    from safetensors.torch import save  # on use, see `Checkpoint.tensors`

    path.mkdir(parents=True, exist_ok=True)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    (path / RECORD_NAME).unlink(missing_ok=True)
    if judge is not None:
        from caskit.train.training import copy_classifier  # on use, it holds torch

        copy_classifier(judge, path / JUDGE_FOLDER)
    _write(path / TENSORS_NAME, save(contiguous))
    record = CheckpointRecord(
        family=family,
        preset=preset,
        config=dict(config),
        classes=[{"id": i, "name": n} for i, n in zip(classes.ids, classes.names, strict=True)],
        height=height,
        width=width,
        channels=channels,
        tensors={TENSORS_NAME: _digest(path / TENSORS_NAME)},
        derived_from=derived_from,
        transform=transform,
        rejection=None if rejection is None else rejection.to_json(),
    )
    value = record.to_json()
    _write(path / RECORD_NAME, canonical_json(value))
    return Checkpoint(path=path, record=value)


def _write(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old one or the whole new one."""
    descriptor, scratch = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def load_checkpoint(path: Path, expect_id: str | None = None) -> Checkpoint:
    """Open a checkpoint folder and verify its digests.

    Raises:
        InputError: no checkpoint there, or its id is not `expect_id`.
        IntegrityError: the tensors' file does not have the recorded digest or is no safetensors file.
    """
    file = path / RECORD_NAME
    if not file.is_file():
        raise InputError(f"{path}: no checkpoint there ({RECORD_NAME} is missing); `caskit fit` makes one")
    with file.open("rb") as opened:
        value = parse_canonical(opened.read(MAX_JSON_BYTES + 1), name=str(file))
    record = CheckpointRecord(**_all_fields(value, name=str(file)))
    checkpoint = Checkpoint(path=path, record=record.to_json())
    if expect_id is not None and checkpoint.checkpoint_id != expect_id:
        raise InputError(f"{path}: checkpoint_id is {checkpoint.checkpoint_id}, the plan asks for {expect_id}")
    tensors = path / TENSORS_NAME
    if not tensors.is_file():
        raise IntegrityError(f"{tensors}: missing, {RECORD_NAME} names it")
    actual, recorded = _digest(tensors), checkpoint.record["tensors"][TENSORS_NAME]
    if actual != recorded:
        raise IntegrityError(f"{tensors}: sha256 is {actual}, {RECORD_NAME} says {recorded}")
    try:
        with safetensors.safe_open(tensors, framework="np") as opened_tensors:
            opened_tensors.keys()
    except safetensors.SafetensorError as error:
        raise IntegrityError(f"{tensors}: not a safetensors file ({error})") from error
    return checkpoint


def _all_fields(value: Any, *, name: str) -> dict[str, Any]:
    """Return the fields of a checkpoint.json, with the one that may be left out."""
    if isinstance(value, dict) and "rejection" in value and value["rejection"] is None:
        raise InputError(f"{name}: rejection is null, a checkpoint without one leaves it out")
    fields = {"rejection": None, **value} if isinstance(value, dict) else value
    check_fields(fields, CheckpointRecord, name=name)
    return dict(fields)


def derived_there(out: Path, source: Checkpoint, transform: str) -> Checkpoint | None:
    """Return the checkpoint in `out`, derived from `source` by `transform`; None where none is there yet.

    Raises:
        InputError: `out` holds another one.
    """
    if not (out / RECORD_NAME).is_file():
        return None
    there = load_checkpoint(out)
    if (there.record["derived_from"], there.record["transform"]) != (source.checkpoint_id, transform):
        raise InputError(f"{out}: holds another checkpoint, {there.checkpoint_id[:16]}; use another folder")
    return there
