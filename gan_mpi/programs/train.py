"""The training loop, from the first step to the last, whatever the number of ranks."""

import gc
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from gan_mpi.cluster.deadline import End, job_name
from gan_mpi.cluster.device import Placement, place, without
from gan_mpi.cluster.facts import require_agreement
from gan_mpi.cluster.memory import keep_freed_memory, return_freed_memory
from gan_mpi.config.given import Given, text_of
from gan_mpi.config.running import RunConfig
from gan_mpi.errors import DIVERGED, UserError
from gan_mpi.evaluation.reference import Reference, Wanted, make_reference
from gan_mpi.lifecycle.injection import Injection
from gan_mpi.lifecycle.phases import Phases
from gan_mpi.lifecycle.stopping import Lookout, NoRoom, StopRequest
from gan_mpi.lifecycle.watchdog import Watchdog
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.replicas import not_finite
from gan_mpi.recording.board import check_installed
from gan_mpi.recording.gallery import about_grid
from gan_mpi.recording.journal import Journal
from gan_mpi.recording.log_formats import log_format_of
from gan_mpi.recording.monitor import Monitor
from gan_mpi.recording.opening import mend_description, open_run_dir, opening_lines, segment
from gan_mpi.runs.claim import Claim
from gan_mpi.runs.log import Log
from gan_mpi.sites.rounds import Sites
from gan_mpi.training.replicas import Replicas
from gan_mpi.training.run import Ranks, Run, Saves
from gan_mpi.training.start import Start, find_start

DONE, STOPPED, COLLAPSED = 0, 75, 76  # exit codes
ROLLBACKS = 3  # of a run, at most
RANKS: dict[str, type[Replicas] | type[Sites]] = {"gradients": Replicas, "weights": Sites}


def train(
    comm: Communicator,
    given: Given,
    stop: StopRequest,
    phases: Phases | None = None,
    end: End | None = None,
) -> int:
    """Train by the options given, by parameter name; return the exit code.  Collective.

    0 is done, 75 stopped early and 76 stopped by a collapse, all with a checkpoint.  `phases` are
    those of the start so far, `end` is when the job ends; root's counts.  Raises UserError, with
    exit code 76 if the losses diverge.
    """
    with Claim(job_name() or "", lambda: stop.requested) as claim:
        ended = _train(comm, given, stop, phases or Phases(), end, claim)
        while ended.rollbacks:
            again = {name: value for name, value in given.items() if name != "outdir"}
            again["run_dir"] = ended.run_dir
            claim.release()
            gc.collect()  # the networks before, which refer to themselves
            phases = Phases(time.time())
            try:
                ended = _train(comm, again, stop, phases, end, claim, ended.rollbacks)
            except NoRoom as error:  # for what is left to do in the next job
                raise error.retold(str(error), STOPPED) from None
        return ended.code


@dataclass(frozen=True)
class Ended:
    """How training ended: with an exit code, or to go back to a checkpoint of a run once more."""

    code: int
    run_dir: str = ""
    rollbacks: int = 0  # with this one


def _train(
    comm: Communicator,
    given: Given,
    stop: StopRequest,
    phases: Phases,
    end: End | None,
    claim: Claim,
    rollbacks: int = 0,
) -> Ended:
    """Train with root's claim on the run directory.  Collective."""
    start, options, log = _prepare(comm, given, phases, claim, rollbacks)
    if start.finished is not None:
        comm.on_root(lambda: mend_description(start, options))
        log.line(start.finished)
        return Ended(DONE)
    asked, steps = None if start.saved else options.inject, start.config.steps
    injection = comm.alike(lambda: Injection.of(asked, comm.rank, comm.world_size, steps))
    ranks: Ranks = RANKS[start.config.average](comm, start)
    run, reference = _open(comm, ranks, start, options, log, stop, phases, claim)
    journal = Journal(run, Monitor(run, reference))
    try:
        watchdog = _watch(run, comm.on_root(lambda: claim.number))
        with watchdog, journal, closing(ranks):
            _write_first(journal, start, phases)
            _advance(run, ranks, journal, end, injection)
            journal.finish()
    except UserError as error:
        if error.exit_code != DIVERGED or not error.on_all_ranks:
            raise
        return _roll_back(run, journal, error, start.rollbacks)
    return Ended(_leave(run))


def _roll_back(run: Run, journal: Journal, error: UserError, rollbacks: int) -> Ended:
    """Let a run that has diverged go back to its last checkpoint, if it may once more.

    Raises the error, which then names the first weight that is not finite, if not.  Collective.
    """
    if where := not_finite(run.comm, **run.state.networks):
        error = error.retold(f"{error} {where} is not finite.", DIVERGED)
    if run.options.on_nan == "stop" or rollbacks == ROLLBACKS:
        raise error
    journal.roll_back(error, rollbacks + 1, ROLLBACKS)
    run.comm.close()
    return Ended(DIVERGED, str(run.directory), rollbacks + 1)


def _watch(run: Run, number: int) -> Watchdog:
    """Return what ends start `number` of a run if it hangs.  Collective."""
    timeout = run.options.hang_timeout
    watchdog = Watchdog(run.comm, run.directory, number, timeout)
    if timeout and not watchdog.sees_all:
        run.log.warning(
            f"the ranks cannot all read and write in {run.directory}: one that is suspended is not "
            "found, and --hang-timeout ends only what a rank does by itself"
        )
    return watchdog


def _advance(
    run: Run, ranks: Ranks, journal: Journal, end: End | None, injection: Injection
) -> None:
    """Train to the end, or until a stop.  Collective."""
    comm, stop = run.comm, run.stop
    slowest = comm.on_root(lambda: journal.slowest_evaluation)
    lookout = Lookout(stop, end, run.directory, slowest)
    comm.on_root(lambda: lookout.check_room(journal.slowest_save))
    progress, stopping = run.state.progress, False
    with run.log.progress(progress.step, run.state.config.steps) as bar:
        while not run.is_done and not stopping:
            if comm.is_root:
                lookout.look(journal.slowest_save)
            before = progress.step
            injection.strike(before + 1, run.state.networks)
            stopping = ranks.advance(run)
            bar.advance_to(progress.step)
            journal.record_step(before, stopping)


def _prepare(
    comm: Communicator, given: Given, phases: Phases, claim: Claim, rollbacks: int
) -> tuple[Start, RunConfig, Log]:
    """Return how the run starts, where it runs, and what speaks for it.  Collective.

    A run directory that is named is claimed before anything of it is read.
    """
    phases.end("imports")
    comm.barrier()
    require_agreement(comm)
    comm.on_root(lambda: _claim_named(claim, given))
    start = comm.on_root(lambda: find_start(given, rollbacks))
    options = comm.alike(lambda: start.options(given))
    log = Log(comm.is_root, options.quiet)
    for warning in start.warnings:
        log.warning(warning)
    return start, options, log


def _claim_named(claim: Claim, given: Given) -> None:
    resumed, named = text_of(given, "resume"), text_of(given, "run_dir")
    if named is not None:
        claim.take(Path(named))
    elif resumed is not None and Path(resumed).is_dir():
        claim.take(Path(resumed), "--resume")


def _open(
    comm: Communicator,
    ranks: Ranks,
    start: Start,
    options: RunConfig,
    log: Log,
    stop: StopRequest,
    phases: Phases,
    claim: Claim,
) -> tuple[Run, Reference | None]:
    """Open the data, networks and run directory; return the run, and its test images if wanted.

    Collective.
    """
    placement = place(comm, options.device)
    keep_freed_memory()
    if options.tensorboard:
        comm.on_root(check_installed)
    state = ranks.open(placement.device, phases)
    start.forget_tensors()
    for line in opening_lines(comm, state, ranks.lines(), ranks.dataset.notes, placement):
        log.line(line)
    shared = comm.allgather(ranks.shared)
    if not all(shared):
        where = " on some nodes" if any(shared) else ""
        log.line(f"no room in shared memory{where}: each rank keeps its own copy of the data")
    for warning in [*placement.warnings, *about_grid(options, state)]:
        log.warning(warning)
    if slow := without(state.config.precision, comm, placement.device):
        log.warning(slow)
    about = segment(comm, state.progress.step, placement, ranks.facts())
    reference = _reference(comm, ranks, start, options, placement, phases)
    return_freed_memory()  # that reading took
    directory = comm.on_root(lambda: open_run_dir(options, state, start, about, log, claim))
    every = log_format_of(options, state.config).interval(state.config.steps)
    saves = Saves(options.checkpoint_every, state.progress.step)
    run = Run(comm, options, state, ranks.dataset, log, directory, stop, every, saves)
    return run, reference


def _reference(
    comm: Communicator,
    ranks: Ranks,
    start: Start,
    options: RunConfig,
    placement: Placement,
    phases: Phases,
) -> Reference | None:
    """Return the test images to compare samples with, if the run is evaluated.  Collective."""
    if options.evaluate_every is None:
        return None
    wanted = Wanted(options.samples, options.classifier, start.run_dir)
    reference = make_reference(comm, wanted, start.source, ranks.dataset, placement.device)
    phases.end("test images")
    return reference


def _write_first(journal: Journal, start: Start, phases: Phases) -> None:
    """Make up an evaluation that is owed, and write the files of a new run.  Collective."""
    if journal.monitor.is_owed():
        journal.evaluate()
        phases.end("evaluation")
    if start.saved is None:
        journal.save()
        journal.wait()
        journal.show_reals()
        phases.end("first checkpoint")
    journal.begin(phases)


def _leave(run: Run) -> int:
    """Free what the ranks share; return the exit code.  Collective."""
    collapsed = run.comm.on_root(lambda: run.stop.collapsed)
    run.comm.close()
    if collapsed:
        return COLLAPSED
    if run.is_done:
        return DONE
    run.comm.on_root(run.stop.require_gone)
    return STOPPED
