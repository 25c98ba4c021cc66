"""What the ranks of tests do with buckets, batch norm, replicas and shared memory."""

from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gan_mpi.arrays import map_of
from gan_mpi.clock import Clock
from gan_mpi.errors import UserError
from gan_mpi.mpi import comm as comm_module
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.average import average_gradients
from gan_mpi.parallel.batch_norm import BatchNorm, connect_batch_norm, normalised_apart
from gan_mpi.parallel.bucket import GradientBucket
from gan_mpi.parallel.normalise import Over, normalise, normalise_plainly
from gan_mpi.parallel.replicas import broadcast_network, check_replicas
from ranks.device import on_a_device
from ranks.training import glyphs


def averages(comm, staged=False):
    """Ranks with `rank` samples of value rank+1: rank 0 has none.

    `staged` sends the bucket through a second buffer, as from a GPU.
    """
    torch.manual_seed(0)
    layer = nn.Linear(3, 2).double()
    with on_a_device() if staged else nullcontext():
        bucket = GradientBucket(layer, room=2)
    inputs = torch.full((comm.rank, 3), comm.rank + 1.0, dtype=torch.double)
    bucket.zero()
    loss = layer(inputs).sum()
    loss.backward()
    result = average_gradients(comm, bucket, {"loss": loss}, comm.rank, stop=comm.rank == 1)
    answer = [layer.weight.grad[0, 0].item(), layer.bias.grad[0].item(), result.stop]
    layer.zero_grad(set_to_none=True)
    try:
        average_gradients(comm, bucket, {"loss": loss}, 1, stop=False)
    except RuntimeError as error:
        answer.append(str(error))
    return answer


def batch_norm_of_bright_images(comm):
    """Return how far float32 is from float64 where the mean is 100 deviations, in deviations."""
    torch.manual_seed(1)
    images = torch.randn(40, 3, 14, 14, dtype=torch.double) + 100
    exact, layer = BatchNorm(3).double(), BatchNorm(3)
    exact.comm = layer.comm = comm
    mine = images[comm.rank :: comm.world_size]
    return (exact(mine) - layer(mine.float()).double()).abs().max().item()


def two_batches_in_one_pass(comm, shape, shares):
    """Return how far two batches in one pass are from each in its own, by what; and the messages.

    `shares` are those of the first; of the second they are in reverse order.
    """
    torch.manual_seed(1)
    sizes = shares[comm.rank], shares[::-1][comm.rank]
    wholes = [torch.randn(sum(shares), *shape, dtype=torch.double) * s + s for s in (3.0, 5.0)]
    begins = sum(shares[: comm.rank]), sum(shares[::-1][: comm.rank])
    parts = [w[b : b + n] for w, b, n in zip(wholes, begins, sizes, strict=True)]
    together, apart = (nn.Sequential(BatchNorm(shape[0]), nn.Tanh()).double() for _ in range(2))
    found, messages = [], []
    for network in (together, apart):
        connect_batch_norm(comm, network)
        inputs = [part.clone().requires_grad_() for part in parts]
        with counted(comm) as count:
            if network is together:
                with normalised_apart(network, sizes):
                    outputs = network(torch.cat(inputs))
            else:
                outputs = torch.cat([network(part) for part in inputs])
            (outputs * torch.cat(inputs).sin()).sum().backward()
        messages.append(len(count))
        network[0].commit()
        tensors = [outputs, *(each.grad for each in (*inputs, *network.parameters()))]
        found.append([*tensors, *network.buffers()])
    gaps = [(a - b).abs().max().item() for a, b in zip(*found, strict=True) if a.numel()]
    return max(gaps), messages


@contextmanager
def counted(comm):
    """Count the sums over ranks, in a list of their sizes."""
    sizes, original = [], comm.sum_in_place

    def sum_in_place(array):
        sizes.append(array.size)
        original(array)

    comm.sum_in_place = sum_in_place
    yield sizes
    del comm.sum_in_place


def batch_norm_against_torch(comm, shape, shares):
    """Return how far uneven shares are from torch's layer on the whole batch, by what."""
    torch.manual_seed(1)
    whole = (torch.randn(shape, dtype=torch.double) * 3 + 2).requires_grad_()
    weights = torch.randn(shape, dtype=torch.double)
    kind = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    reference = kind(shape[1]).double()
    mine = BatchNorm(shape[1]).double()
    with torch.no_grad():
        for parameter, other in zip(reference.parameters(), mine.parameters(), strict=True):
            parameter.copy_(torch.randn_like(parameter))
            other.copy_(parameter)
    mine.comm = comm
    lo, hi = sum(shares[: comm.rank]), sum(shares[: comm.rank + 1])
    part = whole.detach()[lo:hi].clone().requires_grad_()

    def passes(layer, inputs, weights):
        """Outputs, and the gradients of a loss that contains a gradient penalty."""
        outputs = layer(inputs)
        (slope,) = torch.autograd.grad((outputs.tanh() * weights).sum(), inputs, create_graph=True)
        loss = slope.square().sum() + (outputs * weights).sum()
        return [
            outputs,
            slope,
            *torch.autograd.grad(loss, [inputs, *layer.parameters()]),
        ]

    expected = passes(reference, whole, weights)
    found = passes(mine, part, weights[lo:hi])
    mine.commit()
    for gradient in found[3:]:
        comm.sum_in_place(gradient.numpy())
    gap = {}
    for name, a, b in zip(("outputs", "slope", "inputs"), expected, found, strict=False):
        gap[name] = (a[lo:hi] - b).abs().max().item() if hi > lo else 0.0
    for name, a, b in zip(("weight", "bias"), expected[3:], found[3:], strict=True):
        gap[name] = (a - b).abs().max().item()
    for name in ("running_mean", "running_var"):
        gap[name] = (getattr(reference, name) - getattr(mine, name)).abs().max().item()
    return gap


def local_batch_norm(comm, shares):
    """Return how far outputs are from torch's on this share, and statistics from the average."""
    torch.manual_seed(1)
    parts = torch.randn(sum(shares), 2, 3, 3, dtype=torch.double).split(shares)
    layer = BatchNorm(2).double()
    layer.comm, layer.local = comm, True
    outputs = layer(parts[comm.rank])
    layer.commit()
    references = [nn.BatchNorm2d(2).double() for _ in shares]
    expected = [ref(part) for ref, part in zip(references, parts, strict=True)]
    gaps = [(outputs - expected[comm.rank]).abs().max().item()]
    for name in ("running_mean", "running_var"):
        each = torch.stack([getattr(reference, name) for reference in references])
        mean = torch.tensor(shares).double() @ each / sum(shares)
        gaps.append((getattr(layer, name) - mean).abs().max().item())
    return gaps


def second_derivative(comm):
    """gradcheck and gradgradcheck of inputs, weight and bias, of this rank's two batches."""
    torch.manual_seed(2)
    shapes = (5, 3, 2, 2), (3,), (3,)
    tensors = [torch.randn(shape, dtype=torch.double, requires_grad=True) for shape in shapes]
    over = Over(None, (2, 3), 1e-5, Clock())

    def outputs(*tensors):
        return normalise(*tensors, over)[0]

    return [
        torch.autograd.gradcheck(outputs, tensors),
        torch.autograd.gradgradcheck(outputs, tensors),
    ]


def fused_and_plain(comm, shape, shares):
    """Return how far the fused kernels are from the plain arithmetic, over uneven shares."""
    torch.manual_seed(comm.rank)
    sizes = shares[comm.rank], shares[comm.rank - 1]
    given = torch.randn(sum(sizes), *shape, dtype=torch.double) * 3 + 1
    factors = torch.ones(shape[0]).double() * 1.5, torch.arange(shape[0]).double()
    found = []
    for function in (lambda *each: normalise(*each)[0], normalise_plainly):
        tensors = [each.clone().requires_grad_() for each in (given, *factors)]
        outputs = function(*tensors, Over(comm, sizes, 1e-5, comm.clock))
        found.append([outputs, *torch.autograd.grad(outputs.sin().sum(), tensors)])
    return max((a - b).abs().max().item() for a, b in zip(*found, strict=True) if a.numel())


def which_passes_leave_a_trace(comm):
    """Return the pending statistics after each kind of pass, and what commit leaves."""
    layer = BatchNorm(2)
    layer.comm = comm
    inputs, counts = torch.randn(4, 2), []
    with torch.no_grad():
        layer(inputs)
    counts.append(len(layer._pending))
    layer.requires_grad_(False)
    layer(inputs)
    counts.append(len(layer._pending))
    layer.requires_grad_(True)
    layer(inputs)
    counts.append(len(layer._pending))
    counts.append(bool((layer.running_mean == 0).all()))
    layer.commit()
    counts.append(bool((layer.running_mean == 0).all()))
    return counts


def differing_replicas(comm):
    torch.manual_seed(comm.rank)
    layer = nn.Linear(2, 2)
    broadcast_network(comm, layer)
    check_replicas(comm, G=layer)
    if comm.rank == 2:
        with torch.no_grad():
            layer.bias[1] += 1e-6
    try:
        check_replicas(comm, G=layer)
    except UserError as error:
        return str(error)


def shared_copy(comm, free):
    """Share an array, with so much free shared memory; return what came of it."""
    known = comm_module.free_bytes
    if free is not None:
        comm_module.free_bytes = lambda folder: free
    array = glyphs() if comm.local_rank == 0 else None
    copy, shared = comm.share_on_node(array)
    answer = [shared, bool((copy == glyphs()).all()), copy.flags.writeable, map_of(copy) is None]
    comm_module.free_bytes = known
    return answer


def two_nodes(comm):
    """Read on each of two nodes of half the ranks; return what each rank has, and where it lies."""
    half = comm.rank // (comm.world_size // 2)
    divided = Communicator(comm.mpi, comm.mpi.Split(half, comm.rank))
    read = []

    def load():
        read.append(comm.rank)
        return np.full(100_000, half, np.int64)

    shared, is_one = divided.share_on_node(divided.on_each_node(load))
    answer = divided.node_count, len(read), is_one, int(shared[-1]), mapped_file(shared)
    return answer


def mapped_file(array):
    """Return device and inode of the shared memory that an array lies in."""
    address = array.ctypes.data
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, device, inode, *_ = line.split()
        low, high = (int(end, 16) for end in span.split("-"))
        if low <= address < high:
            return f"{device} {inode}"
    return None


def broadcast_in_pieces(comm):
    """Broadcast 100 numbers in pieces of 16 bytes."""
    before, comm_module.PIECE = comm_module.PIECE, 16
    array = np.arange(100, dtype=np.float32).reshape(4, 25) * (1 - comm.rank)
    comm.broadcast_in_place(array)
    comm_module.PIECE = before
    return array.ravel().tolist()


def errors_on_some(comm):
    """Return what each rank is told when root, and when the last rank, raises."""

    def fail():
        raise UserError("the file is bad", exit_code=2)

    told = []
    for attempt in (
        lambda: comm.on_root(fail),
        lambda: comm.agree(lambda: fail() if comm.rank == comm.world_size - 1 else None),
    ):
        try:
            attempt()
        except UserError as error:
            told.append([str(error), error.exit_code, error.on_all_ranks])
    told.append(comm.on_root(lambda: 17 + comm.rank))
    return told
