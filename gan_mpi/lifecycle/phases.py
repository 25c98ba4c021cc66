"""How long each phase of a start takes, counted from when the process began."""

import os
import time


def process_start() -> float:
    """Return when this process began, in seconds since 1970.  Source: proc(5), stat and uptime."""
    with open("/proc/self/stat") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    with open("/proc/uptime") as file:
        uptime = float(file.read().split()[0])
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")


class Phases:
    """Seconds by phase of a start, in order."""

    def __init__(self, began: float | None = None) -> None:
        """Count from `began`, seconds since 1970, or from when the process began."""
        self.began = self._last = process_start() if began is None else began
        self.seconds: dict[str, float] = {}

    def end(self, name: str) -> None:
        """Say that what was done since the last phase is called `name`."""
        now = time.time()
        self.seconds[name] = now - self._last
        self._last = now

    @property
    def total(self) -> float:
        """Seconds since the process began."""
        return time.time() - self.began
