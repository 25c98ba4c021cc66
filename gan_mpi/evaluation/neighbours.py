"""Figures from nearest neighbours: precision, recall, density, coverage, and the nearest itself.

Kynkaanniemi et al., arXiv 1904.06991, and Naeem et al., arXiv 2002.09797, by the definition of the
latter's reference code (clovaai/generative-evaluation-prdc): one K for all four, and a point lies
in a ball if it is nearer than the radius.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from gan_mpi.clock import HERE
from gan_mpi.mpi.comm import Communicator
from gan_mpi.runs.evaluations import Figures
from gan_mpi.streams import shard

K = 5  # neighbours
ROWS = 512  # whose distances to the whole other set are held at once
BASE_ROWS = 4096  # of a base that is held in float32 at once


def squared_radii(comm: Communicator, features: np.ndarray) -> np.ndarray:
    """Return the squared distance (N,) of each row to its Kth nearest other one.  Collective.

    (N, d) must have more than K rows.
    """
    squared = np.zeros(len(features))
    for rows, distances in _blocks(comm, features, features):
        distances[range(len(distances)), range(rows.start, rows.stop)] = -1.0
        nearest = distances.topk(K + 1, dim=1, largest=False, sorted=True).values
        squared[rows] = nearest[:, K].numpy()
    comm.sum_in_place(squared)
    return squared


def compare(
    comm: Communicator, real: np.ndarray, real_radii: np.ndarray, fake: np.ndarray
) -> Figures:
    """Return precision, recall, density and coverage of `fake` (M, d).  Collective.

    `real_radii` are squared_radii(real).  Of equal laws all are near 1, precision and recall a
    little less.
    """
    fake_radii = torch.from_numpy(squared_radii(comm, fake))
    balls = torch.from_numpy(real_radii)
    counts = np.zeros(3)  # fakes in any ball, balls that they enter, reals in a fake's ball
    nearest = np.full(len(real), np.inf)
    for _, distances in _blocks(comm, fake, real):
        entered = distances < balls
        counts[0] += entered.any(1).sum().item()
        counts[1] += entered.sum().item()
        nearest = np.minimum(nearest, distances.min(0).values.numpy())
    for _, distances in _blocks(comm, real, fake):
        counts[2] += (distances < fake_radii).any(1).sum().item()
    comm.sum_in_place(counts)
    nearest_of_all, _ = comm.extremes(nearest)
    return {
        "precision": float(counts[0] / len(fake)),
        "recall": float(counts[2] / len(real)),
        "density": float(counts[1] / (K * len(fake))),
        "coverage": float((nearest_of_all < real_radii).mean()),
    }


def nearest_rows(
    comm: Communicator, points: np.ndarray, base: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the number (N,) of the row of `base` nearest to each of `points`, and its distance.

    Both are (N, d) and (M, d) of uint8 or float; the sums are in float32, the distance, the root
    of the mean squared difference, in float64.  Collective.
    """
    lo, hi = shard(len(points), comm.rank, comm.world_size)
    mine = _float32(points[lo:hi])
    smallest = torch.full((hi - lo,), np.inf)
    best = torch.zeros(hi - lo, dtype=torch.int64)
    for begin in range(0, len(base), BASE_ROWS):
        HERE.move()
        part = _float32(base[begin : begin + BASE_ROWS])
        least, rows = (part.square().sum(1) - 2.0 * (mine @ part.T)).min(1)
        best = torch.where(least < smallest, begin + rows, best)
        smallest = torch.minimum(least, smallest)
    nearest = np.zeros((2, len(points)))
    apart = points[lo:hi].astype(np.float64) - base[best.numpy()]
    nearest[:, lo:hi] = best.numpy(), np.sqrt(np.square(apart).mean(1))
    comm.sum_in_place(nearest)
    return nearest[0].astype(np.int64), nearest[1]


def _float32(rows: np.ndarray) -> Tensor:
    return torch.from_numpy(rows.astype(np.float32))


def _blocks(
    comm: Communicator, one: np.ndarray, other: np.ndarray
) -> Iterator[tuple[slice, Tensor]]:
    """Yield this rank's rows of `one`, some at a time, with squared distances to all of `other`."""
    lo, hi = shard(len(one), comm.rank, comm.world_size)
    left, right = torch.from_numpy(one), torch.from_numpy(other)
    squares = right.square().sum(1)
    for begin in range(lo, hi, ROWS):
        HERE.move()
        rows = slice(begin, min(begin + ROWS, hi))
        products = torch.addmm(squares, left[rows], right.T, alpha=-2.0)
        yield rows, products.add_(left[rows].square().sum(1, keepdim=True))
