"""Where the time of a process goes, by phase."""

import time
from types import TracebackType

PHASES = (
    "data",
    "forward",
    "backward",
    "batch_norm",  # its own computing
    "batch_norm_sums",
    "communication",
    "optimizer",
    "evaluation",
    "saving",
)


class Clock:
    """Seconds by phase.  Phases nest, and every moment counts for the innermost one."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._open: list[str] = []
        self._since = 0.0

    def phase(self, name: str) -> "Phase":
        """Return a context whose time counts for `name`, one of PHASES, or for none if empty."""
        return Phase(self, name)

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each phase so far, waiting for slower ranks included."""
        self._count()
        return dict(self._seconds)

    def _count(self) -> None:
        """Count the time since the last change for the phase that is open."""
        now = time.perf_counter()
        if self._open and self._open[-1]:
            self._seconds[self._open[-1]] += now - self._since
        self._since = now

    def _enter(self, name: str) -> None:
        self._count()
        self._open.append(name)

    def _leave(self) -> None:
        self._count()
        self._open.pop()


class Phase:
    """What `with` opens and closes on a clock."""

    def __init__(self, clock: Clock, name: str) -> None:
        self._clock, self._name = clock, name

    def __enter__(self) -> None:
        self._clock._enter(self._name)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._clock._leave()


def between(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Return the seconds of each phase from one reading of a clock to a later one."""
    return {name: after[name] - before[name] for name in after}
