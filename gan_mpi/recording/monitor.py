"""Watching what is learned: alarms, and evaluations by all ranks."""

from collections.abc import Mapping
from typing import cast

import numpy as np

from gan_mpi.drawing.pictures import made_by
from gan_mpi.drawing.samples import CHUNK, POINTS, generate
from gan_mpi.errors import Refused
from gan_mpi.evaluation.reference import Reference
from gan_mpi.evaluation.writing import write_evaluation
from gan_mpi.extras.penalties import penalties_of_slope_0
from gan_mpi.recording.alarms import (
    COLLAPSE,
    FIRST_UPDATES,
    alarms,
    alarms_of_evaluation,
)
from gan_mpi.runs.evaluations import (
    Evaluation,
    best_evaluation,
    comparable,
    evaluation_line,
    read_evaluations,
)
from gan_mpi.runs.stats import StatsRecord
from gan_mpi.training.run import Run

REALS = 1000  # real images whose spread that of samples is compared with


class Monitor:
    """What is measured of a run besides its losses.  All ranks hold one."""

    def __init__(self, run: Run, reference: Reference | None) -> None:
        """Watch a run, evaluated against `reference` if given.  Collective."""
        self.run, self.reference = run, reference
        # The data of a site may be of one class: the widest counts.
        self.real_spread = max(run.comm.allgather(spread(run.dataset.images[:REALS])))
        doubts = reference.doubts(run.state.data) if reference else []
        run.comm.on_root(lambda: run.log.warnings(doubts))
        self.raised: set[str] = set()
        self.unrecorded: dict[str, str] = {}  # alarms since the last record

    def watch(self, means: Mapping[str, float]) -> None:
        """Raise the alarms of global means between two records, for the next of them; on root.

        Raises UserError if G has diverged.
        """
        record = cast(StatsRecord, dict(means))
        self._look(record, CHUNK)
        self.unrecorded |= record.get("alarms", {})

    def look(self, record: StatsRecord) -> None:
        """Add the spread of samples to a record of stats.jsonl, and raise its alarms; on root.

        Of points, also their mean and deviation (2,).  Raises UserError if G has diverged.
        """
        self._look(record, POINTS if self.run.state.data.are_points else CHUNK)
        if self.unrecorded:
            record["alarms"] = {**self.unrecorded, **record.get("alarms", {})}
            self.unrecorded = {}

    def _look(self, record: StatsRecord, count: int) -> None:
        """Do what look() does, by so many samples."""
        state = self.run.state
        samples = generate(state.sampler, state.config, range(count))
        if self.real_spread:
            record["spread"] = spread(samples) / self.real_spread
        if state.data.are_points:
            record |= {"mean": samples.mean(0).tolist(), "std": samples.std(0).tolist()}
        updates = {player: state.progress.updates_of(player) for player in "GD"}
        flat = penalties_of_slope_0(state.config, state.progress.step)
        self._raise(alarms(record, updates, state.game.loss.of_a_critic, flat), record)

    def is_due(self, before: int) -> bool:
        """Return whether an evaluation is due after the steps from `before` on."""
        every = self.run.options.evaluate_every
        if self.reference is None or every is None:
            return False
        return self.run.has_passed(before, every) or self.run.is_done

    def is_owed(self) -> bool:
        """Return whether the evaluation of the step just done is due and not there.  Collective."""
        state = self.run.state
        return self.is_due(state.previous_step) and self.run.comm.on_root(
            lambda: all(each["step"] != state.progress.step for each in self._evaluations())
        )

    @property
    def longest(self) -> float:
        """Seconds of the longest evaluation of this run so far, on root."""
        return max((each.get("seconds", 0.0) for each in self._evaluations()), default=0.0)

    def best_step(self) -> int | None:
        """Return the step of the best evaluation, on root."""
        best = best_evaluation(self._evaluations())
        return None if best is None else best["step"]

    def _evaluations(self) -> list[Evaluation]:
        """Return the evaluations that compare with those of this start, or with the last one."""
        like = None if self.reference is None else self.reference.conditions
        return comparable(read_evaluations(self.run.directory), like)

    def evaluate(self) -> Evaluation:
        """Compare samples with the test images; return what came of it, written.  Collective."""
        assert self.reference is not None
        state = self.run.state
        figures, pairs = self.reference.evaluate(
            state.sampler, state.config, state.data.class_names
        )
        progress = state.progress
        evaluation: Evaluation = {
            "step": progress.step,
            "kimg": progress.images / 1000,
            **figures,
        }
        self.run.comm.on_root(lambda: self._write(evaluation, pairs))
        return evaluation

    def _write(self, evaluation: Evaluation, pairs: np.ndarray) -> None:
        state = self.run.state
        if state.progress.updates_G >= FIRST_UPDATES:
            missing = [each["figures"].get("missing", ()) for each in self._evaluations()]
            fewest = min(map(len, missing), default=len(evaluation["figures"].get("histogram", ())))
            self._raise(alarms_of_evaluation(evaluation, fewest), evaluation)
        facts = made_by(state.config, state.data.name, state.progress.step)
        try:
            write_evaluation(self.run.directory, evaluation, pairs, facts)
        except Refused as error:  # a picture: the line is kept
            self.run.log.warning(f"{error} Training goes on; make room, or mend it.")
        self.run.log.line(evaluation_line(evaluation))

    def _raise(self, sentences: dict[str, str], record: StatsRecord | Evaluation) -> None:
        """Warn of what is new, note it in the record, and stop if that was asked for."""
        new = {name: text for name, text in sentences.items() if name not in self.raised}
        for text in new.values():
            self.run.log.warning(f"step {self.run.state.progress.step}: {text}")
        self.raised |= new.keys()
        if new:
            record["alarms"] = new
        if COLLAPSE in sentences and self.run.options.stop_on_collapse:
            self.run.stop.request_for_collapse()


def spread(samples: np.ndarray) -> float:
    """Return the root mean square distance between two of the samples (n, ...)."""
    flat = samples.reshape(len(samples), -1).astype(np.float64)
    return float(np.sqrt(2.0 * flat.var(axis=0).sum()))
