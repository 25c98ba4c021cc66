"""What ends a run early, in order: a signal, the end of the job, a file named STOP."""

import signal
import time
from pathlib import Path
from types import FrameType

from gan_mpi.cluster.deadline import End
from gan_mpi.errors import UserError, reason

# A closed terminal sends SIGHUP, which nohup has a process ignore.
STOPPING = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SAME_KEY_PRESS = 1.0  # seconds: a terminal and mpiexec both pass on the same Ctrl-C
STOP_FILE = "STOP"
LOOK_EVERY = 1.0  # seconds between looks for the file, which may be on a slow file system
SLACK = 10.0  # seconds to draw the curves and leave, and for a scheduler's clock


class StopRequest:
    """Whether this rank was asked to stop, and why; all ranks agree in the next update."""

    def __init__(self) -> None:
        self.asked: str | None = None  # by what: a signal, the end of the job, a file
        self.collapsed = False
        self.stuck = ""  # what would stop the next start too, as a sentence
        self._first_interrupt: float | None = None
        self._under_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

    @property
    def reason(self) -> str | None:
        """Why to stop, None if there is no reason."""
        return self.asked or ("mode collapse" if self.collapsed else None)

    @property
    def requested(self) -> bool:
        return self.reason is not None

    def request_for_collapse(self) -> None:
        """Ask for a stop since the generator has collapsed."""
        self.collapsed = True

    def forget_collapse(self) -> None:
        """Take a request for collapse back, for the next run; no other."""
        self.collapsed = False

    def require_gone(self) -> None:
        """Raise UserError if the next start would stop at once too: 75 would be tried for ever."""
        if self.stuck:
            raise UserError(self.stuck)

    def install(self) -> None:
        """Catch STOPPING; called again after MPI has set its own handlers."""
        for number in STOPPING:
            ignored = number == signal.SIGHUP and self._under_nohup
            signal.signal(number, signal.SIG_IGN if ignored else self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.asked = signal.Signals(number).name
        if number != signal.SIGINT:
            return
        now = time.monotonic()
        if self._first_interrupt is None:
            self._first_interrupt = now
        elif now - self._first_interrupt > SAME_KEY_PRESS:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)


class NoRoom(UserError):
    """The job ends before a first step of a run."""


class Lookout:
    """What root watches besides signals: the clock, and whether somebody made a file STOP."""

    def __init__(
        self, stop: StopRequest, end: End | None, run_dir: Path, longest: float = 0.0
    ) -> None:
        """`longest` are the seconds of the longest evaluation, which is part of some steps."""
        self._stop = stop
        self._end = end
        self._file = run_dir / STOP_FILE
        self._looked = self._last = time.monotonic()
        self._longest_step = longest

    def check_room(self, slowest_save: float) -> None:
        """Raise NoRoom if the job ends before a first step; 75 would be tried for ever."""
        if self._end is None or self._left() > self._margin(slowest_save):
            return
        raise NoRoom(
            f"{self._end.source} leaves {max(0, self._left()):.0f} s after the start, and stopping "
            f"in time takes {self._margin(slowest_save):.0f} s; give the job more time."
        )

    def look(self, slowest_save: float) -> None:
        """Ask for a stop if it is time; called before each step.

        `slowest_save` is the longest that a checkpoint took, in seconds.  There is time as long as
        two more steps and two checkpoints would fit in what is left, and SLACK besides.
        """
        now = time.monotonic()
        self._longest_step = max(self._longest_step, now - self._last)
        self._last = now
        if self._end is not None and self._left() < self._margin(slowest_save):
            self._stop.asked = self._end.source
        if now - self._looked > LOOK_EVERY:
            self._looked = now
            self._look_for_file()

    def _look_for_file(self) -> None:
        """Ask for a stop if the file is there; a file system that fails now may do so later."""
        try:
            if not self._file.exists():
                return
        except OSError:
            return
        self._stop.asked = f"the file {self._file}"
        try:
            self._file.unlink(missing_ok=True)
        except OSError as error:
            self._stop.stuck = f"{self._file} cannot be removed: {reason(error)}; remove it."

    def _left(self) -> float:
        assert self._end is not None
        return self._end.at - time.time()

    def _margin(self, slowest_save: float) -> float:
        return SLACK + 2 * (self._longest_step + slowest_save)
