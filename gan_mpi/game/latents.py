"""What a generator is given, drawn from the streams: latents, and numbers for dropout."""

import numpy as np

from gan_mpi.arrays import Array
from gan_mpi.config.training import TrainConfig
from gan_mpi.networks.generator import Generator
from gan_mpi.streams import Purpose, draw_latents, uniforms


def generator_inputs(
    generator: Generator,
    config: TrainConfig,
    seed: int,
    purposes: tuple[Purpose, Purpose],
    start: int,
    stop: int,
) -> Array:
    """Return inputs start..stop of a generator, float64 (stop - start, latent_dim + masks).

    `purposes` are those of the latents and of the masks.
    """
    of_latents, of_masks = purposes
    latents = draw_latents(config.latents, seed, of_latents, start, stop, config.latent_dim)
    if not generator.masks:
        return latents
    drawn = uniforms(seed, of_masks, start, stop, generator.masks)
    return np.concatenate([latents, drawn], axis=1)
