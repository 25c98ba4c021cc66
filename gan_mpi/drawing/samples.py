"""Images of a generator by seed: one seed, one image, whatever else is drawn beside it."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from gan_mpi.config.training import TrainConfig
from gan_mpi.drawing.generator import SavedGenerator
from gan_mpi.errors import DIVERGED, UserError
from gan_mpi.game.latents import generator_inputs
from gan_mpi.mpi.comm import Communicator
from gan_mpi.networks.generator import Generator
from gan_mpi.networks.inference import inference
from gan_mpi.networks.pixels import to_pixels
from gan_mpi.streams import Purpose, draw_labels, shard

Arrays = tuple[np.ndarray, ...]

POINTS = 10_000  # seeds in a picture of points, and in their mean and deviation
CHUNK = 64  # seeds; a product over another number of rows may round otherwise


def generate(
    generator: Generator,
    config: TrainConfig,
    seeds: Sequence[int],
    labels: Sequence[int] | None = None,
) -> np.ndarray:
    """Return the images of `seeds` as uint8 (N, C, H, W), or points as float64 (N, d).

    `labels` are theirs; without them they are those of sample_labels.

    A seed s is always drawn as row s % 64 of the 64 seeds from s - s % 64 on, by one thread,
    so that its image does not depend on the other seeds, the ranks or the threads.
    """
    images: dict[int, np.ndarray] = {}  # by place
    places: dict[int, list[int]] = {}  # by chunk
    for place, seed in enumerate(seeds):
        places.setdefault(seed // CHUNK, []).append(place)
    for chunk, left in sorted(places.items()):
        first, last = chunk * CHUNK, (chunk + 1) * CHUNK
        inputs = sample_inputs(generator, config, first, last)
        drawn = sample_labels(generator, first, last)
        while left:
            # One seed may be asked for in several classes, which takes as many passes.
            now = {seeds[place] - first: place for place in reversed(left)}
            given = drawn.copy()
            if labels is not None:
                for row, place in now.items():
                    given[row] = labels[place]
            rows = draw_chunk(generator, config, inputs, given)
            same = {
                place
                for place in left
                if labels is None or labels[place] == given[seeds[place] - first]
            }
            images |= {place: rows[seeds[place] - first] for place in same}
            left = [place for place in left if place not in same]
    return np.stack([images[place] for place in range(len(seeds))])


def sample_inputs(generator: Generator, config: TrainConfig, start: int, stop: int) -> np.ndarray:
    """Return latents, and masks of dropout, of seeds start..stop; float64 (stop - start, width)."""
    purposes = Purpose.SAMPLES, Purpose.SAMPLE_DROPOUT
    return generator_inputs(generator, config, 0, purposes, start, stop)


def sample_labels(generator: Generator, start: int, stop: int) -> np.ndarray:
    """Return the labels of seeds start..stop, int64 (stop - start,), as often as in the data.

    They are 0 where the generator takes none.
    """
    if not generator.label_counts:
        return np.zeros(stop - start, np.int64)
    return draw_labels(generator.label_counts, 0, Purpose.SAMPLE_LABELS, start, stop)


def one_class_a_row(count: int, columns: int, classes: Sequence[int]) -> list[int] | None:
    """Return the labels of `count` samples in rows, class by class; None if there are none."""
    if not classes:
        return None
    return [classes[place // columns % len(classes)] for place in range(count)]


def check_classes(trained: SavedGenerator, classes: Sequence[int]) -> None:
    """Raise UserError if a generator does not draw these classes."""
    known, path = trained.data.classes, trained.path
    if classes and not known:
        raise UserError(
            f"--class: the generator of {path} was trained without labels; one that draws a class "
            "on demand is trained with --conditional.",
            exit_code=2,
        )
    if classes and max(classes) >= known:
        raise UserError(
            f"--class: {path} knows the classes 0 to {known - 1}, not {max(classes)}.",
            exit_code=2,
        )


@torch.no_grad()
def draw_chunk(
    generator: Generator,
    config: TrainConfig,
    inputs: np.ndarray,
    labels: np.ndarray,
) -> np.ndarray:
    """Return what a generator draws from at most CHUNK inputs (n, width), as `generate`.

    `labels`, int64 (n,), are looked at if it takes labels.

    Raises UserError if it draws numbers that are not finite.
    """
    parameter = next(generator.parameters())
    rows, classes = np.zeros((CHUNK, inputs.shape[1])), np.zeros(CHUNK, np.int64)
    rows[: len(inputs)], classes[: len(inputs)] = inputs, labels
    given = [torch.from_numpy(rows).to(parameter)]
    if generator.label_counts:
        given.append(torch.from_numpy(classes).to(parameter.device))
    with inference(generator):
        drawn = generator(*given)
    if not drawn.isfinite().all():
        raise UserError(
            "diverged: what the generator draws is not finite any more. Checkpoints from before "
            "that are kept; a lower --g-lr may help.",
            exit_code=DIVERGED,
        )
    return to_pixels(drawn, config.range)[: len(inputs)]


def in_chunks(comm: Communicator, count: int, compute: Callable[[int, int], Arrays]) -> Arrays:
    """Return the rows that compute(first, last) gives for each CHUNK of `count`, joined.

    Each rank computes some chunks; all get the same rows, on any number of ranks.  A UserError
    on any of them is raised on all.  Collective.
    """
    lo, hi = shard(-(-count // CHUNK), comm.rank, comm.world_size)
    mine = comm.agree(
        lambda: [compute(chunk * CHUNK, min((chunk + 1) * CHUNK, count)) for chunk in range(lo, hi)]
    )
    parts = [part for rank in comm.allgather(mine) for part in rank]
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
