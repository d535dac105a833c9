"""The training engine's progress, as the meter shows it."""

from collections.abc import Callable

from caskit.console import Meter, Status
from caskit.train.engine import Progress


def engine_status(show: Meter, unit: str = "steps") -> Callable[[Progress], None]:
    """Return what to hand to a stage that trains: it shows steps, images per second and the loss."""

    def show_progress(progress: Progress) -> None:
        loss, waiting = progress.metrics.get("loss"), progress.metrics.get("waiting")
        details = {} if loss is None else {"loss": f"{loss:.4f}"}
        if waiting is not None and waiting > 0.1:
            details["waiting for images"] = f"{100 * waiting:.0f} %"
        status = Status(
            title=progress.stage,
            done=progress.step,
            total=progress.num_steps,
            unit=unit,
            rate=progress.images_per_s,
            details=details,
        )
        show(status)

    return show_progress
