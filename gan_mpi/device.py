"""Which device and how many threads each rank of a node computes with."""

import os
from dataclasses import dataclass

import torch

from gan_mpi import launcher
from gan_mpi.comm import Communicator, has_threads
from gan_mpi.errors import UserError


@dataclass(frozen=True)
class Placement:
    """This rank's device and threads, and what all ranks of its node should be told."""

    device: torch.device
    threads: int
    warnings: tuple[str, ...] = ()


def place(comm: Communicator, requested: str) -> Placement:
    """Choose this rank's device and make torch ready for it.  Collective.

    `requested` is auto, cpu, cuda or cuda:N.  auto is the GPU whose number is the local rank
    modulo the GPUs of the node, or the CPU with the node's cores divided among its ranks.
    """
    device, sharing = comm.agree(lambda: _choose_device(comm, requested))
    masks = comm.node_allgather(frozenset(os.sched_getaffinity(0)))
    threads = _threads(masks, comm.local_rank)
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    idle = _idle_cores(masks, comm.node_allgather(threads))
    idle = idle if device.type == "cpu" else ""
    return Placement(device, threads, tuple(filter(None, (sharing, idle))))


def _choose_device(comm: Communicator, requested: str) -> tuple[torch.device, str]:
    gpus = torch.cuda.device_count() if requested != "cpu" else 0
    if requested == "cpu" or (requested == "auto" and not gpus):
        return torch.device("cpu"), ""
    if not gpus:
        raise UserError(
            f"Invalid value for '--device': {requested}, but torch sees no GPU here."
        )
    if not has_threads():
        raise UserError(
            "Invalid value for '--device': a GPU needs an MPI library with MPI_THREAD_MULTIPLE, "
            "which this one does not offer; --device cpu does without."
        )
    index = comm.local_rank % gpus
    if requested.startswith("cuda:"):
        index = int(requested.removeprefix("cuda:"))
    if index >= gpus:
        raise UserError(
            f"Invalid value for '--device': {requested}, but torch sees {gpus} GPU(s)."
        )
    torch.cuda.set_device(index)
    shared = requested == "auto" and comm.local_size > gpus
    sharing = f"{comm.local_size} ranks share {gpus} GPU(s) on a node" if shared else ""
    return torch.device("cuda", index), sharing


def _threads(masks: list[frozenset[int]], local_rank: int) -> int:
    """Divide the cores of a rank among the ranks of its node that may run on the same ones."""
    if os.environ.get("OMP_NUM_THREADS", "").isdecimal():
        return max(1, int(os.environ["OMP_NUM_THREADS"]))
    mine = masks[local_rank]
    return max(1, len(mine) // sum(mask == mine for mask in masks))


def _idle_cores(masks: list[frozenset[int]], threads: list[int]) -> str:
    """Warn when the launcher's binding leaves more than half of its own cores idle."""
    if launcher.rank() is None:
        return ""
    cores = len(os.sched_getaffinity(os.getppid()))
    allotted = os.environ.get("SLURM_CPUS_ON_NODE", "")
    cores = min(cores, int(allotted)) if allotted.isdecimal() else cores
    used = len(frozenset().union(*masks))
    if 2 * used >= cores:
        return ""
    option = "--bind-to none" if launcher.is_open_mpi() else "-bind-to none"
    if "SLURM_STEP_ID" in os.environ and not launcher.is_hydra():
        option = "--cpu-bind=none"
    return (
        f"the launcher binds the {len(masks)} rank(s) of a node to {used} of its {cores} cores, "
        f"with {sum(threads)} thread(s) in all; {option} would let them use the rest"
    )
