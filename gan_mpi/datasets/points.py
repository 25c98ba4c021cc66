"""Points drawn from the uniform distribution over the unit square."""

import numpy as np

from gan_mpi.streams import Purpose, uniforms

COUNT = 1_000_000
DIMENSION = 2


def draw_points(count: int = COUNT, first: int = 0) -> np.ndarray:
    """Return points `first` and on as float32 (count, 2) in [0, 1).

    Source: load_uniform_data of PaddlePaddle's gan_trainer.py, numpy.random.rand(1000000, 2).
    """
    return uniforms(0, Purpose.POINTS, first, first + count, DIMENSION).astype(
        np.float32
    )
