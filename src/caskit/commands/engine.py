"""The training engine's progress, as the meter shows it."""

from collections.abc import Callable

from caskit.console import Meter, Status
from caskit.train.engine import Progress


def engine_status(show: Meter, unit: str = "steps") -> Callable[[Progress], None]:
    """Return what to hand to a stage that trains: it shows steps, images per second, the loss and how much it waits."""

    def show_progress(progress: Progress) -> None:
        loss = progress.metrics.get("loss")
        details = {} if loss is None else {"loss": f"{loss:.4f}"}
        if progress.waiting is not None:
            details["waiting for data"] = f"{100 * progress.waiting:.0f} %"
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
