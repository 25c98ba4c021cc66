"""Replicas that begin alike, and are compared."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gan_mpi.arrays import Array
from gan_mpi.cluster.device import one_thread
from gan_mpi.errors import DIVERGED, UserError
from gan_mpi.mpi.comm import Communicator


def broadcast_network(comm: Communicator, network: nn.Module) -> None:
    """Give all ranks root's parameters and buffers.  Collective."""
    for tensor in network.state_dict().values():
        host = tensor.detach().cpu().contiguous().numpy()
        comm.broadcast_in_place(host)
        tensor.copy_(torch.from_numpy(host))


def arithmetic(device: torch.device) -> int:
    """Return a digest of what replicas repeat: optimizers' and averages' steps, small products.

    Equal numbers on two ranks mean that they compute alike; 0 <= digest < 2**63.
    """
    numbers = torch.arange(1, 2050, dtype=torch.float64) / 1367.0
    digest = hashlib.sha256()
    with one_thread():
        for dtype in (torch.float32, torch.float64):
            x = numbers.to(device, dtype)
            y = x.flip(0)
            matrix = x[:2048].view(32, 64)
            results = (
                torch.addcdiv(x, y, x.sqrt() + 1e-8, value=-1e-3),
                torch.addcmul(x, y, y, value=1e-3),
                torch.lerp(x, y, 0.003),
                x.mul(0.999).add(y, alpha=0.001),
                x.pow(0.75).mul(y.exp()),
                matrix @ y[:64],
                matrix @ matrix.T,
                x.sum()[None],
            )
            for result in results:
                digest.update(result.cpu().numpy().tobytes())
    return int.from_bytes(digest.digest()[:8], "little") >> 1


def compute_alike(comm: Communicator, device: torch.device) -> bool:
    """Return whether all ranks get the same bits from the same arithmetic.  Collective."""
    low, high = comm.extremes(np.array([arithmetic(device)], dtype=np.int64))
    return bool((low == high).all())


class Mirror:
    """Gives all ranks root's tensors after each update, where ranks do not compute alike.

    Of the other player it is the buffers, since a forward pass moves those of spectral norm.
    """

    def __init__(
        self,
        comm: Communicator,
        networks: Sequence[nn.Module],
        optimizer: torch.optim.Optimizer,
        other: nn.Module,
    ) -> None:
        self.comm, self.networks, self.optimizer = comm, networks, optimizer
        self.other = other

    def tensors(self) -> list[Tensor]:
        """Return parameters, buffers and what the optimizer keeps of each parameter."""
        found = [each for network in self.networks for each in network.state_dict().values()]
        found += self.other.buffers()
        for kept in self.optimizer.state.values():
            found += [value for value in kept.values() if isinstance(value, Tensor)]
        return found

    @torch.no_grad()
    def __call__(self, update: object = None) -> None:
        """Send them as one message of bytes.  Collective."""
        tensors = [tensor.detach() for tensor in self.tensors()]
        hosts = [each.cpu().contiguous().view(-1).view(torch.uint8) for each in tensors]
        message = torch.cat(hosts).numpy()
        with self.comm.clock.phase("communication"):
            self.comm.broadcast_in_place(message)
        parts = torch.from_numpy(message).split([len(host) for host in hosts])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.clone().view(tensor.dtype).view(tensor.shape))


def as_it_lies(tensor: Tensor) -> Tensor:
    """Return a view of a tensor whose dimensions are in the order of its strides."""
    return tensor.permute(sorted(range(tensor.dim()), key=tensor.stride, reverse=True))


def digest(tensor: Tensor) -> int:
    """Return a number, 0 <= n < 2**63, that tells tensors apart which came to differ by rounding.

    It is made of the sums of their words and of the squares of these, in half the time of a CRC.
    """
    raw = as_it_lies(tensor.detach()).contiguous().cpu().view(-1).view(torch.uint8).numpy()
    whole = len(raw) - len(raw) % 8
    words = raw[:whole].view(np.uint64)
    rest = int.from_bytes(raw[whole:].tobytes(), "little")
    total = int(np.add.reduce(words)) + 3 * int(np.dot(words, words)) + 5 * rest
    return total % 2**63


def check_replicas(comm: Communicator, **networks: nn.Module) -> None:
    """Raise UserError, naming tensor and rank, unless all ranks hold the same.  Collective."""
    names, digests = [], []
    for player, network in networks.items():
        for name, tensor in network.state_dict().items():
            names.append(f"{player}.{name}")
            digests.append(digest(tensor))
    mine = np.array(digests, dtype=np.int64)
    low, high = comm.extremes(mine)
    if (low != high).any():
        (device, *_) = {each.device for each in next(iter(networks.values())).state_dict().values()}
        kinds = comm.allgather(arithmetic(device))
        everyone = np.stack(comm.allgather(mine))
        comm.alike(lambda: _name_the_first(names, everyone, kinds))


def not_finite(comm: Communicator, **networks: nn.Module) -> str:
    """Name the first tensor of the first rank that is not finite, "" if all are.  Collective."""
    mine = next(
        (
            f"{player}.{name}"
            for player, network in networks.items()
            for name, tensor in network.state_dict().items()
            if not tensor.isfinite().all()
        ),
        "",
    )
    found = [f"{name} of rank {rank}" for rank, name in enumerate(comm.allgather(mine)) if name]
    return found[0] if found else ""


def check_finite(comm: Communicator, **networks: nn.Module) -> None:
    """Raise UserError, naming the tensor, unless networks that are alike are finite."""
    for player, network in networks.items():
        for name, tensor in network.state_dict().items():
            # A sum is ten times as quick, and of large numbers it may be infinite itself.
            if not tensor.sum().isfinite() and not tensor.isfinite().all():
                comm.raise_alike(
                    UserError(
                        f"diverged: {player}.{name} is not finite any more. Checkpoints from "
                        f"before that are kept; a lower --{player[0].lower()}-lr may help.",
                        exit_code=DIVERGED,
                    )
                )


def _name_the_first(names: list[str], digests: Array, kinds: list[int]) -> None:
    """Raise UserError about the first tensor that is not root's.

    `digests` are (ranks, names), and `kinds` those of each rank's arithmetic.
    """
    rank, index = np.argwhere(digests != digests[0])[0]
    suspect = (
        "suspect the hardware of that rank's node"
        if kinds[rank] == kinds[0]
        else "its rank computes on another kind of processor, and other bits come of it"
    )
    raise UserError(
        f"{names[index]} on rank {rank} is not what it is on rank 0: the ranks do not train one "
        f"model any more. The last checkpoint is good; {suspect}."
    )
