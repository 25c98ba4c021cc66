"""The Frechet distance between two sets of features, each taken for a Gaussian.

Heusel et al., arXiv 1706.08500:  |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).
"""

from dataclasses import dataclass

import numpy as np
import torch

from gan_mpi.cluster.device import one_thread
from gan_mpi.mpi.comm import Communicator
from gan_mpi.streams import shard

PARTS = 64  # of a set, each summed by one rank; added in one order on any number of ranks


@dataclass(frozen=True)
class Moments:
    """Mean (d,) and covariance (d, d), with n - 1, of n features."""

    count: int
    mean: np.ndarray
    covariance: np.ndarray


def moments(comm: Communicator, features: np.ndarray) -> Moments:
    """Return the moments of features (N, d), N > 1, the same bits on any number of ranks.

    The root of a covariance with eigenvalues near zero would make 1e-8 of a last bit.  Collective.
    """
    count, width = features.shape
    sums = np.zeros((PARTS, width + width * width))
    with one_thread():
        for part in range(*shard(PARTS, comm.rank, comm.world_size)):
            lo, hi = shard(count, part, PARTS)
            # About one and the same row, so that a mean far from zero costs no digits.
            rows = torch.from_numpy(features[lo:hi] - features[0])
            sums[part] = torch.cat([rows.sum(0), (rows.T @ rows).flatten()]).numpy()
    comm.sum_in_place(sums)
    total = sums.sum(0)
    mean = total[:width] / count
    squares = total[width:].reshape(width, width)
    covariance = (squares - count * np.outer(mean, mean)) / (count - 1)
    return Moments(count, features[0] + mean, covariance)


def frechet_distance(one: Moments, other: Moments) -> float:
    """Return the squared distance, 0 for equal moments.

    The trace of (C1 C2)^(1/2) is the sum of the singular values of C1^(1/2) C2^(1/2), which
    unlike the eigenvalues of a product lose no digits where features are nearly dependent.
    """
    with one_thread():
        roots = _root(one.covariance) @ _root(other.covariance)
        overlap = torch.linalg.svdvals(roots).sum().item()
    spread = np.trace(one.covariance) + np.trace(other.covariance) - 2.0 * overlap
    return float(np.square(one.mean - other.mean).sum() + spread)


def _root(covariance: np.ndarray) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(torch.from_numpy(covariance))
    return (vectors * values.clamp(min=0.0).sqrt()) @ vectors.T
