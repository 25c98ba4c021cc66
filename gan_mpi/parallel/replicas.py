"""Replicas that begin alike, and are compared."""

import hashlib

import numpy as np
import torch
from torch import nn

from gan_mpi.arrays import Array
from gan_mpi.errors import DIVERGED, UserError
from gan_mpi.mpi.comm import Communicator


def broadcast_network(comm: Communicator, network: nn.Module) -> None:
    """Give all ranks root's parameters and buffers.  Collective."""
    for tensor in network.state_dict().values():
        host = tensor.detach().cpu().contiguous().numpy()
        comm.broadcast_in_place(host)
        tensor.copy_(torch.from_numpy(host))


def check_replicas(comm: Communicator, **networks: nn.Module) -> None:
    """Raise UserError, naming tensor and rank, unless all ranks hold the same.  Collective."""
    names, digests = [], []
    for player, network in networks.items():
        for name, tensor in network.state_dict().items():
            data = tensor.detach().cpu().contiguous().numpy().tobytes()
            names.append(f"{player}.{name}")
            digests.append(int.from_bytes(hashlib.sha256(data).digest()[:8], "little") >> 1)
    mine = np.array(digests, dtype=np.int64)
    low, high = comm.extremes(mine)
    if (low != high).any():
        everyone = np.stack(comm.allgather(mine))
        comm.alike(lambda: _name_the_first(names, everyone))


def check_finite(comm: Communicator, **networks: nn.Module) -> None:
    """Raise UserError, naming the tensor, unless networks that are alike are finite."""
    for player, network in networks.items():
        for name, tensor in network.state_dict().items():
            if not tensor.isfinite().all():
                comm.raise_alike(
                    UserError(
                        f"diverged: {player}.{name} is not finite any more. Checkpoints from "
                        f"before that are kept; a lower --{player[0].lower()}-lr may help.",
                        exit_code=DIVERGED,
                    )
                )


def _name_the_first(names: list[str], digests: Array) -> None:
    """Raise UserError about the first tensor that is not root's; `digests` are (ranks, names)."""
    rank, index = np.argwhere(digests != digests[0])[0]
    raise UserError(
        f"{names[index]} on rank {rank} is not what it is on rank 0: the ranks do not train one "
        "model any more. The last checkpoint is good; suspect the hardware of that rank's node."
    )
