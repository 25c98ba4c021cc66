"""Settings that go from one number to another, as each sample has them."""

import numpy as np

from gan_mpi.arrays import Array
from gan_mpi.config.training import TrainConfig
from gan_mpi.config.values import Ramp, along


def along_stream(config: TrainConfig, value: Ramp, kind: str, first: int, last: int) -> Array:
    """Return what a setting is for samples first..last of a stream, real or fake, (last - first,).

    How far the run is, the place of a sample in its stream says.
    """
    steps = np.arange(first, last) / config.samples_per_step(kind)
    return np.array([along(value, config.share_of_ramp(step)) for step in steps.tolist()])
