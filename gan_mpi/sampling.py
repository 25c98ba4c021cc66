"""Images of a generator by seed: one seed, one image, whatever else is drawn beside it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from gan_mpi.comm import Communicator
from gan_mpi.config import TrainConfig
from gan_mpi.device import one_thread
from gan_mpi.errors import DIVERGED, UserError
from gan_mpi.images import to_pixels
from gan_mpi.streams import Purpose, draw_latents, shard

Arrays = tuple[np.ndarray, ...]

POINTS = 10_000  # seeds in a picture of points, and in their mean and deviation
CHUNK = 64  # seeds; a product over another number of rows may round otherwise


def generate(
    generator: nn.Module, config: TrainConfig, seeds: Sequence[int]
) -> np.ndarray:
    """Return the images of `seeds` as uint8 (N, C, H, W), or points as float64 (N, d).

    A seed s is always drawn as row s % 64 of the 64 seeds from s - s % 64 on, by one thread,
    so that its image does not depend on the other seeds, the ranks or the threads.
    """
    chunks: dict[int, np.ndarray] = {}
    for chunk in sorted({seed // CHUNK for seed in seeds}):
        first = chunk * CHUNK
        latents = sample_latents(config, first, first + CHUNK)
        chunks[chunk] = draw_chunk(generator, config, latents)
    return np.stack([chunks[seed // CHUNK][seed % CHUNK] for seed in seeds])


def sample_latents(config: TrainConfig, start: int, stop: int) -> np.ndarray:
    """Return the latents of seeds start..stop, float64 (stop - start, latent_dim)."""
    return draw_latents(
        config.latents, 0, Purpose.SAMPLES, start, stop, config.latent_dim
    )


@torch.no_grad()
def draw_chunk(
    generator: nn.Module, config: TrainConfig, latents: np.ndarray
) -> np.ndarray:
    """Return what a generator draws from at most CHUNK latents (n, latent_dim), as `generate`.

    Raises UserError if it draws numbers that are not finite.
    """
    parameter = next(generator.parameters())
    rows = np.zeros((CHUNK, config.latent_dim))
    rows[: len(latents)] = latents
    with inference(generator):
        made = generator(
            torch.from_numpy(rows).to(parameter.dtype).to(parameter.device)
        )
    if not made.isfinite().all():
        raise UserError(
            "diverged: what the generator draws is not finite any more. Checkpoints from before "
            "that are kept; a lower --g-lr may help.",
            exit_code=DIVERGED,
        )
    return to_pixels(made, config.range)[: len(latents)]


@contextmanager
def inference(network: nn.Module) -> Iterator[None]:
    """Let a network compute as after training, on one thread."""
    was_training = network.training
    network.eval()
    try:
        with one_thread():
            yield
    finally:
        network.train(was_training)


def in_chunks(
    comm: Communicator, count: int, compute: Callable[[int, int], Arrays]
) -> Arrays:
    """Return the rows that compute(first, last) gives for each CHUNK of `count`, joined.

    Each rank computes some chunks; all get the same rows, on any number of ranks.  A UserError
    on any of them is raised on all.  Collective.
    """
    lo, hi = shard(-(-count // CHUNK), comm.rank, comm.world_size)
    mine = comm.agree(
        lambda: [
            compute(chunk * CHUNK, min((chunk + 1) * CHUNK, count))
            for chunk in range(lo, hi)
        ]
    )
    parts = [part for rank in comm.allgather(mine) for part in rank]
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
