"""The training loop, from the first step to the last, whatever the number of ranks."""

import gc
from contextlib import closing
from pathlib import Path

from gan_mpi.cluster.deadline import End, job_name
from gan_mpi.cluster.facts import require_agreement
from gan_mpi.config.given import Given, text_of
from gan_mpi.config.running import RunConfig
from gan_mpi.errors import DIVERGED, UserError
from gan_mpi.lifecycle.injection import Injection
from gan_mpi.lifecycle.outcome import tell_all
from gan_mpi.lifecycle.phases import Phases
from gan_mpi.lifecycle.stopping import Lookout, NoRoom, StopRequest
from gan_mpi.lifecycle.watchdog import Watchdog
from gan_mpi.mpi.comm import Communicator
from gan_mpi.mpi.world import require_survivors
from gan_mpi.programs.parts import Opened, Part, first_part, go_on_without_the_lost, roll_back
from gan_mpi.recording.journal import Journal
from gan_mpi.recording.monitor import Monitor
from gan_mpi.recording.opening import mend_description, open_run
from gan_mpi.runs.claim import Claim
from gan_mpi.runs.log import Log
from gan_mpi.sites.rounds import Sites
from gan_mpi.training.replicas import Replicas
from gan_mpi.training.run import Ranks, Run
from gan_mpi.training.start import Start, find_start

DONE, STOPPED, COLLAPSED = 0, 75, 76  # exit codes
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
        part: Part | None = first_part(comm, given, phases or Phases(), end)
        while part is not None:
            try:
                code, following = _train(part, stop, claim), part.following
            except NoRoom as error:
                if part.comes_first:
                    raise
                raise error.retold(str(error), STOPPED) from None  # what is left is the next job's
            except Exception as error:  # noqa: BLE001 - it is raised again, unless a rank is gone
                code, following = STOPPED, go_on_without_the_lost(part, claim, error)
            part = following
            gc.collect()  # the networks before, which refer to themselves
    return code


def _train(part: Part, stop: StopRequest, claim: Claim) -> int:
    """Train with root's claim on the run directory; return the exit code.  Collective."""
    start, options, log = _prepare(part, claim)
    if start.finished is not None:
        part.comm.on_root(lambda: mend_description(start, options))
        log.line(start.finished)
        return DONE
    asked, steps = None if start.saved else options.inject, start.config.steps
    comm = part.comm
    injection = comm.alike(lambda: Injection.of(asked, comm.rank, comm.world_size, steps))
    ranks: Ranks = RANKS[start.config.average](comm, start)
    how = options, log, stop, part.phases, claim, part.reference
    run, part.reference = open_run(comm, ranks, start, *how)
    journal = Journal(run, Monitor(run, part.reference), part.since)
    if ranks.survivor is not None:
        opened = Opened(part.number, start, run, journal, ranks.survivor, part.reference)
        part.opened, part.before = opened, None
    try:
        part.claim = comm.on_root(lambda: claim.number)
        watchdog = _watch(run, part.claim)
        with watchdog, journal, closing(ranks):
            _write_first(journal, start, part.phases)
            _advance(run, ranks, journal, part.end, injection)
            journal.finish()
    except UserError as error:
        if error.exit_code != DIVERGED or not error.on_all_ranks:
            raise
        part.following = roll_back(part, journal, error, start.rollbacks)
        claim.release()
        return DIVERGED
    return _leave(run)


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


def _prepare(part: Part, claim: Claim) -> tuple[Start, RunConfig, Log]:
    """Return how the run starts, where it runs, and what speaks for it.  Collective.

    A run directory that is named is claimed before anything of it is read.
    """
    comm, given = part.comm, part.given
    part.phases.end("imports" if part.comes_first else "recovery")
    comm.barrier()
    tell_all(comm)
    require_agreement(comm)
    comm.on_root(lambda: _claim_named(claim, given, part.fallen_claim))
    start = comm.on_root(lambda: part.start or find_start(given, part.rollbacks))
    start.dataset = part.dataset
    part.number, part.end = comm.broadcast((part.number, part.end))
    options = comm.alike(lambda: start.options(given))
    comm.alike(lambda: require_survivors(options.on_failure))
    log = Log(comm.is_root, options.quiet)
    for warning in start.warnings:
        log.warning(warning)
    return start, options, log


def _claim_named(claim: Claim, given: Given, fallen: int) -> None:
    resumed, named = text_of(given, "resume"), text_of(given, "run_dir")
    if named is not None:
        claim.take(Path(named), fallen=fallen)
    elif resumed is not None and Path(resumed).is_dir():
        claim.take(Path(resumed), "--resume")


def _write_first(journal: Journal, start: Start, phases: Phases) -> None:
    """Make up an evaluation that is owed, and write the files of a new run.  Collective."""
    if start.is_recorded and journal.monitor.is_owed():
        journal.evaluate()
        phases.end("evaluation")
    if start.saved is None:
        journal.save()
        journal.wait()
        journal.show_reals()
        phases.end("first checkpoint")
    journal.begin(phases)
    if not start.is_recorded:
        journal.make_up()


def _leave(run: Run) -> int:
    """Return the exit code.  Collective."""
    collapsed = run.comm.on_root(lambda: run.stop.collapsed)
    if collapsed:
        return COLLAPSED
    if run.is_done:
        return DONE
    run.comm.on_root(run.stop.require_gone)
    return STOPPED
