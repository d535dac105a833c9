"""Runs an audit: what is there against the plan, then the generator against what is there."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from caskit.gen.audit.config import AuditConfig, default_tolerance
from caskit.gen.audit.evidence import Evidence, Item
from caskit.gen.audit.forcing import TeacherForcing
from caskit.gen.audit.redraw import Redraw
from caskit.gen.audit.report import AuditReport, Findings
from caskit.gen.callable import rebind
from caskit.gen.checkpoint import Checkpoint, load_checkpoint
from caskit.gen.codes import as_coded, code_levels, default_epsilon
from caskit.gen.environment import ENVIRONMENT_NAME, environment_of
from caskit.gen.family import BOUND, Generator, family_path, open_family, require_code
from caskit.gen.numerics import numerics_applied
from caskit.gen.opening import refuse_folder
from caskit.gen.own_judge import judge_folder
from caskit.gen.rejection import check_judge, load_judge
from caskit.gen.worker import Worker
from caskit.manifests.canonical import parse_canonical
from caskit.manifests.errors import InputError
from caskit.manifests.plan import Numerics, Plan, differing_fields
from caskit.shards.fault import BrokenSet
from caskit.shards.records import Records, read_records
from caskit.shards.software import versions
from caskit.shards.verify import verify_records

MAX_RECORD_BYTES = 2**24  # of environment.json and provenance.json, which nobody has checked


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditProgress:
    """How many of the selected samples were checked."""

    done: int
    total: int


def audit(
    reference: str,
    checkpoint: Path | None,
    config: AuditConfig | None = None,
    *,
    progress: Callable[[AuditProgress], None] = lambda _: None,
) -> AuditReport:
    """Audit a frozen replica against its plan and the generator that the plan names.

    Args:
        reference: `PATH[@sha256:prefix]`.
        checkpoint: folder of the weights; None for a family that is bound code.
        config: which samples, how.
        progress: called after every batch or shard.

    Raises:
        InputError: no replica there, another checkpoint, classifier or device than the plan's, an unknown key.
        IntegrityError: its records cannot be read at all. What disagrees with the plan is in the report.
    """
    config, began = config or AuditConfig(), time.perf_counter()
    records = read_records(reference)
    if not isinstance(records.origin, Plan):
        raise InputError(
            f"{records.store.location}: is a {records.replica.kind} set, an audit is of a replica of a plan"
        )
    run = _Run(records, records.origin, checkpoint, config)
    if run.records_fit():
        run.check(progress)
    return run.report(time.perf_counter() - began)


class _Run:
    """One audit while it runs."""

    def __init__(self, records: Records, plan: Plan, checkpoint: Path | None, config: AuditConfig) -> None:
        self.records, self.plan, self.config = records, plan, config
        self.mode = config.mode or ("teacher-forced" if plan.record_codes else "redraw")
        if self.mode == "teacher-forced" and not plan.record_codes:
            raise InputError(f"{records.store.location}: no codes were recorded, only a redraw can check its samples")
        if self.mode == "redraw":
            AuditConfig(mode=self.mode, batch_size=config.batch_size, threads=config.threads)  # refuses them
        elif config.classifier is not None:
            raise InputError(
                "a classifier judges candidates, which only a redraw draws; a teacher-forced check has none"
            )
        whose = f"{records.store.location}: its plan's "
        require_code(plan.family, plan.preset, allow_code=config.allow_code, where=whose)
        open_family(plan.family, allow_code=config.allow_code)  # a plug-in that is broken is told here
        self._folder = checkpoint
        self.checkpoint = open_checkpoint(plan, checkpoint, allow=config.allow_checkpoint)
        if self.mode == "redraw":
            self._judge_folder = judge_folder(plan, config.classifier, self.checkpoint)
            check_judge(plan, self._judge_folder)
        self.device = torch.device(config.device)
        self.batch_size = config.batch_size or plan.microbatch_size
        threads = config.threads or plan.numerics.threads
        self.numerics: Numerics = dataclasses.replace(plan.numerics, device=self.device.type, threads=threads)
        self.environment = environment_of(plan, self.device)
        self.differs = environment_differences(records, self.environment)
        same = not self.differs and self.numerics == plan.numerics and self.batch_size == plan.microbatch_size
        self.exact = same and config.pixel_tolerance is None
        default = 0 if same else default_tolerance(plan.numerics, plan.codec)
        self.tolerance = default if config.pixel_tolerance is None else config.pixel_tolerance
        self.epsilon = default_epsilon(plan.numerics) if config.epsilon is None else config.epsilon
        self.findings = Findings(config.selection.keys or ())

    def records_fit(self) -> bool:
        """Compare keys, labels, ordinals, streams and roots with the plan, and files with the records."""
        try:
            checks = verify_records(self.records, "quick").checks
        except BrokenSet as broken:
            for fault in broken.faults:
                self.findings.fail(kind="record", key=fault.key, message=str(dataclasses.replace(fault, key=None)))
            return False
        self.findings.count(rows=dict(checks)["rows"])
        return True

    def check(self, progress: Callable[[AuditProgress], None]) -> None:
        """Check the selected samples with the generator."""
        keys = self.records.manifest.sort_by("sample_id").column("key")
        selected = self.config.selection.sample_ids(keys, self.records.replica.replica_id)
        with numerics_applied(self.numerics):
            generator = self._load()
            levels = code_levels(as_coded(generator, self.plan.family)) if self.plan.record_codes else ()
            evidence = Evidence(self.records, self.plan, levels, self.findings)
            forcing = self._forcing(generator) if self.plan.record_codes else None
            done = 0
            if self.mode == "redraw":
                redraw = self._redraw(generator, evidence, forcing)
                for shard, places in evidence.by_shard(selected):
                    redraw.check(shard, places)
                    done += len(places)
                    progress(AuditProgress(done=done, total=len(selected)))
                return
            assert forcing is not None, "this mode needs recorded codes"
            waiting: list[Item] = []
            for shard, places in evidence.by_shard(selected):
                done += len(places)
                waiting += evidence.items(shard, places).values()
                last = done == len(selected)
                while len(waiting) >= self.batch_size or (last and waiting):
                    batch, waiting = waiting[: self.batch_size], waiting[self.batch_size :]
                    forcing.check(batch)
                    forcing.check_attempts(batch)
                    self.findings.count(samples=len(batch))
                    progress(AuditProgress(done=done - len(waiting), total=len(selected)))

    def _load(self) -> Generator:
        plan = dataclasses.replace(self.plan, checkpoint_id=self.checkpoint.checkpoint_id)
        if plan.family in BOUND:
            plan = dataclasses.replace(plan, sampler=self.checkpoint.record["config"])
        worker = Worker(
            plan,
            module=family_path(plan.family),
            location=".",
            checkpoint=self._folder,
            device=self.config.device,
            allow_code=self.config.allow_code,
        )
        return worker.load_generator()

    def _forcing(self, generator: Generator) -> TeacherForcing:
        return TeacherForcing(
            as_coded(generator, self.plan.family),
            self.plan,
            batch_size=self.batch_size,
            epsilon=self.epsilon,
            tolerance=self.tolerance,
            findings=self.findings,
        )

    def _redraw(self, generator: Generator, evidence: Evidence, forcing: TeacherForcing | None) -> Redraw:
        return Redraw(
            generator,
            load_judge(self.plan, self._judge_folder, self.device),
            self.plan,
            evidence,
            tolerance=self.tolerance,
            exact=self.exact,
            forcing=forcing,
            findings=self.findings,
        )

    def report(self, seconds: float) -> AuditReport:
        """Return what was found."""
        findings = self.findings
        return AuditReport(
            location=self.records.store.location,
            replica_id=self.records.replica.replica_id,
            plan_id=self.plan.plan_id,
            checkpoint_id=self.checkpoint.checkpoint_id,
            planned_checkpoint_id=self.plan.checkpoint_id,
            mode=self.mode,
            epsilon=float(self.epsilon) if self.plan.record_codes else None,
            pixel_tolerance=self.tolerance,
            exact=self.exact,
            selection=self.config.selection.to_json(),
            batch_size=self.batch_size,
            threads=self.numerics.threads,
            counts=findings.counts,
            max_excess=findings.max_excess,
            max_pixel_difference=findings.max_pixel_difference,
            num_failures=findings.num_failures,
            failures=tuple(findings.failures),
            environment=self.environment,
            environment_differs=tuple(self.differs),
            versions=versions(),
            pairs=findings.pairs,
            seconds=seconds,
        )


def open_checkpoint(plan: Plan, folder: Path | None, *, allow: bool) -> Checkpoint:
    """Open the checkpoint to audit with, or bind the code; require_code() comes first.

    Raises:
        InputError: it is not the plan's, unless `allow` and of its family.
    """
    if plan.family in BOUND:
        refuse_folder(plan.family, folder)
        return rebind(plan, allow_other=allow)
    if folder is None:
        raise InputError(
            f"the plan is of family {plan.family}, the folder of its checkpoint has to be given (--checkpoint)"
        )
    checkpoint = load_checkpoint(folder)
    if checkpoint.checkpoint_id != plan.checkpoint_id and not allow:
        raise InputError(
            f"{folder}: checkpoint_id is {checkpoint.checkpoint_id}, the replica's plan names {plan.checkpoint_id}; "
            "--allow-checkpoint audits with it all the same"
        )
    if checkpoint.record["family"] != plan.family:
        raise InputError(
            f"{folder}: holds a checkpoint of {checkpoint.record['family']}, the plan's is of {plan.family}"
        )
    return checkpoint


def environment_differences(records: Records, environment: dict[str, Any]) -> list[str]:
    """Name what differs between this process's environment class and that of a replica; none if it is the same one.

    What a replica says of itself here decides whether equality is demanded or the stated tolerance: more than that is
    not gained by a lie, and `pixel_tolerance` 0 demands equality whatever it says.
    """
    told = _read_record(records, ENVIRONMENT_NAME)
    if told is None:
        return [f"{ENVIRONMENT_NAME} (not there)"]
    differing = differing_fields(environment, told)
    provenance = _read_record(records, "provenance.json") or {}
    if provenance.get("one_environment") is not True:
        differing.append("provenance.json does not say that it was drawn in one environment class")
    return differing


def _read_record(records: Records, name: str) -> dict[str, Any] | None:
    store, where = records.store, f"{records.store.location}/{name}"
    if not store.exists(name):
        return None
    if store.size(name) > MAX_RECORD_BYTES:
        raise InputError(f"{where}: {store.size(name)} bytes, at most {MAX_RECORD_BYTES} are read")
    value = parse_canonical(store.read(name), name=where)
    if not isinstance(value, dict):
        raise InputError(f"{where}: must be a JSON object")
    return value
