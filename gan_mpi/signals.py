"""Signals that ask for an orderly stop; the handler only sets a flag."""

import signal
import time
from types import FrameType

STOPPING = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)
SAME_KEY_PRESS = 1.0  # seconds: a terminal and mpiexec both pass on the same Ctrl-C


class StopRequest:
    """Whether this rank was asked to stop; all ranks agree on it in the next update."""

    def __init__(self) -> None:
        self.requested = False
        self._first_interrupt: float | None = None

    def install(self) -> None:
        """Catch SIGUSR1, SIGTERM and SIGINT; called again after MPI has set its own handlers."""
        for number in STOPPING:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if number != signal.SIGINT:
            return
        now = time.monotonic()
        if self._first_interrupt is None:
            self._first_interrupt = now
        elif now - self._first_interrupt > SAME_KEY_PRESS:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
