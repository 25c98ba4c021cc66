"""Which device and how many threads each rank of a node computes with."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from gan_mpi.arrays import Array
from gan_mpi.cluster.cards import card_of, cards, choose
from gan_mpi.cluster.cores import idle_cores, oversubscribed, thread_count
from gan_mpi.cluster.processors import has_bfloat16, processor
from gan_mpi.errors import invalid_value
from gan_mpi.mpi import launcher
from gan_mpi.mpi.comm import Communicator
from gan_mpi.mpi.world import has_threads

T = TypeVar("T")


@dataclass(frozen=True)
class Placement:
    """This rank's device and threads, and what should be known of any node, alike on all ranks.

    `crowded` says that a node has more threads than cores.
    """

    device: torch.device
    threads: int
    crowded: str = ""
    warnings: tuple[str, ...] = ()


def capability(device: torch.device) -> str:
    """Return the name of a GPU and its memory, or of this processor and what torch uses of it."""
    if device.type == "cuda":
        card = card_of(device)
        return f"{card.name} ({card.memory / 2**30:.0f} GiB)"
    return f"{processor()} ({torch.backends.cpu.get_cpu_capability()})"


def place(comm: Communicator, requested: str) -> Placement:
    """Choose this rank's device and make torch ready for it.  Collective.

    `requested` is auto, cpu, cuda or cuda:N.  auto is a GPU that fewest ranks of the node have, one
    near this rank's cores if that is known, or the CPU with the node's cores divided among its
    ranks.  Raises UserError if some ranks have a GPU and others none.
    """
    masks = comm.node_allgather(frozenset(os.sched_getaffinity(0)))
    mine = comm.agree(lambda: cards() if requested != "cpu" else [])
    nearest = choose(comm.node_allgather(mine), masks, comm.local_rank)
    device = comm.agree(lambda: _choose_device(requested, len(mine), nearest))
    kinds = comm.allgather((device.type, launcher.node_name()))
    comm.alike(lambda: _require_one_kind(kinds))
    threads = thread_count(masks, comm.local_rank)
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    all_threads = comm.node_allgather(threads)
    idle = idle_cores(masks, all_threads)
    of_node = oversubscribed(masks, all_threads)
    if device.type != "cpu":
        idle = of_node = ""
    crowded = _first(comm, of_node)
    said = comm.allgather((sharing(comm, device), idle))
    warnings = dict.fromkeys(each for of_rank in said for each in of_rank if each)
    return Placement(device, threads, crowded, tuple(warnings))


def crowding(comm: Communicator) -> str:
    """Say that the threads of a node are more than its cores, else "".  Collective."""
    masks = comm.node_allgather(frozenset(os.sched_getaffinity(0)))
    threads = comm.node_allgather(thread_count(masks, comm.local_rank))
    return _first(comm, oversubscribed(masks, threads))


def _first(comm: Communicator, said: str) -> str:
    """Return what the first rank says that says anything.  Collective."""
    return next(filter(None, comm.allgather(said)), "")


def _require_one_kind(kinds: list[tuple[str, str]]) -> None:
    """Raise UserError unless the devices of all ranks, with their hosts, are of one kind."""
    without = [f"rank {rank} on {host}" for rank, (kind, host) in enumerate(kinds) if kind == "cpu"]
    if without and len(without) < len(kinds):
        raise invalid_value(
            "device",
            f"auto, but {without[0]} sees no GPU and others do; ask the scheduler for GPUs on all "
            "nodes, or give --device cpu",
            exit_code=1,
        )


def _choose_device(requested: str, gpus: int, nearest: int) -> torch.device:
    if requested == "cpu" or (requested == "auto" and not gpus):
        return torch.device("cpu")
    if not gpus:
        raise invalid_value("device", f"{requested}, but torch sees no GPU here", exit_code=1)
    if not has_threads():
        raise invalid_value(
            "device",
            "a GPU needs an MPI library with MPI_THREAD_MULTIPLE, which this one does not offer; "
            "--device cpu does without",
            exit_code=1,
        )
    index = nearest
    if requested.startswith("cuda:"):
        index = int(requested.removeprefix("cuda:"))
    if index >= gpus:
        raise invalid_value("device", f"{requested}, but torch sees {gpus} GPU(s)", exit_code=1)
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def sharing(comm: Communicator, device: torch.device) -> str:
    """Warn where ranks of a node compute on one GPU, else "".  Collective.

    GPUs are told apart by their UUIDs: a launcher may show each rank its own as number 0.
    """
    mine = "" if device.type == "cpu" else card_of(device).identity
    used = [each for each in comm.node_allgather(mine) if each]
    if len(set(used)) == len(used):
        return ""
    return f"{len(used)} ranks share {len(set(used))} GPU(s) on a node"


def without(precision: str, comm: Communicator, device: torch.device) -> str:
    """Warn where what ranks compute on has no instructions for a precision, else "".  Collective.

    TF32 is for GPUs, and of CPUs not all have bfloat16.
    """
    if precision == "tf32":
        knows = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        everyone = comm.allgather(knows)
        on = "a CPU" if device.type == "cpu" else "an older one"
        said = (
            f"--precision tf32 is for GPUs of compute capability 8.0 and more; on {on} it is fp32"
        )
        return "" if all(everyone) else said
    if precision != "bf16":
        return ""
    slow = comm.allgather(device.type == "cpu" and not has_bfloat16())
    if not any(slow):
        return ""
    return (
        f"{sum(slow)} of {len(slow)} ranks are on processors without instructions for bfloat16, "
        "where --precision bf16 takes 3 (AVX-512) to 20 times (AVX2) as long as fp32"
    )


def use_in_thread(device: torch.device) -> None:
    """Let what this thread asks of GPUs be asked of this one."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def carriable(array: Array, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Return an array, as another type if given, in memory that a device reads by itself."""
    tensor = torch.from_numpy(array).to(dtype)
    return tensor.pin_memory() if device.type == "cuda" else tensor


def carried(array: Array, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Return an array on a device, as another type if given, without waiting for the device."""
    return carriable(array, device, dtype).to(device, non_blocking=True)


class DeviceGraph:
    """What a GPU does, recorded once and launched as one: a CUDA graph, or one of ROCm."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._graph = torch.cuda.CUDAGraph()
        self._stream = torch.cuda.Stream(device)
        self._asides: list[Callable[[], None]] = []

    def warm(self, launch: Callable[[], T]) -> T:
        """Let the GPU do what `launch` has it do on the stream that is recorded."""
        usual = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            done = launch()
        usual.wait_stream(self._stream)
        return done

    def record(self, launch: Callable[[], object]) -> None:
        """Record what `launch` has the GPU do, and launch it once.

        Raises RuntimeError, before the GPU does anything, if it cannot be recorded.  Other threads
        may use the GPU meanwhile.
        """
        self._asides, mode = [], "thread_local"
        usual = torch.cuda.current_stream(self.device)
        try:
            with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode=mode):
                launch()
        except RuntimeError:
            torch.cuda.set_stream(usual)  # which torch leaves undone then
            raise
        for act in self._asides:
            act()
        self._graph.replay()

    def aside(self, act: Callable[[], None]) -> None:
        """Within record(), do something before the launch that is no part of it."""
        self._asides.append(act)

    def replay(self) -> None:
        """Launch it again."""
        self._graph.replay()


def graph_of(device: torch.device) -> DeviceGraph:
    """Return a graph of a device, to be recorded."""
    return DeviceGraph(device)


def room_for_data(device: torch.device, ranks: int) -> int:
    """Return the bytes of a device's memory that data may take, if so many ranks may share it.

    It is a quarter of what is free; none of a CPU, which has data at hand.
    """
    if device.type == "cpu":
        return 0
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else sys.maxsize
    return free // 4 // ranks


@contextmanager
def inference(network: nn.Module) -> Iterator[None]:
    """Let a network compute as after training, on one thread."""
    was_training = network.training
    network.eval()
    try:
        with one_thread():
            yield
    finally:
        network.train(was_training)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: the same order of sums and the same bits on any machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
