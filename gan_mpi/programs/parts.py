"""Parts of one start: what goes on after a rollback, or without ranks that are gone."""

import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from gan_mpi.cluster.deadline import End
from gan_mpi.cluster.processors import settle_processors
from gan_mpi.config.given import Given, text_of
from gan_mpi.datasets.dataset import Dataset
from gan_mpi.errors import DIVERGED, UserError
from gan_mpi.evaluation.reference import Reference
from gan_mpi.lifecycle.phases import Phases
from gan_mpi.mpi.comm import ROOT, Communicator
from gan_mpi.mpi.survivors import (
    came_later,
    can_go_on,
    has_lost,
    missing,
    replace_the_lost,
    without_the_lost,
)
from gan_mpi.parallel.replicas import not_finite
from gan_mpi.recording.journal import Journal
from gan_mpi.recording.speed import Tick
from gan_mpi.runs.checkpoint import Checkpoint
from gan_mpi.runs.claim import Claim
from gan_mpi.training.run import Run
from gan_mpi.training.start import Start
from gan_mpi.training.state import RunState

ROLLBACKS = 3  # of a run, at most


@dataclass(frozen=True)
class Opened:
    """A run that this rank has open, and that goes on without others of its ranks."""

    part: int  # the number of the part that opened it
    start: Start
    run: Run
    journal: Journal
    state: RunState
    reference: Reference | None

    @property
    def mark(self) -> tuple[int, int]:
        """How far this rank is beside others: the part, and the marks in it."""
        return self.part, self.state.marks


@dataclass
class Part:
    """A part of this start: the first, or what goes on after a rollback or the loss of ranks."""

    comm: Communicator
    given: Given
    phases: Phases
    rollbacks: int = 0  # with the one before this part
    comes_first: bool = True
    is_replaced: bool = field(default_factory=came_later)  # a rank that was gone before this part
    start: Start | None = None  # that of ranks that go on, on root
    dataset: Dataset | None = None  # that all ranks have already
    reference: Reference | None = None  # the test images, if the run is evaluated
    since: Tick | None = None  # of the last status line of the part before
    end: End | None = None  # of the job; root's counts
    fallen_claim: int = 0  # the number of that whose rank is gone
    number: int = 1
    opened: Opened | None = None
    before: Opened | None = None  # in a part before, to go on from until there is more

    def __post_init__(self) -> None:
        self.began_with = self.comm
        self.claim = 0  # the number of root's claim on the run directory
        self.following: Part | None = None

    @property
    def source(self) -> Opened | None:
        """What of this rank the others could go on from; they could once it has marks."""
        has_begun = self.opened is not None and self.opened.state.marks
        return self.opened if has_begun or self.before is None else self.before

    def next(self, comm: Communicator, run_dir: Path | None, rollbacks: int = 0) -> "Part":
        """Return the part after this one, in the run directory if there is one."""
        given = self.given
        if run_dir is not None:
            given = {name: value for name, value in given.items() if name != "outdir"}
            given["run_dir"] = str(run_dir)
        part = Part(comm, given, Phases(time.time()), rollbacks, False, self.is_replaced)
        part.end, part.fallen_claim, part.number = self.end, self.fallen_claim, self.number + 1
        return part


def first_part(comm: Communicator, given: Given, phases: Phases, end: End | None) -> Part:
    """Return what this process begins with; others are further if it replaces one that is gone."""
    part = Part(comm, given, phases, end=end)
    return part.next(comm, None) if came_later() else part


def roll_back(part: Part, journal: Journal, error: UserError, rollbacks: int) -> Part:
    """Let a run that has diverged go back to its last checkpoint, if it may once more.

    Raises the error, which then names the first weight that is not finite, if not.  Collective.
    """
    run = journal.run
    if where := not_finite(run.comm, **run.state.networks):
        error = error.retold(f"{error} {where} is not finite.", DIVERGED)
    if run.options.on_nan == "stop" or rollbacks == ROLLBACKS:
        raise error
    journal.roll_back(error, rollbacks + 1, ROLLBACKS)
    return part.next(part.comm, run.directory, rollbacks + 1)


def go_on_without_the_lost(part: Part, claim: Claim, error: Exception) -> Part:
    """Return what goes on without ranks that are gone, of what the furthest of the others has.

    Raises the error if they shall not go on, or none is gone, and on a rank that has nothing to go
    on from yet, as it has just taken the place of another.  Collective among those that are left.
    """
    goes_on = can_go_on() and (text_of(part.given, "on_failure") or "abort") != "abort"
    if came_later() and part.opened is None:
        raise error
    while goes_on and has_lost(part.comm, error):
        try:
            part.comm = without_the_lost(part.comm)
            gone = missing(part.began_with, part.comm)
            if not gone:
                raise error
            if ROOT in gone:
                part.fallen_claim = part.claim
            following = _of_the_furthest(part)
            _replace_the_lost(part, following, len(gone))
        except Exception as another:
            if another is error:
                raise
            error = another
        else:
            claim.release()
            return following
    raise error


def _of_the_furthest(part: Part) -> Part:
    """Return the part that follows, with the state of the furthest of the ranks that are left."""
    comm, source = part.comm, part.source
    mine = (None, (0, 0)) if source is None else (source.run.directory, source.mark)
    directories, marks, replaced = zip(*comm.allgather((*mine, part.is_replaced)), strict=True)
    part.is_replaced = any(replaced)
    following = part.next(comm, next(filter(None, directories), None))
    furthest = marks.index(max(marks))
    goes_on = marks[furthest][1] and marks[ROOT] != (0, 0)  # else from the last checkpoint, if any
    if not goes_on or source is None:
        return following
    saved = None
    if comm.rank in (ROOT, furthest):
        gather = partial(source.state.gather_marked, comm)
        saved = gather() if furthest == ROOT else comm.ask(furthest, gather)
    if saved is not None:  # on root
        following.start = _start(source, saved, comm)
    if (0, 0) not in marks:
        following.dataset, following.reference = source.run.dataset, source.reference
    following.since, following.before = source.journal.last, source
    return following


def _start(source: Opened, saved: Checkpoint, comm: Communicator) -> Start:
    """Return how the ranks that are left go on from a state, and record the loss; on root."""
    gone = missing(source.run.comm, comm)
    said = source.journal.go_on_without(gone, comm.world_size, saved["progress"]["step"] + 1)
    return replace(
        source.start,
        run_dir=source.run.directory,
        saved=saved,
        transferred=None,
        dataset=None,
        owes_checkpoint=ROOT in gone,
        warnings=[said],
    )


def _replace_the_lost(part: Part, following: Part, count: int) -> None:
    """Let new ranks take the place of those that are gone, if they may, once.  Collective.

    They have no data yet, and so all ranks read them again.
    """
    if text_of(part.given, "on_failure") != "respawn" or part.is_replaced:
        return
    part.is_replaced = following.is_replaced = True
    everyone = replace_the_lost(part.comm, count)
    if everyone is None:
        if following.start is not None:
            following.start.warnings.append("MPI starts no rank in its place: without a slot?")
        return
    part.comm = following.comm = following.began_with = everyone
    settle_processors(everyone)
    following.dataset = following.reference = None
