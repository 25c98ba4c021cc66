"""The training loop, from the first step to the last, whatever the number of ranks."""

from collections.abc import Mapping
from typing import Any

from gan_mpi.comm import Communicator
from gan_mpi.configure import run_config
from gan_mpi.device import place
from gan_mpi.feed import Feed
from gan_mpi.journal import Journal, open_run_dir
from gan_mpi.log import Log
from gan_mpi.opening import opening_lines, segment
from gan_mpi.prepare import build_state, find_start, share_dataset
from gan_mpi.signals import StopRequest
from gan_mpi.turn import take_step

DONE, STOPPED = 0, 75  # exit codes


def train(comm: Communicator, given: Mapping[str, Any], stop: StopRequest) -> int:
    """Train by the options given, by parameter name; return the exit code.  Collective.

    0 is done and 75 stopped early, both with a checkpoint.  Raises UserError, with exit code 76
    if the losses diverge.
    """
    start = comm.on_root(lambda: find_start(given))
    run = run_config(start.config.preset, given)
    log = Log(comm.is_root, run.quiet)
    for warning in start.warnings:
        log.warning(warning)
    if start.finished is not None:
        log.line(start.finished)
        return DONE
    placement = place(comm, run.device)
    dataset, shared = share_dataset(comm, start)
    state = build_state(comm, start, dataset, placement.device)
    for line in opening_lines(comm, state.config, dataset, placement):
        log.line(line)
    if not shared:
        log.line("no room in shared memory: each rank keeps its own copy of the data")
    for warning in placement.warnings:
        log.warning(warning)
    about = segment(comm, state.progress.step, placement)
    run_dir = comm.on_root(lambda: open_run_dir(run, state, start, about, log))
    journal = Journal(comm, state, run, log, run_dir)
    if start.saved is None:
        journal.save()
        journal.show_reals(dataset.images)
    feed = Feed(comm, state, dataset.images, placement.device)
    stopping = False
    with log.progress(state.progress.step, state.config.steps) as bar:
        while state.progress.step < state.config.steps and not stopping:
            stopping = take_step(comm, state, feed, stop)
            journal.report()
            bar.advance_to(state.progress.step)
            if state.progress.step % run.checkpoint_every == 0:
                journal.save()
    journal.finish()
    comm.close()
    return DONE if state.progress.step == state.config.steps else STOPPED
