"""What a generator is given, drawn from the streams: latents, and numbers for dropout."""

import numpy as np
from torch import nn

from gan_mpi.config import TrainConfig
from gan_mpi.streams import Purpose, draw_latents, uniforms


def generator_inputs(
    generator: nn.Module,
    config: TrainConfig,
    seed: int,
    purposes: tuple[Purpose, Purpose],
    start: int,
    stop: int,
) -> np.ndarray:
    """Return inputs start..stop of a generator, float64 (stop - start, latent_dim + masks).

    `purposes` are those of the latents and of the masks.
    """
    of_latents, of_masks = purposes
    latents = draw_latents(config.latents, seed, of_latents, start, stop, config.latent_dim)
    masks = getattr(generator, "masks", 0)
    if not masks:
        return latents
    drawn = uniforms(seed, of_masks, start, stop, masks)
    return np.concatenate([latents, drawn], axis=1)
