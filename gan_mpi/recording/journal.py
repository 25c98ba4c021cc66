"""What a run leaves behind: status lines, statistics, checkpoints, sample grids and curves."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from gan_mpi.config import RunConfig, grid_size
from gan_mpi.config.presets import PRESETS
from gan_mpi.config.resolve import remembered
from gan_mpi.files import append_line, sweep
from gan_mpi.lifecycle.phases import Phases
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.replicas import check_replicas
from gan_mpi.recording.board import Board
from gan_mpi.recording.formats import make_format
from gan_mpi.recording.gallery import Gallery, default_grid
from gan_mpi.recording.monitor import Monitor
from gan_mpi.recording.opening import slowest, started_line
from gan_mpi.runs import checkpoint, stats
from gan_mpi.runs import directory as rundir
from gan_mpi.runs.evaluations import forget_evaluations_after
from gan_mpi.runs.log import Log
from gan_mpi.runs.segments import append_segment, read_segments, update_segment
from gan_mpi.training import progress
from gan_mpi.training.start import Start
from gan_mpi.training.state import RunState


class Journal:
    """The writer of one run directory.  All ranks hold one; rank 0 writes."""

    def __init__(
        self,
        comm: Communicator,
        state: RunState,
        run: RunConfig,
        log: Log,
        run_dir: Path,
        phases: Phases,
        monitor: Monitor,
    ) -> None:
        self.comm = comm
        self.monitor = monitor
        self.state = state
        self.run = run
        self.log = log
        self.run_dir = run_dir
        self.phases = phases
        self.nodes = comm.node_count
        self.keep = run.keep or ("best" if run.evaluate_every else "last")
        self.first_images = self.ticked_images = state.progress.images
        before = read_segments(run_dir) if comm.is_root else []
        saves = [segment.get("seconds_of_a_save", 0.0) for segment in before]
        self.slowest_save = max(saves, default=0.0)
        self.seconds_to_start = 0.0
        writes_board = run.tensorboard and comm.is_root
        self.board = Board(run_dir if writes_board else None, state.progress.step)
        self.gallery = Gallery(
            run_dir, state, grid_size(run.grid or default_grid(state.data)), self.board
        )
        self.format = make_format(run.log_format, PRESETS[state.config.preset].cntk_log)
        self.first_step = self.saved_step = self.ticked_step = state.progress.step
        self.began = self.ticked = time.perf_counter()

    def begin(self) -> None:
        """Say how long the start took, and what the lines to come mean.  Collective."""
        started = slowest(self.comm, self.phases)
        self.seconds_to_start = sum(started.values())
        for line in [started_line(started), *self.format.header()]:
            self.log.line(line)
        self.began = self.ticked = time.perf_counter()
        self.comm.seconds = 0.0

    def is_due(self, before: int) -> bool:
        """Return whether a status line is due after the steps from `before` on."""
        step, steps = self.state.progress.step, self.state.config.steps
        return progress.passed(before, step, self.format.interval(steps))

    def report(self, before: int) -> None:
        """Write lines and record, if it is time after the steps from `before` on.  Collective."""
        step, steps = self.state.progress.step, self.state.config.steps
        is_due = self.is_due(before)
        if not is_due and step < steps:
            return
        record = self._record()
        with_lines = is_due or self.run.log_format == "plain"
        self.comm.on_root(lambda: self._write(record, with_lines))
        now = time.perf_counter()
        self.ticked, self.ticked_step, self.comm.seconds = now, step, 0.0
        self.ticked_images = self.state.progress.images
        self.state.window = progress.Window()

    def _write(self, record: dict[str, Any], with_lines: bool) -> None:
        self.monitor.look(record)
        append_line(self.run_dir / stats.STATS_FILE, json.dumps(record))
        self.board.add_record(record)
        self._update_segment("running")
        if with_lines:
            for line in self.format.lines(record, self.state):
                self.log.line(line)

    def _record(self) -> dict[str, Any]:
        game, progress = self.state.game, self.state.progress
        now = time.perf_counter()
        seconds, steps = now - self.ticked, progress.step - self.ticked_step
        return {
            "step": progress.step,
            "epoch": progress.images / self.state.data["count"],
            "kimg": progress.images / 1000,
            "updates": dict(self.state.window.updates),
            **self.state.window.means(),
            "lr_G": game.G.optimizer.param_groups[0]["lr"],
            "lr_D": game.D.optimizer.param_groups[0]["lr"],
            "images_per_second": (progress.images - self.ticked_images) / seconds,
            "seconds_per_step": seconds / steps,
            "communication": self.comm.seconds / seconds,
            "time": time.time(),
            **self.state.more,
        }

    def evaluate(self) -> None:
        """Evaluate, outside the time that the speed of training is reckoned by.  Collective."""
        begin, communicated = time.perf_counter(), self.comm.seconds
        self.board.add_evaluation(self.monitor.evaluate())
        self.ticked += time.perf_counter() - begin
        self.comm.seconds = communicated

    def save(self) -> None:
        """Compare the replicas, then write the checkpoint and a picture.  Collective."""
        check_replicas(self.comm, **self.state.game.networks)
        begin = time.perf_counter()
        gathered = self.state.gather(self.comm)
        self.comm.on_root(lambda: self._save(gathered))
        self.slowest_save = max(self.slowest_save, time.perf_counter() - begin)
        self.saved_step = self.state.progress.step

    def _save(self, gathered: dict[str, Any]) -> None:
        step = self.state.progress.step
        state = {**self.state.to_dict(), **gathered}
        self.gallery.samples()  # fails if the generator has diverged
        if self.keep == "all":
            checkpoint.write_checkpoint(self.run_dir, step, state)
        else:
            best = self.monitor.best_step() if self.keep == "best" else None
            checkpoint.save_checkpoint(self.run_dir, step, state, best)

    def show_reals(self, real: np.ndarray) -> None:
        """Draw the first of the data as the run sees them, on root.  Collective."""
        self.comm.on_root(lambda: self.gallery.reals(real))

    def _update_segment(self, state: str) -> None:
        seconds = self.phases.total
        update_segment(
            self.run_dir,
            last_step=self.state.progress.step,
            images=self.state.progress.images - self.first_images,
            seconds=round(seconds, 1),
            seconds_to_start=round(self.seconds_to_start, 1),
            node_hours=round(seconds * self.nodes / 3600, 4),
            seconds_of_a_save=round(self.slowest_save, 2),
            state=state,
        )

    def finish(self, reason: str | None) -> None:
        """Save, draw the curves, and say what there is and what can be done next.  Collective.

        `reason` is why the run stops early, as root knows it.
        """
        if self.state.progress.step != self.saved_step:
            self.save()
        is_done = self.state.progress.step == self.state.config.steps
        why = "" if is_done else f" ({reason or 'a signal to another rank'})"
        self.comm.on_root(lambda: self._update_segment("done" if is_done else f"stopped{why}"))
        self.comm.on_root(self.gallery.curves)
        self.board.close()
        seconds = time.perf_counter() - self.began
        closing = self.format.closing(self.state, seconds, self.comm.world_size)
        for line in [*closing, *self._closing_lines(seconds, why)]:
            self.log.line(line)

    def _closing_lines(self, seconds: float, why: str) -> list[str]:
        step, steps = self.state.progress.step, self.state.config.steps
        losses = ", ".join(
            f"of {player} {self.state.losses[f'loss_{player}']:.4f}"
            for player in "GD"
            if f"loss_{player}" in self.state.losses
        )
        resume = f"gan-mpi train --resume {self.run_dir}"
        stopped = step < steps
        done = f"{'stopped after' if stopped else 'done:'} {step} of {steps} steps"
        now = f"{step - self.first_step} of them in {stats.duration(seconds)}{why}"
        longer = f"train longer: {resume} --steps {2 * steps}"
        return [
            f"{done}, {now}" + (f"; loss {losses}" if losses else ""),
            f"samples: {self.run_dir / f'fakes-{step:06d}.png'}",
            f"draw more: gan-mpi sample {self.run_dir} --seeds 0-99",
            f"go on: {resume}" if stopped else longer,
        ]


def open_run_dir(
    run: RunConfig, state: RunState, start: Start, segment: dict[str, Any], log: Log
) -> Path:
    """Make the run directory, or make it ready to go on; on root.

    `segment` is this start's line for segments.jsonl.  Raises UserError.
    """
    config, step = state.config, state.progress.step
    if start.run_dir is None:
        description = f"{config.preset}-{state.data['name']}-b{config.batch}"
        run_dir = rundir.make_numbered(Path(run.outdir), description)
    else:
        run_dir = start.run_dir if start.saved else rundir.make_named(start.run_dir)
    sweep(run_dir)
    stats.forget_stats_after(run_dir, step)
    forget_evaluations_after(run_dir, step)
    about = {"config": asdict(config), "data": state.data}
    rundir.write_config(run_dir, {**about, "evaluation": remembered(run)})
    append_segment(run_dir, segment)
    going_on = f", going on after step {step}" if start.saved else ""
    log.line(f"run directory: {run_dir}{going_on}")
    log.attach(run_dir / rundir.LOG_FILE)
    return run_dir
