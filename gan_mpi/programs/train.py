"""The training loop, from the first step to the last, whatever the number of ranks."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from gan_mpi.cluster.deadline import End
from gan_mpi.cluster.device import place
from gan_mpi.cluster.facts import require_agreement
from gan_mpi.config.resolve import run_config
from gan_mpi.datasets.dataset import Dataset
from gan_mpi.evaluation.reference import Wanted, make_reference
from gan_mpi.lifecycle.phases import Phases
from gan_mpi.lifecycle.stopping import Lookout, StopRequest
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.data import share_dataset
from gan_mpi.recording.board import check_installed
from gan_mpi.recording.journal import Journal, open_run_dir
from gan_mpi.recording.monitor import Monitor
from gan_mpi.recording.opening import opening_lines, segment
from gan_mpi.runs.log import Log
from gan_mpi.sites.data import share_site
from gan_mpi.sites.rounds import Rounds
from gan_mpi.sites.state import SitesState, build_sites, check_count
from gan_mpi.training.build import build_state
from gan_mpi.training.explain import Explainer
from gan_mpi.training.feed import Feed
from gan_mpi.training.progress import passed
from gan_mpi.training.start import Start, find_start
from gan_mpi.training.state import RunState
from gan_mpi.training.turn import take_step

DONE, STOPPED, COLLAPSED = 0, 75, 76  # exit codes


def train(
    comm: Communicator,
    given: Mapping[str, Any],
    stop: StopRequest,
    phases: Phases | None = None,
    end: End | None = None,
) -> int:
    """Train by the options given, by parameter name; return the exit code.  Collective.

    0 is done, 75 stopped early and 76 stopped by a collapse, all with a checkpoint.  `phases` are
    those of the start so far, `end` is when the job ends; root's counts.  Raises UserError, with
    exit code 76 if the losses diverge.
    """
    phases = phases or Phases()
    phases.end("imports")
    comm.barrier()
    require_agreement(comm)
    start = comm.on_root(lambda: find_start(given))
    run = run_config(start.config.preset, {**start.remembered, **given})
    log = Log(comm.is_root, run.quiet)
    for warning in start.warnings:
        log.warning(warning)
    if start.finished is not None:
        log.line(start.finished)
        return DONE
    placement = place(comm, run.device)
    if run.tensorboard:
        comm.on_root(check_installed)
    dataset, shared, state = _open(comm, start, placement.device, phases)
    for line in opening_lines(comm, state, dataset, placement):
        log.line(line)
    if not shared:
        log.line("no room in shared memory: each rank keeps its own copy of the data")
    for warning in placement.warnings:
        log.warning(warning)
    about = segment(comm, state.progress.step, placement)
    reference = None
    if run.evaluate_every is not None:
        wanted = Wanted(run.samples, run.classifier, start.run_dir)
        reference = make_reference(comm, wanted, start.source, dataset, placement.device)
        phases.end("test images")
    run_dir = comm.on_root(lambda: open_run_dir(run, state, start, about, log))
    monitor = Monitor(comm, state, run, log, run_dir, dataset.images, reference, stop)
    journal = Journal(comm, state, run, log, run_dir, phases, monitor)
    if monitor.is_owed():
        journal.evaluate()
        phases.end("evaluation")
    if start.saved is None:
        journal.save()
        if state.shows_reals:
            journal.show_reals(dataset.images)
        phases.end("first checkpoint")
    journal.begin()
    if isinstance(state, SitesState):
        advance = Rounds(comm, state, dataset, stop, journal.is_due).play
    else:
        take = Explainer(comm, log).take_step if run.explain else take_step
        feed = Feed(comm, state, dataset, placement.device)
        advance = partial(take, comm, state, feed, stop)
    lookout = Lookout(stop, end, run_dir, monitor.longest if comm.is_root else 0.0)
    comm.on_root(lambda: lookout.check_room(journal.slowest_save))
    stopping = False
    with log.progress(state.progress.step, state.config.steps) as bar:
        while state.progress.step < state.config.steps and not stopping:
            if comm.is_root:
                lookout.look(journal.slowest_save)
            before = state.progress.step
            stopping = advance()
            step = state.progress.step
            journal.report(before)
            bar.advance_to(step)
            is_done = step == state.config.steps
            if evaluates := monitor.is_due(before) and (is_done or not stopping):
                journal.evaluate()
            if evaluates or passed(before, step, run.checkpoint_every):
                journal.save()
    journal.finish(stop.reason)
    collapsed = comm.on_root(lambda: stop.collapsed)
    comm.close()
    if collapsed:
        return COLLAPSED
    return DONE if state.progress.step == state.config.steps else STOPPED


def _open(
    comm: Communicator, start: Start, device: torch.device, phases: Phases
) -> tuple[Dataset, bool, RunState]:
    """Return this rank's data, whether a node has one copy, and the state, of replicas or of sites.

    Collective.
    """
    if start.config.average == "weights":
        check_count(comm, start)
        dataset, shared = share_site(comm, start.source)
    else:
        dataset, shared = share_dataset(comm, start.source)
    phases.end("data")
    build = build_sites if start.config.average == "weights" else build_state
    state = build(comm, start, dataset, device)
    phases.end("networks")
    return dataset, shared, state
