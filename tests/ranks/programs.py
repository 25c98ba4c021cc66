"""Whole programs on the ranks of tests; they answer with exit codes, or an error's sentence."""

import contextlib
import io
import os
import time
from pathlib import Path
from types import SimpleNamespace

from gan_mpi.errors import UserError
from gan_mpi.mpi.comm import Communicator

NEVER = SimpleNamespace(requested=False, reason=None, collapsed=False, require_gone=lambda: None)


def train_outcomes(comm, runs, folder):
    """Call train() for each dict of options; return its exit code, or the error's sentence.

    A list [path, size] between them cuts a file to its first bytes.
    """
    from gan_mpi.programs.train import train

    os.chdir(folder)
    found = []
    for given in runs:
        if isinstance(given, list):
            comm.on_root(lambda given=given: os.truncate(*given))
            continue
        try:
            found.append(train(comm, {"quiet": True, **given}, NEVER))
        except UserError as error:
            found.append([str(error), error.exit_code, error.on_all_ranks])
    return found


def sample_outcomes(comm, draws, folder):
    """Call sample() for each list of source, step, seeds, grid, format, out; return as above."""
    from gan_mpi.programs.sample import sample

    os.chdir(folder)
    found = []
    for source, step, seeds, grid, kind, out in draws:
        paths = [None if path is None else Path(path) for path in (source, out)]
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                found.append(sample(comm, paths[0], step, seeds, grid, kind, paths[1]))
        except UserError as error:
            found.append([str(error), error.exit_code, error.on_all_ranks])
    return found


def sample_on(comm, size, draws, folder):
    """Draw on the first `size` ranks only."""
    part = comm.mpi.Split(0 if comm.rank < size else 1, comm.rank)
    found = sample_outcomes(Communicator(part), draws, folder) if comm.rank < size else None
    comm.barrier()
    return found


class Trap:
    """A stop request that blocks for ever in a step, once it has told its process id."""

    def __init__(self, comm, step, d_steps=2):
        self.calls, self.at = 0, (step - 1) * (d_steps + 1) + 2
        self.marker = Path(f"rank{comm.rank}.pid")

    @property
    def requested(self):
        self.calls += 1
        if self.calls == self.at:
            self.marker.write_text(str(os.getpid()))
            while True:
                time.sleep(1)
        return False


def train_on(comm, runs, folder):
    """Call train() with each [size, options] on the first `size` ranks; return the outcomes."""
    found = []
    for size, given in runs:
        part = comm.mpi.Split(0 if comm.rank < size else 1, comm.rank)
        if comm.rank < size:
            found += train_outcomes(Communicator(part), [given], folder)
        comm.barrier()
    return found


def train_until_killed(comm, given, step):
    """Train, and hang in the middle of a step for the test to kill."""
    from gan_mpi.programs.train import train

    train(comm, given, Trap(comm, step))
