"""How fast a run goes, and which share of its time it waits for data."""

import dataclasses
import time


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """A moment of a run on one process.

    Attributes:
        step: updates done by then.
        at_s: on a clock that only runs forward.
        waited_s: seconds that this process had waited for data; None where its task does not measure it.
    """

    step: int
    at_s: float
    waited_s: float | None


def mark(step: int, task: object) -> Mark:
    """Note where a run stands now; a task that reads data says in `waited_s` how long it has waited for it so far."""
    waited_s = getattr(task, "waited_s", None)
    return Mark(step=step, at_s=time.monotonic(), waited_s=None if waited_s is None else float(waited_s))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pace:
    """What lies between two moments of a run."""

    begin: Mark
    end: Mark

    @property
    def seconds(self) -> float:
        """How long it took."""
        return max(self.end.at_s - self.begin.at_s, 1e-9)

    @property
    def steps_per_s(self) -> float:
        """Updates per second."""
        return (self.end.step - self.begin.step) / self.seconds

    @property
    def waiting(self) -> float | None:
        """Share of the time, 0 to 1, in which this process waited for data; None where it was not measured.

        It is the time in which the process that computes stood still for want of images. A GPU may still be at work
        then: there it is an upper bound.
        """
        if self.begin.waited_s is None or self.end.waited_s is None:
            return None
        return min(1.0, (self.end.waited_s - self.begin.waited_s) / self.seconds)
