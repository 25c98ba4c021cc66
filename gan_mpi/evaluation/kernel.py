"""The kernel distance: the unbiased squared maximum mean discrepancy with a cubic kernel.

Binkowski et al., arXiv 1801.01401:  k(x, y) = (x.y / d + 1)^3, over all pairs of the two sets.  Its
interval is from a bootstrap of both sets, Efron, Ann. Statist. 7 (1979): a row that was drawn c
times counts c times, and no row is paired with itself.
"""

from functools import lru_cache

import numpy as np
import torch

from gan_mpi.clock import HERE
from gan_mpi.mpi.comm import Communicator
from gan_mpi.streams import Purpose, shard, uniforms

ROWS = 512  # whose products with the whole other set are held at once
REPLICATES = 100
OF_NORMAL = 1.96  # standard deviations on either side hold 95 %


def mean_kernel(comm: Communicator, features: np.ndarray, purpose: Purpose) -> np.ndarray:
    """Return the mean kernel (1 + REPLICATES,) of all pairs of different rows of (N, d), N > 1.

    First that of the rows as they are, then those of the bootstrap.  Collective.
    """
    weights = _weights(len(features), purpose)
    total = _sum_over_pairs(comm, features, features, weights, weights, skip_equal=True)
    return total / (len(features) ** 2 - np.square(weights).sum(0))


def mean_cross_kernel(comm: Communicator, fake: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Return the mean kernel (1 + REPLICATES,) of all pairs of rows of (N, d) and (M, d).

    The rows have the weights that mean_kernel gives them.  Collective.
    """
    of_fake = _weights(len(fake), Purpose.BOOTSTRAP_FAKE)
    of_real = _weights(len(real), Purpose.BOOTSTRAP_REAL)
    return _sum_over_pairs(comm, fake, real, of_fake, of_real) / (len(fake) * len(real))


def kernel_distance(
    real_kernel: np.ndarray, fake_kernel: np.ndarray, cross: np.ndarray
) -> tuple[float, float]:
    """Return the squared discrepancy, about 0, also below, for one law, and its error.

    The error is half of an interval of 95 %, from the bootstrap's standard deviation.
    """
    found = real_kernel + fake_kernel - 2.0 * cross
    return float(found[0]), OF_NORMAL * float(found[1:].std(ddof=1))


@lru_cache(maxsize=4)
def _weights(count: int, purpose: Purpose) -> np.ndarray:
    """Return how often each row counts, (count, 1 + REPLICATES): once, and then as drawn."""
    drawn = uniforms(0, purpose, 0, REPLICATES, count)
    rows = np.minimum((drawn * count).astype(np.int64), count - 1)
    return np.stack([np.ones(count), *(np.bincount(r, minlength=count) for r in rows)], axis=1)


def _sum_over_pairs(
    comm: Communicator,
    one: np.ndarray,
    other: np.ndarray,
    of_one: np.ndarray,
    of_other: np.ndarray,
    skip_equal: bool = False,
) -> np.ndarray:
    lo, hi = shard(len(one), comm.rank, comm.world_size)
    total = np.zeros(of_one.shape[1])
    left, right = torch.from_numpy(one), torch.from_numpy(other)
    of_left, of_right = torch.from_numpy(of_one), torch.from_numpy(of_other)
    for begin in range(lo, hi, ROWS):
        HERE.move()
        rows = slice(begin, min(begin + ROWS, hi))
        kernels = (left[rows] @ right.T / one.shape[1] + 1.0).pow_(3)
        if skip_equal:
            kernels[:, rows].diagonal().zero_()
        total += (of_left[rows] * (kernels @ of_right)).sum(0).numpy()
    comm.sum_in_place(total)
    return total
