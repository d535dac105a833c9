"""The generator of a replica as the source from which `caskit repair` has bad shards again, drawn as the plan says."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from caskit.gen.environment import environment_id, environment_of
from caskit.gen.family import BOUND, Generator, family_path
from caskit.gen.numerics import numerics_applied
from caskit.gen.opening import open_planned
from caskit.gen.own_judge import judge_folder
from caskit.gen.planning import find_checkpoint
from caskit.gen.sampling import check_device
from caskit.gen.worker import Filled, Worker
from caskit.manifests.errors import InputError, NonReproducible
from caskit.manifests.plan import Plan
from caskit.shards.commit import shard_name
from caskit.shards.digest import sha256_file
from caskit.shards.records import Records
from caskit.shards.store import Store

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RedrawConfig:
    """What the generator is loaded with.

    Attributes:
        checkpoint: folder of the plan's checkpoint; None for the one that ships, or for a family that is bound code.
        classifier: folder of the classifier that the plan's rejection names, if it has one and the checkpoint does not
            bring it.
        device: of the plan's kind.
        allow_code: the generator may be code that is not caskit's own.
    """

    checkpoint: Path | None
    classifier: Path | None = None
    device: str = "cpu"
    allow_code: bool = False


class Redrawing:
    """Draws shards again. See caskit.shards.damage.Source.

    Args:
        config: what with. The generator is loaded when the first shard is asked for.
    """

    def __init__(self, config: RedrawConfig) -> None:
        self.config, self.location = config, "the generator"
        self._loaded: tuple[Worker, Generator] | None = None

    def record(self, read: Callable[[Store], T], name: str) -> T:
        """Refuse: a generator draws samples, and the records say what they have to be."""
        raise InputError(f"{name} is bad, and only tars and codes can be drawn again; --from MIRROR fetches it")

    def tar(self, records: Records, shard: int, folder: Path) -> Path:
        """Draw the samples of a shard.

        Raises:
            InputError: the set was not drawn, was repacked, or checkpoint, classifier or device are not the plan's.
            NonReproducible: it has other bytes here.
        """
        path = folder / shard_name(shard)
        filled = self._draw(records, shard, path)
        due, found = records.shards[shard].sha256, sha256_file(path)
        if found != due:
            environment = environment_id(environment_of(self._plan(records), torch.device(self.config.device)))
            raise NonReproducible(
                f"{records.store.location}: {path.name} was drawn again with sha256 {found}, the set's has {due}; "
                f"this is environment class {environment}, a shard is drawn in the class of its set (`caskit info`)"
            )
        assert filled.rows.num_rows == records.shards[shard].num_samples, "equal bytes hold as many samples"
        return path

    def codes(self, records: Records, shard: int, folder: Path) -> Path:
        """Draw the samples of a shard for their codes."""
        filled = self._draw(records, shard, folder / shard_name(shard))
        assert filled.codes is not None, "the plan records codes"
        return filled.codes

    def _draw(self, records: Records, shard: int, path: Path) -> Filled:
        plan = self._plan(records)
        with numerics_applied(plan.numerics):
            if self._loaded is None:
                self._loaded = self._load(plan, records.store.location)
            worker, generator = self._loaded
            return worker.fill(generator, shard, path)

    def _plan(self, records: Records) -> Plan:
        origin, where = records.origin, records.store.location
        if not isinstance(origin, Plan):
            raise InputError(f"{where}: is a {records.replica.kind} set, no plan draws it; use --from MIRROR")
        if records.packing is not None:
            raise InputError(f"{where}: was repacked, and its plan draws other shards; use --from MIRROR")
        return origin

    def _load(self, plan: Plan, location: str) -> tuple[Worker, Generator]:
        config = self.config
        check_device(plan, config.device)
        folder = config.checkpoint
        if folder is None and plan.family not in BOUND:
            folder = find_checkpoint(plan.family, plan.preset, None, allow_code=config.allow_code).path
        opened = open_planned(plan, folder, allow_code=config.allow_code)
        worker = Worker(
            plan,
            module=family_path(plan.family),
            location=location,
            checkpoint=folder,
            classifier=judge_folder(plan, config.classifier, opened),
            device=config.device,
            allow_code=config.allow_code,
        )
        generator = worker.load_generator()
        worker.load_more()
        return worker, generator
