"""Weights averaged over ranks, with block momentum if that is wanted."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector
from torch.optim import Optimizer

from gan_mpi.game.players import Player
from gan_mpi.mpi.comm import Communicator
from gan_mpi.networks.generator import Generator
from gan_mpi.runs.checkpoint import SavedMomentum


class WeightAverage:
    """Brings the networks of all ranks together, each rank's with its weight.

    One flat buffer with all parameters, running statistics and, if wanted, optimizer states crosses
    MPI in one Allreduce.  FedAvg: McMahan et al., arXiv 1602.05629.
    """

    def __init__(
        self,
        comm: Communicator,
        networks: Mapping[str, nn.Module],
        players: tuple[Player[Generator], Player[nn.Module]],
        weight: float,
        optimizer_state: str = "local",
        momentum: float | None = None,
    ) -> None:
        """`networks` are averaged, and `players` are those with optimizers.

        `weight` is this rank's; those of all add up to 1.  `optimizer_state` is local, average
        or reset.  `momentum` is that of blocks, if any.
        """
        self.comm, self.networks, self.players = comm, networks, players
        self.weight, self.optimizer_state = weight, optimizer_state
        self.block = None
        if momentum is not None:
            parameters = [p for player in players for p in player.network.parameters()]
            self.block = BlockMomentum(parameters, comm.world_size, momentum)

    def exchange(self) -> int:
        """Average over ranks; return the bytes that this rank gave.  Collective."""
        tensors = self._tensors()
        kind = next(self.players[0].network.parameters()).dtype
        flat = torch.cat([tensor.detach().to("cpu", kind).flatten() for tensor in tensors])
        flat.mul_(self.weight)
        self.comm.sum_in_place(flat.numpy())
        parts = flat.split([tensor.numel() for tensor in tensors])
        _copy(parts, tensors)
        if self.block is not None:
            self.block.apply()
        if self.optimizer_state == "reset":
            for player in self.players:
                player.optimizer.state.clear()
        return flat.nbytes

    def _tensors(self) -> list[Tensor]:
        """Return all that is averaged, in an order that is the same on all ranks."""
        networks = self.networks.values()
        tensors = [t for network in networks for t in network.state_dict().values()]
        if self.optimizer_state == "average":
            for player in self.players:
                tensors += state_tensors(player.optimizer, player.network)
        return tensors


@torch.no_grad()
def _copy(parts: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    """Copy flat parts of a buffer into tensors."""
    for part, tensor in zip(parts, tensors, strict=True):
        tensor.copy_(part.view_as(tensor))


def state_tensors(optimizer: Optimizer, network: nn.Module) -> list[Tensor]:
    """Return the tensors of an optimizer's state: moments and, of Adam, the number of updates."""
    states = (optimizer.state[parameter] for parameter in network.parameters())
    return [each for state in states for each in state.values() if isinstance(each, Tensor)]


class BlockMomentum:
    """Momentum of the weights over rounds, as CNTK's BlockMomentumSGD.h with Nesterov's.

    With N ranks, b the momentum, w the weights before a round and m their average after it:

        s = b*s + (1-b) * N*(w - m);  w = w - s - b*s

    Chen and Huo, ICASSP 2016.  CNTK sums what ranks changed, hence N; with b = 1 - 1/N the factor
    is 1.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], world_size: int, momentum: float
    ) -> None:
        self.momentum, self.scale = momentum, (1.0 - momentum) * world_size
        self.parameters = parameters
        self.before = parameters_to_vector(self.parameters).detach().clone()
        self.smoothed = torch.zeros_like(self.before)

    def apply(self) -> None:
        """Move on from the weights before the round by more than their average did."""
        average = parameters_to_vector(self.parameters).detach()
        self.smoothed.mul_(self.momentum).add_(self.before - average, alpha=self.scale)
        self.before -= (1.0 + self.momentum) * self.smoothed
        sizes = [parameter.numel() for parameter in self.parameters]
        _copy(self.before.split(sizes), self.parameters)

    def to_dict(self) -> SavedMomentum:
        """Return what a checkpoint holds of it."""
        return {"smoothed": self.smoothed}

    def load(self, saved: SavedMomentum) -> None:
        """Continue from what `to_dict` returned, with the weights as they are now."""
        self.smoothed.copy_(saved["smoothed"])
        self.before = parameters_to_vector(self.parameters).detach().clone()
