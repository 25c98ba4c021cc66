"""What a run leaves behind: status lines, statistics, checkpoints, sample grids and curves."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from gan_mpi.cluster.cards import Meter, energy
from gan_mpi.errors import Refused, UserError
from gan_mpi.files import append_line, keep_lines, write_kept_lines
from gan_mpi.lifecycle.phases import Phases
from gan_mpi.parallel.replicas import check_finite, check_replicas
from gan_mpi.recording.board import Board
from gan_mpi.recording.closing import closing_lines
from gan_mpi.recording.gallery import Gallery
from gan_mpi.recording.history import History
from gan_mpi.recording.log_formats import log_format_of
from gan_mpi.recording.monitor import Monitor
from gan_mpi.recording.opening import slowest, started_line
from gan_mpi.recording.saving import Saver, sizes_of_copies
from gan_mpi.recording.speed import Tick, record_of, tick
from gan_mpi.runs import checkpoint, stats
from gan_mpi.runs.checkpoint import Checkpoint
from gan_mpi.runs.directory import list_checkpoints
from gan_mpi.runs.places import forget_places, last_seen
from gan_mpi.runs.records import to_line
from gan_mpi.runs.segments import ROLLED_BACK
from gan_mpi.runs.stats import StatsRecord, read_stats
from gan_mpi.training.run import Run, best_interval

WATCH = 100  # steps at most after which alarms see what goes wrong


class Journal:
    """The writer of one run directory.  All ranks hold one; rank 0 writes."""

    def __init__(self, run: Run, monitor: Monitor, since: Tick | None = None) -> None:
        """`since` is of the last status line, if the part of a run before wrote one."""
        self.run, self.monitor = run, monitor
        self.history = History(run)
        self.meter = Meter(run.state.game.G.bucket.buffer.device)
        writes_board = run.options.tensorboard and run.comm.is_root
        step = run.state.progress.step
        self.board = Board(run.directory if writes_board else None, step)
        self.gallery = Gallery(run, self.board)
        self.format = log_format_of(run.options, run.state.config)
        self.keep = run.options.keep or ("best" if run.options.evaluate_every else "last")
        checkpoints = run.comm.on_root(lambda: list_checkpoints(run.directory))
        self.first_step = step
        self.saved_step = step if step in dict(checkpoints) else -1
        retries = run.options.checkpoint_retries
        sizes = sizes_of_copies(run.state) if run.comm.is_root else ()
        self.saver = Saver(run.log.warning, retries, bool(checkpoints), sizes)
        self.cannot_write = ""  # why, while something cannot be written
        self.watched = run.state.window.to_dict()  # what alarms have been raised of
        self.since, self.planned = since, tick(run)  # of the last checkpoint
        self.last = since or self.planned  # at the last status line
        self.began = self.planned.at

    def __enter__(self) -> Self:
        self.run.comm.on_root(lambda: keep_lines(self.run.directory))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for what is being written, if an error ends the run, and that error counts."""
        with suppress(Exception):
            self.saver.wait()
        with suppress(Refused):
            write_kept_lines(self.run.directory)

    @property
    def slowest_save(self) -> float:
        """Seconds of the slowest checkpoint of this run so far."""
        return self.history.slowest_save

    @property
    def slowest_evaluation(self) -> float:
        """Seconds of the slowest evaluation of this run so far, on root; 0 elsewhere."""
        return self.monitor.longest if self.run.comm.is_root else 0.0

    def begin(self, phases: Phases) -> None:
        """Say how long the start took, and what the lines to come mean.  Collective."""
        started = slowest(self.run.comm, phases)
        self.history.begin(phases, sum(started.values()))
        self.run.comm.on_root(
            lambda: self.run.log.lines([started_line(started), *self.format.header()])
        )
        self.planned = tick(self.run)
        self.last, self.began = self.since or self.planned, self.planned.at

    def record_step(self, before: int, stopping: bool) -> None:
        """Report, evaluate and save what is due after the steps from `before` on.  Collective."""
        run = self.run
        self.saver.look()
        self._report(before)
        evaluates = self.monitor.is_due(before) and (run.is_done or not stopping)
        if evaluates:
            self.evaluate()
        if evaluates or run.save_is_due(before):
            self.save()

    def make_up(self) -> None:
        """Do what is owed of record_step(), within which a rank was lost.  Collective."""
        run, step = self.run, self.run.state.progress.step
        if run.comm.on_root(lambda: any(r["step"] == step for r in read_stats(run.directory))):
            run.state.begin_window()
            self.watched = run.state.window.to_dict()
        else:
            self._report(step - 1)
        evaluates = self.monitor.is_due(step - 1)
        if self.monitor.is_owed():
            self.evaluate()
        if (evaluates or run.save_is_due(step - 1)) and step != self.saved_step:
            self.save()

    def _report(self, before: int) -> None:
        """Write lines and record, if it is time after the steps from `before` on.  Collective."""
        run = self.run
        self._watch(before)
        is_due = run.status_is_due(before)
        if not is_due and not run.is_done:
            return
        run.state.settle()  # the time that a device still takes counts
        now = tick(self.run)
        record = record_of(run, self.last, now)
        with_lines = is_due or run.options.log_format == "plain"
        run.comm.on_root(lambda: self._write(record, with_lines))
        self.last = tick(self.run)
        run.state.begin_window()
        self.watched = run.state.window.to_dict()

    def _watch(self, before: int) -> None:
        """Raise alarms between status lines that are far apart.  Collective."""
        run = self.run
        if run.status_every <= WATCH or not run.has_passed(before, WATCH):
            return
        means = run.state.window.since(self.watched).means()
        with run.comm.clock.phase("evaluation"):  # which is not counted as training
            run.comm.on_root(lambda: self.monitor.watch(means))
        self.watched = run.state.window.to_dict()

    def _write(self, record: StatsRecord, with_lines: bool) -> None:
        run = self.run
        self.saver.require_sound()
        self.monitor.look(record)
        append_line(run.directory / stats.STATS_FILE, to_line(record))
        self.board.add_record(record)
        self._attempt(self.history.go_on)
        if with_lines:
            for line in self.format.lines(record, run.state):
                run.log.line(line)

    def _attempt(self, write: Callable[[], None]) -> None:
        """Write a file that is written again soon; say it once if that fails for now."""
        try:
            write()
            self.cannot_write = ""
        except Refused as error:
            if not self.cannot_write:
                self.run.log.warning(f"{error} Training goes on; make room, or mend it.")
            self.cannot_write = str(error)

    def evaluate(self) -> None:
        """Compare samples with the test images.  Collective."""
        self.run.state.settle()
        with self.run.comm.clock.phase("evaluation"):
            self.board.add_evaluation(self.monitor.evaluate())

    def save(self) -> None:
        """Compare the replicas, then let a checkpoint and a picture be written.  Collective."""
        run = self.run
        with run.comm.clock.phase("saving"):
            began = time.perf_counter()
            check_replicas(run.comm, **run.state.networks)
            check_finite(run.comm, **run.state.networks)
            gathered = run.state.gather(run.comm)
            run.comm.on_root(lambda: self._save(gathered, began))
        self.history.note_energy(energy(run.comm, self.meter))
        self.saved_step = run.state.progress.step
        if run.saves.by_cost:
            self._plan_next(time.perf_counter() - began)

    def _plan_next(self, cost: float) -> None:
        """Let the next checkpoint be due when that loses least, by what this one cost.  Collective.

        `cost` are the seconds that training stood still.
        """
        run, now = self.run, tick(self.run)
        step, seconds = now.step - self.planned.step, now.at - self.planned.at
        self.planned = now
        if step:
            interval = best_interval(cost, 3600 * run.options.mtbf / run.comm.node_count)
            steps = run.comm.broadcast(round(interval * step / seconds))
            run.saves.plan(now.step, steps)

    def _save(self, gathered: Checkpoint, began: float) -> None:
        draw = self.gallery.samples()  # fails if the generator has diverged
        best = self.monitor.best_step() if self.keep == "best" else None
        step, before = self.run.state.progress.step, time.perf_counter() - began
        self.saver.begin(
            gathered, lambda copied: self._write_save(step, copied, draw, best, before)
        )

    def _write_save(
        self,
        step: int,
        content: Checkpoint,
        draw: Callable[[Checkpoint], None],
        best: int | None,
        before: float,
    ) -> None:
        """Write what belongs to a checkpoint, while training goes on.  Raises UserError.

        `before` are the seconds that it took up to here, `best` is the step of the best one.
        """
        began, directory = time.perf_counter(), self.run.directory
        with suppress(Refused):  # which the checkpoint then tells
            draw(content)
        if self.keep == "all":
            checkpoint.write_checkpoint(directory, step, content)
        else:
            checkpoint.save_checkpoint(directory, step, content, best)
        self.history.note_save(before + time.perf_counter() - began)
        if step > self.first_step:
            with suppress(Refused):
                self.history.update("running")

    def wait(self) -> None:
        """Wait for the checkpoint under way.  Raises what it ran into.  Collective."""
        self.run.comm.on_root(self.saver.wait)

    def show_reals(self) -> None:
        """Draw the first of the data as the run sees them, if it may, on root.  Collective."""
        if self.run.state.shows_reals:
            self.run.comm.on_root(self.gallery.reals)

    def roll_back(self, error: UserError, number: int, most: int) -> None:
        """Say that the run goes back to its last checkpoint, for the time `number`.  Collective."""
        run = self.run
        run.log.warning(
            f"{error} The run goes back to its last checkpoint, and on with other random numbers "
            f"({number} of {most} times)."
        )
        run.comm.on_root(lambda: self._attempt(lambda: self.history.update(ROLLED_BACK)))
        self.board.close()

    def go_on_without(self, gone: Sequence[int], left: int, step: int) -> str:
        """Note that ranks are gone, and that so many are left; return what to say.  Root's.

        `step` is the one in which they go on.
        """
        run = self.run
        seen = last_seen(run.directory, gone)
        forget_places(run.directory)
        named = " and ".join(f"rank {rank}" for rank in gone)
        self._attempt(lambda: self.history.update(f"went on without {named}"))
        self.board.close()
        is_gone = "is gone" if len(gone) == 1 else "are gone"
        others = "the other goes on" if left == 1 else f"the other {left} go on"
        return f"{seen} {is_gone}; {others} in step {step}."

    def finish(self) -> None:
        """Save, draw the curves, and say what there is and what can be done next.  Collective."""
        run, step = self.run, self.run.state.progress.step
        if step != self.saved_step:
            self.save()
        run.comm.on_root(self.saver.insist)
        why = "" if run.is_done else f" ({run.stop.reason or 'a signal to another rank'})"
        run.comm.on_root(lambda: self.history.update("done" if run.is_done else f"stopped{why}"))
        run.comm.on_root(self.gallery.curves)
        self.board.close()
        seconds = time.perf_counter() - self.began
        closing = self.format.closing(run.state, seconds, run.comm.world_size)
        now = f"{step - self.first_step} of them in {stats.duration(seconds)}{why}"
        run.comm.on_root(lambda: run.log.lines([*closing, *closing_lines(run, now)]))
        run.comm.on_root(lambda: write_kept_lines(run.directory))
