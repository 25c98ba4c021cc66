"""Images of a generator by seed: one seed, one image, whatever else is drawn beside it."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from gan_mpi.clock import HERE
from gan_mpi.cluster.device import inference
from gan_mpi.config.training import TrainConfig
from gan_mpi.drawing.generator import SavedGenerator
from gan_mpi.errors import DIVERGED, UserError
from gan_mpi.game.latents import generator_inputs
from gan_mpi.mpi.comm import Communicator
from gan_mpi.networks.generator import Generator
from gan_mpi.networks.pixels import to_pixels
from gan_mpi.runs.record import DataRecord
from gan_mpi.streams import Purpose, draw_labels, shard

Arrays = tuple[np.ndarray, ...]

POINTS = 10_000  # seeds in a picture of points, and in their mean and deviation
NAMED = 20  # classes in a message
LONGEST = 40  # characters of a class that is a number, or a range of them
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


def each_class(seeds: Sequence[int], classes: Sequence[int]) -> tuple[list[int], list[int] | None]:
    """Return the seeds and labels of samples: every seed of each class, class by class.

    Without classes there are no labels.
    """
    if not classes:
        return list(seeds), None
    labels = [label for label in classes for _ in seeds]
    return [seed for _ in classes for seed in seeds], labels


def usual_grid(classes: int) -> tuple[int, int]:
    """Return columns and rows of a picture: ten samples of each class a row, else six by six."""
    return (10, classes) if classes else (6, 6)


def fill_grid(
    columns: int, rows: int, classes: Sequence[int]
) -> tuple[list[int], list[int] | None]:
    """Return the seeds and labels that fill a grid: one class a row, one latent a column.

    Rows beyond the classes begin them anew, with further latents.  Without classes each place has
    a latent of its own, and there are no labels.
    """
    if not classes:
        return list(range(columns * rows)), None
    turns = [divmod(row, len(classes)) for row in range(rows)]
    seeds = [turn * columns + column for turn, _ in turns for column in range(columns)]
    return seeds, [classes[at] for _, at in turns for _ in range(columns)]


def row_names(
    data: DataRecord, labels: Sequence[int] | None, columns: int, run: int = 0
) -> list[str]:
    """Return the names of the rows of samples with these labels, none if classes have none.

    After `run` samples, if that is not 0, a new row begins.
    """
    if not labels or not data.class_names:
        return []
    run = run or len(labels)
    firsts = [at + place for at in range(0, len(labels), run) for place in range(0, run, columns)]
    return [data.class_name(labels[first]) for first in firsts if first < len(labels)]


def find_classes(trained: SavedGenerator, asked: Sequence[str] | None) -> list[int]:
    """Return the labels of classes that are asked for by name, number or range such as 0-4.

    They are all that there are training images of, if none are asked for.  Raises UserError for
    others.
    """
    counts, path = trained.data.label_counts, trained.path
    if asked and not counts:
        raise UserError(
            f"--class: the generator of {path} was trained without labels; one that draws a class "
            "on demand is trained with --conditional.",
            exit_code=2,
        )
    if asked is None:
        return [label for label, count in enumerate(counts) if count]
    labels = [label for one in asked for label in _labels_of(trained, one)]
    for label in labels:
        if not counts[label]:
            raise UserError(
                f"--class: no image that {path} was trained on is of the class "
                f"{trained.data.class_name(label)}.",
                exit_code=2,
            )
    return labels


def _labels_of(trained: SavedGenerator, asked: str) -> list[int]:
    """Return the label of a name, a number, or those of a range.  Raises UserError.

    Where all names are numbers, as of folders 1 to 10, a number is a name.
    """
    names, classes = trained.data.class_names, trained.data.classes
    if asked in names:
        return [names.index(asked)]
    first, dash, last = asked.partition("-")
    if first.isdecimal() and (last.isdecimal() or not dash) and len(asked) < LONGEST:
        labels = {label: label for label in range(classes)}
        if names and all(name.isdecimal() for name in names):  # then numbers are names
            labels = {int(name): label for label, name in enumerate(names)}
        low, high = int(first), int(last if dash else first)
        if low <= high and {low, high} <= labels.keys():
            return [labels[number] for number in sorted(labels) if low <= number <= high]
    known = f"0 to {classes - 1}"
    if names:
        known = ", ".join(names[:NAMED]) + (" ..." if len(names) > NAMED else "")
    raise UserError(f"--class: {trained.path} knows the classes {known}, not {asked}.", exit_code=2)


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

    def chunk(number: int) -> Arrays:
        HERE.move()
        return compute(number * CHUNK, min((number + 1) * CHUNK, count))

    lo, hi = shard(-(-count // CHUNK), comm.rank, comm.world_size)
    mine = comm.agree(lambda: [chunk(number) for number in range(lo, hi)])
    parts = [part for rank in comm.allgather(mine) for part in rank]
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
