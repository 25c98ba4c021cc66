"""What the ranks of a pool do: one job after another, each as if it were in a new process.

They only answer; pytest asserts, so nothing deadlocks.
"""

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import pkgutil
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from multiprocessing.connection import Client
from pathlib import Path

import numpy as np
import torch

import gan_mpi
from gan_mpi.lifecycle import phases
from gan_mpi.mpi import comm as comm_module
from gan_mpi.mpi import launcher
from gan_mpi.mpi import world as world_module
from gan_mpi.mpi.comm import Communicator
from gan_mpi.options.begin import importing
from gan_mpi.recording import gallery
from ranks import (
    copies,
    device,
    graphs,
    metrics,
    misbehaviour,
    overlap,
    parallel,
    plain,
    programs,
    sites,
    training,
)
from ranks.pool import DUMP, TESTS

MPI = comm_module.MPI
PLACES = (
    copies,
    device,
    graphs,
    metrics,
    misbehaviour,
    programs,
    training,
    parallel,
    plain,
    sites,
    overlap,
)
BACKSTOP = 60  # seconds after its time that a job ends by itself, if pytest is gone
THREADS = 0.5  # seconds for the threads of a job to end


def serve(address):
    """Do the jobs that come over a socket, until pytest ends this process, or is gone."""
    everyone = world_module.world().mpi
    with importing():
        import_all()
    gc.freeze = lambda: None  # what a job leaves behind is garbage here
    folder, rank = Path(address).parent, everyone.rank
    for number, name in ((1, "out"), (2, "err")):
        mode = os.O_CREAT | os.O_RDWR | os.O_APPEND
        os.dup2(os.open(folder / f"{rank}.{name}", mode, 0o600), number)
    stacks = (folder / f"{rank}.stacks").open("w")
    faulthandler.register(DUMP, stacks)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)  # MPICH's handler could not be restored
    connection = Client(address)
    connection.send((rank, os.getpid()))
    before = connection.recv()
    added = {name: value for name, value in os.environ.items() if before.get(name) != value}
    while True:
        job = connection.recv()
        faulthandler.dump_traceback_later(job["timeout"] + BACKSTOP, exit=True, file=stacks)
        connection.send(report_of(everyone, job, added))
        faulthandler.cancel_dump_traceback_later()


def report_of(everyone, job, launched):
    """Do a job; return what came of it on this rank.  Collective over the ranks of the job."""
    for number in (1, 2):
        os.ftruncate(number, 0)
    try:
        with restored() as leaves, of_their_own(everyone, job["size"]) as group:
            os.chdir(job["folder"])
            os.environ.clear()
            os.environ.update(job["environment"] | of_launcher(launched, job))
            os.environ.update(job.get("variables", {}))
            began = time.time()
            phases.process_start = lambda: began
            world_module.MPI = WorldOfJob(group)
            if not job.get("charts"):
                gallery.draw_losses = lambda *_: b""
            work = run_main if "code" in job else run_function
            answer = json.dumps(work(group, job))
        return {"answer": json.loads(answer), "leaves": leaves}
    except BaseException:  # noqa: BLE001 - SystemExit and Aborted are no answers either
        return {"failed": traceback.format_exc()}


def run_function(group, job):
    return answer(Communicator(group), job["function"], *job["arguments"])


def run_main(group, job):
    """Run code that calls main(); return the exit code."""
    sys.argv = ["gan-mpi", *job["arguments"]]
    try:
        exec(job["code"], {"__name__": "__main__"})  # noqa: S102
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def answer(comm, function, *arguments):
    """Call a function of one of PLACES by its name, or several() of this file."""
    if function == "several":
        return several(comm, *arguments)
    place = next(place for place in PLACES if hasattr(place, function))
    return getattr(place, function)(comm, *arguments)


def several(comm, calls):
    """Answer [function, *arguments] one after another."""
    return [answer(comm, function, *arguments) for function, *arguments in calls]


def of_launcher(launched, job):
    """Return what the launcher says to a rank of so many, or nothing if there was no launcher."""
    if job.get("alone"):
        return {}
    sizes = {name: str(job["size"]) for name in launcher.SIZE_VARIABLES if name in launched}
    return launched | sizes


class Aborted(BaseException):
    """A job that would have ended all ranks of mpiexec."""


class Group(MPI.Intracomm):
    """The ranks of a job."""

    def Abort(self, errorcode=0):
        raise Aborted(f"this rank aborts the job with code {errorcode}")


class WorldOfJob:
    """MPI as world.py sees it in a job: not begun yet, and the world is the ranks of the job."""

    def __init__(self, group):
        self.COMM_WORLD, self._begun, self._ended = Group(group), False, False

    def __getattr__(self, name):
        return getattr(MPI, name)

    def Is_initialized(self):
        return self._begun

    def Init_thread(self, required):
        self._begun = True

    def Is_finalized(self):
        return self._ended

    def Finalize(self):
        self._ended = True


@contextlib.contextmanager
def of_their_own(everyone, size):
    """Give the first ranks a communicator; free it and all that is made of it, windows too."""
    made, begin = [], Communicator.__init__

    def noted(self, *arguments, **options):
        begin(self, *arguments, **options)
        made.append(self)

    part = everyone.Get_group().Incl(range(size))
    group = everyone.Create_group(part)
    part.Free()
    Communicator.__init__ = noted
    try:
        yield group
    finally:
        Communicator.__init__ = begin
    free = [group]
    for comm in made:
        for each in (comm.node, comm.mpi):
            if each != MPI.COMM_SELF and each not in free:
                free.append(each)
    for each in reversed(free):
        each.Free()


@contextlib.contextmanager
def restored():
    """Undo what a job changes of its process; yield a list, of what could not be undone."""
    leaves = []
    kept = [(vars(module), dict(vars(module))) for module in own_modules()]
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    environment, words, path = dict(os.environ), sys.argv, list(sys.path)
    streams, threads = (sys.stdout, sys.stderr), set(threading.enumerate())
    settings = (
        (torch.get_num_threads, torch.set_num_threads),
        (torch.get_rng_state, torch.set_rng_state),
        (torch.get_default_dtype, torch.set_default_dtype),
        (np.random.get_state, np.random.set_state),
        (random.getstate, random.setstate),
    )
    values = [get() for get, _ in settings]
    try:
        with warnings.catch_warnings():
            yield leaves
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = streams
        for (_, put), value in zip(settings, values, strict=True):
            put(value)
        for number, handler in handlers.items():
            if signal.getsignal(number) != handler:
                signal.signal(number, handler or signal.SIG_DFL)
        for names, before in kept:
            names.update(before)
        sys.argv, sys.path[:] = words, path
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(TESTS)
        if "matplotlib" in sys.modules:
            sys.modules["matplotlib"].rcdefaults()
        if "tqdm" in sys.modules and sys.modules["tqdm"].tqdm.monitor is not None:
            sys.modules["tqdm"].tqdm.monitor.exit()  # its thread, that exports to ONNX start
    deadline = time.monotonic() + THREADS
    for thread in set(threading.enumerate()) - threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            leaves.append(f"the thread {thread.name}")


def import_all():
    """Import the whole package, so that `restored` knows every module that a job may change."""
    for module in pkgutil.walk_packages(gan_mpi.__path__, "gan_mpi."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def own_modules():
    return [module for name, module in sys.modules.items() if name.partition(".")[0] == "gan_mpi"]
