"""Whether samples are training images learned by heart: how near the nearest one is, in pixels."""

import numpy as np

from gan_mpi.evaluation.neighbours import nearest_rows
from gan_mpi.mpi.comm import Communicator
from gan_mpi.runs.evaluations import Figures

COUNT = 2_000  # samples, and test images, whose nearest training image is sought
SHARE = 0.01  # of the test images are nearer to a training image than what counts as close


class Memory:
    """The training images, and how near to them images that nobody trained on are.

    `floor` has the figures of test images.  All images are uint8 (N, C, H, W).
    """

    def __init__(self, comm: Communicator, train: np.ndarray, test: np.ndarray) -> None:
        """Find how near test images are.  Collective."""
        self.comm, self.train = comm, train
        _, apart = self._nearest(test)
        self.close = float(np.quantile(apart, SHARE))
        self.floor = self._figures(apart)

    def compare(self, samples: np.ndarray) -> tuple[Figures, np.ndarray]:
        """Return the figures of the first COUNT samples, and pairs that can be looked at.

        `nearest` is the median distance to the nearest training image, the root mean square of a
        pixel's difference, 0..255; `memorised` the share that is close.  The pairs, (2, n, C, H,
        W), are samples, the nearest first, each with its training image.  Collective.
        """
        rows, apart = self._nearest(samples)
        order = np.argsort(apart, kind="stable")
        pairs = np.stack([samples[:COUNT][order], self.train[rows[order]]])
        return self._figures(apart), pairs

    def _nearest(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        flat = samples[:COUNT].reshape(min(len(samples), COUNT), -1)
        return nearest_rows(self.comm, flat, self.train.reshape(len(self.train), -1))

    def _figures(self, apart: np.ndarray) -> Figures:
        return {
            "nearest": float(np.median(apart)),
            "memorised": float((apart < self.close).mean()),
        }
