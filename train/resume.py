"""The saved state of a run, `resume.pt`: written by rank 0, loaded by every rank, and checked to be equal on all.

The one before it stays as `resume.previous.pt`, for a disk that loses what it has confirmed. It is never taken by
itself: the error that names it says which step it holds, and moving it in the other's place goes on from there.
"""

import dataclasses
import hashlib
import io
import json
import os
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

import torch
from torch import Tensor

from caskit.manifests.canonical import canonical_json
from caskit.manifests.errors import InputError, RunFailed
from caskit.manifests.plan import differing_fields
from caskit.train.distributed import World
from caskit.train.folder import write_atomic

RESUME_NAME, PREVIOUS_NAME = "resume.pt", "resume.previous.pt"
RESUME_VERSION = 1


class Stateful(Protocol):
    """What is saved."""

    def state_dict(self) -> dict[str, Any]:
        """Return models, optimizers, averages: tensors and plain values only."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state that `state_dict` gave."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResumePoint:
    """Where a run's state is kept.

    Attributes:
        path: of the file.
        identity: JSON values that decide the run's result.
        world: the processes of the run; they load what rank 0 reads, so they need not share its disk.
    """

    path: Path
    identity: dict[str, Any]
    world: World

    def save(self, task: Stateful, step: int) -> None:
        """Replace the file by the state after `step` updates; when the call returns on any rank, it is on disk.

        Raises:
            RunFailed: the state is not the same on all ranks, naming the first entry that differs.
        """
        state = task.state_dict()
        self._compare(state, step)
        if self.world.first:
            self._write(state, step)
        self.world.barrier()

    def load(self, task: Stateful) -> int:
        """Load the saved state into the task, or save the present one as that of step 0; return the next step.

        Raises:
            InputError: the file is not one of ours, or belongs to a run of another identity.
        """
        if self.world.size > 1:
            record = self._receive(task)
        elif self.path.exists():
            record = self._read(self.path)
        else:
            self._write(task.state_dict(), 0)
            return 0
        with self.world.agreed():
            task.load_state_dict(record["state"])
        return int(record["step"])

    def _receive(self, task: Stateful) -> dict[str, Any]:
        """Return what rank 0 read, or its own first state, so that all ranks begin with equal bits."""
        data: bytes | None = None
        with self.world.agreed():
            if self.world.first:
                if not self.path.exists():
                    self._write(task.state_dict(), 0)
                data = self.path.read_bytes()
        data = self.world.send(data)
        with self.world.agreed():
            return self._read(io.BytesIO(data))

    def _write(self, state: dict[str, Any], step: int) -> None:
        record = {
            "version": RESUME_VERSION,
            "identity": canonical_json(self.identity).decode(),
            "step": step,
            "state": state,
        }
        buffer = io.BytesIO()
        torch.save(record, buffer)  # in memory: writing it itself, torch calls a full disk a RuntimeError

        def write(temporary: Path) -> None:
            temporary.write_bytes(buffer.getbuffer())

        self._keep_previous()
        write_atomic(self.path, write)

    def _keep_previous(self) -> None:
        """Give the present file a second name; it keeps the first until the new one is whole."""
        if self.path.exists():
            temporary = self.path.with_name(f".{PREVIOUS_NAME}.{os.getpid()}.tmp")
            temporary.unlink(missing_ok=True)
            os.link(self.path, temporary)
            os.replace(temporary, self.path.with_name(PREVIOUS_NAME))

    def _read(self, file: Path | IO[bytes]) -> dict[str, Any]:
        try:
            record, theirs = _open(file)
        except _UNREADABLE as error:
            raise InputError(
                f"{self.path}: not a saved state of caskit, choose another folder or {self._instead()}"
            ) from error
        version = record["version"]
        if version != RESUME_VERSION:
            raise InputError(
                f"{self.path}: saved state has version {version!r}, this caskit resumes version {RESUME_VERSION}"
            )
        if self.identity != theirs:
            fields = "; ".join(differing_fields(self.identity, theirs))
            raise InputError(f"{self.path.parent}: holds another run, differing in {fields}; choose another folder")
        return record

    def _instead(self) -> str:
        """Say what can be done about a file that cannot be read."""
        try:
            step = int(_open(self.path.with_name(PREVIOUS_NAME))[0]["step"])
        except (*_UNREADABLE, OSError):
            return "remove the file"
        return f"move {PREVIOUS_NAME} in its place, which goes on after step {step}"

    def _compare(self, state: dict[str, Any], step: int) -> None:
        """Check that all ranks hold the same bits: one that has drifted away would train a model of its own."""
        if self.world.size == 1:
            return
        told = [dict(json.loads(text)) for text in self.world.gather(json.dumps(dict(_digests(state))))]
        for rank, digests in enumerate(told):
            wrong = sorted(name for name in {*digests, *told[0]} if digests.get(name) != told[0].get(name))
            if wrong:
                raise RunFailed(
                    f"{self.path.parent}: after step {step} rank {rank} differs from rank 0 in {wrong[0]} and "
                    f"{len(wrong) - 1} other entries; what a step changes must come from gradients or sums of all ranks"
                )


_UNREADABLE = (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError)


def _open(file: Path | IO[bytes]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a saved state's record and identity. Raises one of _UNREADABLE for another file."""
    try:
        record: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        if error.filename is not None:
            raise
        raise ValueError("a place beyond the file's end") from error  # torch's reader of a file that was cut
    identity: dict[str, Any] = json.loads(record["identity"])
    record["version"], int(record["step"])
    return record, identity


def _digests(value: Any, name: str = "state") -> Iterator[tuple[str, str]]:
    """Yield a digest of every tensor and plain value of a state by its dotted name."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _digests(part, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for place, part in enumerate(value):
            yield from _digests(part, f"{name}.{place}")
    elif isinstance(value, Tensor):
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        yield name, hashlib.sha256(data.data).hexdigest()
    else:
        yield name, repr(value)
