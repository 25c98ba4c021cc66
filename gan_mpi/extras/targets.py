"""What D is told that reals and fakes are: soft, noisy and flipped targets."""

import numpy as np
from torch import Tensor

from gan_mpi.arrays import Array
from gan_mpi.config.training import TrainConfig
from gan_mpi.config.values import interval
from gan_mpi.game.batch import Batch
from gan_mpi.streams import Purpose, uniforms

PURPOSES = {"real": Purpose.TARGETS_REAL, "fake": Purpose.TARGETS_FAKE}


class Targets:
    """Draws the target of every sample from its range, and flips a share of them.

    Salimans et al., arXiv 1606.03498, 3.4, for reals alone; ganhacks 6 for all.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.seed, self.flip = config.seed, config.flip
        self.ranges = {
            "real": interval(config.real_targets),
            "fake": interval(config.fake_targets),
        }

    def draw(self, kind: str, first: int, last: int) -> dict[str, Array]:
        """Return the targets of samples first..last."""
        low, high = self.ranges[kind]
        drawn = uniforms(self.seed, PURPOSES[kind], first, last, 2)
        targets = low + (high - low) * drawn[:, 0]
        return {"targets": np.where(drawn[:, 1] < self.flip, 1.0 - targets, targets)}

    def __call__(self, batch: Batch) -> Tensor:
        """Return the targets (n,) of a batch."""
        return batch.drawn["targets"]
