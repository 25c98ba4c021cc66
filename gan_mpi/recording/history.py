"""The line of this start in segments.jsonl: how far it got, and what it took."""

import math
import threading
import time

from gan_mpi.lifecycle.phases import Phases
from gan_mpi.runs.segments import Segment, read_segments, update_segment
from gan_mpi.training.run import Run

REWRITTEN = 10.0  # seconds at most after which a start that runs says how far it is


class History:
    """What this start of a run says of itself beside earlier ones.  Root writes it."""

    def __init__(self, run: Run) -> None:
        """Begin where earlier starts ended.  Collective."""
        self.run = run
        self.first_images = run.state.progress.images
        before = run.comm.on_root(lambda: read_segments(run.directory))
        saves = [segment.get("seconds_of_a_save", 0.0) for segment in before]
        self.slowest_save = max(saves, default=0.0)
        self.id = before[-1].get("id", 0) if before else 0
        self.state, self.written = "starting", -math.inf  # of time.monotonic
        self.energy = Segment()  # if it is known
        self.phases, self.seconds_to_start = Phases(), 0.0
        self._one = threading.Lock()  # who writes: the loop, or what saves behind it

    def begin(self, phases: Phases, seconds_to_start: float) -> None:
        """Note how long the start took; `phases` count on."""
        self.phases, self.seconds_to_start = phases, seconds_to_start

    def note_save(self, seconds: float) -> None:
        """Note how long a checkpoint took."""
        self.slowest_save = max(self.slowest_save, seconds)

    def note_energy(self, joules: float | None) -> None:
        """Note what the ranks' GPUs have taken."""
        if joules is not None:
            self.energy = Segment(gpu_joules=round(joules, 1))

    def go_on(self) -> None:
        """Write how far this start is that runs, unless that was done a moment ago; on root.

        Raises Refused.
        """
        if time.monotonic() - self.written > REWRITTEN or self.state != "running":
            self.update("running")

    def update(self, state: str) -> None:
        """Write that this start is `state`, as running, done or stopped.  Raises Refused."""
        with self._one:
            self.state, self.written = state, time.monotonic()
            seconds, progress = self.phases.total, self.run.state.progress
            update_segment(
                self.run.directory,
                self.id,
                last_step=progress.step,
                images=progress.images - self.first_images,
                seconds=round(seconds, 1),
                seconds_to_start=round(self.seconds_to_start, 1),
                node_hours=round(seconds * self.run.comm.node_count / 3600, 4),
                seconds_of_a_save=round(self.slowest_save, 2),
                state=state,
                **self.energy,
            )
