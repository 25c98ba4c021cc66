"""Watching what is learned: alarms at every status line, and evaluations by all ranks."""

from pathlib import Path
from typing import Any

import numpy as np

from gan_mpi.config import RunConfig
from gan_mpi.drawing.pictures import provenance
from gan_mpi.drawing.samples import CHUNK, POINTS, generate
from gan_mpi.evaluation.record import write_evaluation
from gan_mpi.evaluation.reference import Reference
from gan_mpi.lifecycle.stopping import StopRequest
from gan_mpi.mpi.comm import Communicator
from gan_mpi.recording.alarms import (
    COLLAPSE,
    FIRST_UPDATES,
    alarms,
    alarms_of_evaluation,
)
from gan_mpi.runs.evaluations import (
    best_evaluation,
    comparable,
    evaluation_line,
    read_evaluations,
)
from gan_mpi.runs.log import Log
from gan_mpi.training.progress import passed
from gan_mpi.training.state import RunState

REALS = 1000  # real images whose spread that of samples is compared with


class Monitor:
    """What is measured of a run besides its losses.  All ranks hold one."""

    def __init__(
        self,
        comm: Communicator,
        state: RunState,
        run: RunConfig,
        log: Log,
        run_dir: Path,
        real: np.ndarray,
        reference: Reference | None,
        stop: StopRequest,
    ) -> None:
        """Watch a run on `real` images, evaluated against `reference` if given.  Collective."""
        self.comm, self.state, self.run, self.log = comm, state, run, log
        self.run_dir, self.reference, self.stop = run_dir, reference, stop
        # Those of a site may be of one class: the widest counts.
        self.real_spread = max(comm.allgather(spread(real[:REALS])))
        self.raised: set[str] = set()

    def look(self, record: dict[str, Any]) -> None:
        """Add the spread of samples to a record of stats.jsonl, and raise its alarms; on root.

        Of points, also their mean and deviation (2,).  Raises UserError if G has diverged.
        """
        are_points = len(self.state.data["shape"]) == 1
        seeds = range(POINTS if are_points else CHUNK)
        samples = generate(self.state.game.sampler, self.state.config, seeds)
        if self.real_spread:
            record["spread"] = spread(samples) / self.real_spread
        if are_points:
            record |= {"mean": samples.mean(0).tolist(), "std": samples.std(0).tolist()}
        progress = self.state.progress
        updates = {"G": progress.updates_G, "D": progress.updates_D}
        self._raise(alarms(record, updates), record)

    def is_due(self, before: int) -> bool:
        """Return whether an evaluation is due after the steps from `before` on."""
        step, every = self.state.progress.step, self.run.evaluate_every
        if self.reference is None or every is None:
            return False
        return passed(before, step, every) or step == self.state.config.steps

    def is_owed(self) -> bool:
        """Return whether the evaluation of the step just done is due and not there.  Collective."""
        step = self.state.progress.step
        return self.is_due(self.state.before) and self.comm.on_root(
            lambda: all(each["step"] != step for each in self._evaluations())
        )

    @property
    def longest(self) -> float:
        """Seconds of the longest evaluation of this run so far, on root."""
        return max((each.get("seconds", 0.0) for each in self._evaluations()), default=0.0)

    def best_step(self) -> int | None:
        """Return the step of the best evaluation, on root."""
        best = best_evaluation(self._evaluations())
        return None if best is None else best["step"]

    def _evaluations(self) -> list[dict[str, Any]]:
        """Return the evaluations that compare with those of this start, or with the last one."""
        like = None if self.reference is None else self.reference.conditions
        return comparable(read_evaluations(self.run_dir), like)

    def evaluate(self) -> dict[str, Any]:
        """Compare samples with the test images; return the record, once written.  Collective."""
        assert self.reference is not None
        state = self.state
        figures, pairs = self.reference.evaluate(state.game.sampler, state.config)
        progress = state.progress
        record = {"step": progress.step, "kimg": progress.images / 1000, **figures}
        self.comm.on_root(lambda: self._write(record, pairs))
        return record

    def _write(self, record: dict[str, Any], pairs: np.ndarray) -> None:
        if self.state.progress.updates_G >= FIRST_UPDATES:
            missing = [each["figures"].get("missing", ()) for each in self._evaluations()]
            fewest = min(map(len, missing), default=len(record["figures"].get("histogram", ())))
            self._raise(alarms_of_evaluation(record, fewest), record)
        write_evaluation(self.run_dir, record, pairs, provenance(self.state.to_dict()))
        self.log.line(evaluation_line(record))

    def _raise(self, found: dict[str, str], record: dict[str, Any]) -> None:
        """Warn of what is new, note it in the record, and stop if that was asked for."""
        new = {name: text for name, text in found.items() if name not in self.raised}
        for text in new.values():
            self.log.warning(f"step {self.state.progress.step}: {text}")
        self.raised |= new.keys()
        if new:
            record["alarms"] = new
        if COLLAPSE in found and self.run.stop_on_collapse:
            self.stop.request_for_collapse()


def spread(samples: np.ndarray) -> float:
    """Return the root mean square distance between two of the samples (n, ...)."""
    flat = samples.reshape(len(samples), -1).astype(np.float64)
    return float(np.sqrt(2.0 * flat.var(axis=0).sum()))
