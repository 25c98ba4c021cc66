"""The kernel distance: the unbiased squared maximum mean discrepancy with a cubic kernel.

Binkowski et al., arXiv 1801.01401:  k(x, y) = (x.y / d + 1)^3, over all pairs of the two sets.
"""

import numpy as np
import torch

from gan_mpi.mpi.comm import Communicator
from gan_mpi.streams import shard

ROWS = 512  # whose products with the whole other set are held at once


def mean_kernel(comm: Communicator, features: np.ndarray) -> float:
    """Return the mean kernel of all pairs of different rows of (N, d), N > 1.  Collective."""
    total = _sum_over_pairs(comm, features, features, skip_equal=True)
    return total / (len(features) * (len(features) - 1))


def mean_cross_kernel(comm: Communicator, one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean kernel of all pairs of rows of (N, d) and (M, d).  Collective."""
    return _sum_over_pairs(comm, one, other) / (len(one) * len(other))


def kernel_distance(real_kernel: float, fake_kernel: float, cross: float) -> float:
    """Return the squared discrepancy from the mean kernels; about 0, also below, for one law."""
    return real_kernel + fake_kernel - 2.0 * cross


def _sum_over_pairs(
    comm: Communicator, one: np.ndarray, other: np.ndarray, skip_equal: bool = False
) -> float:
    lo, hi = shard(len(one), comm.rank, comm.world_size)
    total = np.zeros(1)
    left, right = torch.from_numpy(one), torch.from_numpy(other)
    for begin in range(lo, hi, ROWS):
        rows = slice(begin, min(begin + ROWS, hi))
        kernels = (left[rows] @ right.T / one.shape[1] + 1.0) ** 3
        total += kernels.sum().item()
        if skip_equal:
            total -= kernels[:, rows].trace().item()
    comm.sum_in_place(total)
    return float(total[0])
