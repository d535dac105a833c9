"""Opens what a plan draws with: the checkpoint in a folder, or the code that it is bound to."""

from pathlib import Path

from caskit.gen.callable import rebind
from caskit.gen.checkpoint import Checkpoint, load_checkpoint
from caskit.gen.family import BOUND, require_code
from caskit.manifests.errors import InputError
from caskit.manifests.plan import Plan
from caskit.manifests.reconstruction import Reconstruction


def open_planned(plan: Plan | Reconstruction, folder: Path | None, *, allow_code: bool) -> Checkpoint:
    """Open the checkpoint of a plan and compare it with the plan; no code of a generator runs.

    Args:
        plan: a plan, or the record of a reconstruction.
        folder: of the checkpoint; None for a family whose generators are bound code.
        allow_code: whether code that is not caskit's own may be used.

    Raises:
        InputError: another checkpoint or other source than the plan's, or code that is not allowed.
        IntegrityError: the checkpoint is damaged.
    """
    if plan.family not in BOUND:
        if folder is None:
            raise InputError(f"the plan is of family {plan.family}, the folder of its checkpoint has to be given")
        return load_checkpoint(folder, plan.checkpoint_id)
    require_code(plan.family, plan.preset, allow_code=allow_code)
    refuse_folder(plan.family, folder)
    if not isinstance(plan, Plan):
        raise InputError(f"family {plan.family} cannot reconstruct images, it has no encoder; use another family")
    return rebind(plan)


def refuse_folder(family: str, folder: Path | None) -> None:
    """Raise InputError where a checkpoint is given for a family that has none."""
    if folder is not None:
        raise InputError(
            f"{folder}: family {family} has no checkpoints; --set files=NAME,... names data files beside the module"
        )
