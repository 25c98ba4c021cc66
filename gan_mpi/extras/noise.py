"""Noise on what D sees."""

import math

import numpy as np
from torch import Tensor

from gan_mpi.arrays import Array
from gan_mpi.config.training import TrainConfig
from gan_mpi.game.batch import Batch
from gan_mpi.streams import Purpose, box_muller, uniforms

PURPOSES = {"real": Purpose.NOISE_REAL, "fake": Purpose.NOISE_FAKE}


class InstanceNoise:
    """Adds normal noise to reals and fakes alike; its deviation falls linearly to 0 over the run.

    Arjovsky and Bottou, arXiv 1701.04862; Sonderby et al., arXiv 1610.04490.  How far the run is,
    the position of a sample in its stream says.
    """

    def __init__(self, config: TrainConfig, shape: tuple[int, ...]) -> None:
        """`shape` is that of a sample."""
        self.deviation, self.seed, self.shape = config.instance_noise, config.seed, shape
        self.ends = {
            "real": config.steps * config.images_per_step,
            "fake": config.steps * config.latents_per_step,
        }

    def draw(self, kind: str, first: int, last: int) -> dict[str, Array]:
        """Return the noise of samples first..last."""
        width = math.prod(self.shape)
        drawn = uniforms(self.seed, PURPOSES[kind], first, last, width + width % 2)
        deviations = self.deviation * np.maximum(
            0.0, 1.0 - np.arange(first, last) / self.ends[kind]
        )
        noise = deviations[:, None] * box_muller(drawn)[:, :width]
        return {"noise": noise.reshape(-1, *self.shape)}

    def __call__(self, batch: Batch) -> Tensor:
        """Return the values of a batch with noise, each sample its own."""
        return batch.values + batch.drawn["noise"]
