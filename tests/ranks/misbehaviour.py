"""Jobs that do to a pool of ranks what no job should."""

import os
import random
import signal
import sys
import threading
import time
import warnings

import numpy as np
import torch

from gan_mpi.mpi import comm as comm_module
from gan_mpi.networks import dcgan

WINDOW = 1 << 20  # bytes


def sizes(comm):
    return [comm.world_size, comm.local_size]


def deadlock(comm):
    if comm.is_root:
        comm.allgather(0)
    else:
        wait_elsewhere()


def wait_elsewhere():
    while True:
        time.sleep(1)


def failure(comm, of_rank):
    if comm.rank == of_rank:
        raise ValueError("a failure of the test")
    comm.allgather(0)


def escape(comm):
    if comm.rank == 1:
        os._exit(0)
    comm.allgather(0)


def leave_a_mess(comm):
    """Change all that a pool puts back."""
    os.chdir("/")
    os.environ["OMP_NUM_THREADS"] = "7"
    del os.environ["PATH"]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    sys.argv, sys.stdout = ["other"], sys.stderr
    sys.path.insert(0, "/nowhere")
    warnings.simplefilter("error")
    torch.set_num_threads(torch.get_num_threads() + 2)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    dcgan.FILTERS = 1
    late_module().REALS = "changed.png"
    shared = comm.share_on_node(np.zeros(WINDOW, np.uint8) if comm.local_rank == 0 else None)[1]
    comm_module.free_bytes = lambda folder: 0
    return shared


def look_around(comm):
    """Return all that leave_a_mess() changes."""
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1]
    return {
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "handlers": [str(signal.getsignal(n)) for n in (signal.SIGTERM, signal.SIGUSR1)],
        "words": [sys.argv, sys.path],
        "streams": [sys.stdout.name, sys.stderr.name],
        "filters": str(warnings.filters),
        "threads": torch.get_num_threads(),
        "kind": str(torch.get_default_dtype()),
        "generators": [torch_state.tolist(), numpy_state.tolist(), str(random.getstate())],
        "filters of dcgan": dcgan.FILTERS,
        "a module that nothing here imports": late_module().REALS,
        "shared memory": comm_module.free_bytes("/dev/shm") > 0,
        "windows": windows(),
    }


def late_module():
    from gan_mpi.recording import gallery

    return gallery


def windows():
    """Return how many mappings of shared memory this process has."""
    with open("/proc/self/maps") as file:
        return sum("/dev/shm" in line for line in file)


def leave_a_thread(comm):
    threading.Thread(target=wait_elsewhere, name="straggler", daemon=True).start()
    return os.getpid()


def process_id(comm):
    return os.getpid()


def drop_communicators(comm, count):
    """Make so many groups and forget them."""
    for _ in range(count):
        comm.first_ranks(1)
