"""Noise on what D sees."""

import math

import numpy as np
import torch

from gan_mpi.config.training import TrainConfig
from gan_mpi.game.batch import Batch
from gan_mpi.streams import Purpose, box_muller, uniforms

PURPOSES = {"real": Purpose.NOISE_REAL, "fake": Purpose.NOISE_FAKE}


class InstanceNoise:
    """Adds normal noise to reals and fakes alike; its deviation falls linearly to 0 over the run.

    Arjovsky and Bottou, arXiv 1701.04862; Sonderby et al., arXiv 1610.04490.  How far the run is,
    the position of a sample in its stream says.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.deviation, self.seed = config.instance_noise, config.seed
        self.ends = {
            "real": config.steps * config.images_per_step,
            "fake": config.steps * config.latents_per_step,
        }

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Return the values of a batch with noise, each sample its own."""
        values = batch.values
        width = math.prod(values.shape[1:])
        drawn = uniforms(
            self.seed,
            PURPOSES[batch.kind],
            batch.first,
            batch.first + len(batch),
            width + width % 2,
        )
        done = np.arange(batch.first, batch.first + len(batch)) / self.ends[batch.kind]
        deviations = self.deviation * np.maximum(0.0, 1.0 - done)
        noise = torch.from_numpy(deviations[:, None] * box_muller(drawn)[:, :width])
        return values + noise.to(values).view(values.shape)
