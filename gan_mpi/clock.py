"""Where the time of a process goes, by phase, and where it is now."""

import mmap
import os
import struct
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


RECORD = struct.Struct("<5Q1s23s")  # process, moves, updates, step, update, player, phase
CODES = {name: name.encode() for name in ("", "G", "D", *PHASES)}


class Whereabouts:
    """What this process does, and how often it has moved on."""

    def __init__(self) -> None:
        self.moves = 0
        self._page: bytearray | mmap.mmap | None = None
        self.begin()

    def show_in(self, page: bytearray | mmap.mmap | None) -> None:
        """Write a RECORD into memory, which may outlive this process, with each change from now on.

        It costs less than a microsecond, and no call of the system.
        """
        self._page, self._process = page, os.getpid()
        self._show()

    def _show(self) -> None:
        if (page := self._page) is not None:
            where = self.moves, self.updates, self.step, self.update
            RECORD.pack_into(page, 0, self._process, *where, CODES[self.player], CODES[self.phase])

    def begin(self) -> None:
        """Say that a run begins, or goes on."""
        self.phase = ""  # of a clock; empty between phases
        self.updates = 0  # of both players that have begun
        self.step, self.player, self.update = 0, "", 0  # of the one that began last

    def move(self) -> None:
        """Say that something goes on: called for each piece of what may take long."""
        self.moves += 1

    def enter(self, phase: str) -> None:
        """Say which phase goes on, empty for none."""
        self.moves += 1
        self.phase = phase
        self._show()

    def begin_update(self, step: int, player: str, update: int) -> None:
        """Say which update of G or D begins."""
        self.updates += 1
        self.step, self.player, self.update = step, player, update
        self._show()


HERE = Whereabouts()


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
        HERE.enter(name)

    def _leave(self) -> None:
        self._count()
        self._open.pop()
        HERE.enter(self._open[-1] if self._open else "")


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
