"""How good a generator is: figures of its samples against the test images, over all ranks.

Every rank holds all rows of the features, float64 (N, d), works on its part of them and learns
the sum, so that any number of ranks gets the same to rounding error.  Linear algebra is torch's,
which keeps to the threads that a rank was given; numpy's takes all cores, and two ranks of a node
that do so wait for each other a hundred times as long as they compute.
"""

import copy
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from gan_mpi.config.running import RunConfig
from gan_mpi.config.training import TrainConfig
from gan_mpi.datasets.dataset import Dataset, Source
from gan_mpi.drawing.samples import generate, in_chunks, sample_labels
from gan_mpi.errors import UserError
from gan_mpi.evaluation import classes, frechet, kernel, memory, neighbours
from gan_mpi.evaluation.extractor import (
    POINTS,
    Extractor,
    find_classifier,
    read_classifier,
)
from gan_mpi.mpi.comm import Communicator
from gan_mpi.networks.generator import Generator
from gan_mpi.parallel.data import share_tests
from gan_mpi.runs.evaluations import FEWEST, Conditions, Evaluation, Figures
from gan_mpi.runs.record import DataRecord
from gan_mpi.streams import DataOrder, Purpose

MOST_SAMPLES = 10_000  # training images in the place of samples


@dataclass
class Features:
    """A set of samples as the extractor sees it, the same on all ranks."""

    features: np.ndarray
    probabilities: np.ndarray
    pixels: np.ndarray = field(default_factory=lambda: np.empty(0))

    @property
    def count(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Wanted:
    """How many samples an evaluation draws, and which classifier sees them."""

    samples: int | None = None  # None: as many as the floor is of
    classifier: str | None = None  # None: that of the data
    run_dir: Path | None = None  # may hold it


def make_reference(
    comm: Communicator,
    wanted: Wanted,
    source: Source,
    train: Dataset,
    device: torch.device,
) -> "Reference":
    """Return what generators of these training data are compared with.  Collective.

    Raises UserError if there are no test data, or no classifier.
    """
    test = share_tests(comm, source, train)
    extractor = _find_extractor(comm, wanted, source, train).to(device)
    return Reference(comm, extractor, train, test, wanted.samples)


def _find_extractor(
    comm: Communicator, wanted: Wanted, source: Source, train: Dataset
) -> Extractor:
    """Return what takes features of these data, the same on all ranks.  Collective.

    Raises UserError if no classifier is there, or it is for images of another shape.
    """
    if len(train.shape) == 1:
        return POINTS
    option = f"--glyphs {source.glyphs}"
    if source.datadir is not None:
        option = f"--datadir {shlex.quote(source.datadir)}"
    if source.resolution != RunConfig.resolution:
        option += f" --resolution {source.resolution}"
    make = f"gan-mpi train-classifier {option}"
    path, data = comm.on_root(
        lambda: find_classifier(wanted.classifier, train, wanted.run_dir, make)
    )
    extractor = comm.agree(lambda: read_classifier(data, path))
    comm.alike(lambda: _require_shape(extractor, train))
    return extractor


def _require_shape(extractor: Extractor, train: Dataset) -> None:
    if extractor.shape != train.shape:
        raise UserError(
            f"--classifier: {extractor.name} is for images of "
            f"{'x'.join(map(str, extractor.shape))}, and these are "
            f"{'x'.join(map(str, train.shape))}.",
            exit_code=2,
        )


class Reference:
    """The real images of a data set, to compare generators with.

    `floor` has the figures of `floor_samples` training images in the place of samples, what a
    perfect generator would get, if as many samples are drawn; and what Memory says of test images.
    """

    def __init__(
        self,
        comm: Communicator,
        extractor: Extractor,
        train: Dataset,
        test: Dataset,
        samples: int | None,
    ) -> None:
        """Take the features of the test images and of training images.  Collective."""
        self.floor_samples = min(MOST_SAMPLES, len(train.images))
        self.samples = samples or self.floor_samples
        comm.alike(lambda: check_counts(self.samples, train, test))
        self.comm, self.extractor = comm, extractor
        self.name = train.name
        self.learned = comm.on_root(lambda: extractor.has_learned(train))
        self.class_names = list(extractor.class_names or (train.classes if self.learned else ()))
        self.real = self._extract(test.images)
        self.shares = classes.histogram(self.real.probabilities) if extractor.classes else None
        self.moments = frechet.moments(comm, self.real.features)
        self.kernel = kernel.mean_kernel(comm, self.real.features, Purpose.BOOTSTRAP_REAL)
        self.radii = neighbours.squared_radii(comm, self.real.features)
        is_image = len(train.shape) == 3
        self.memory = memory.Memory(comm, train.images, test.images) if is_image else None
        self.floor: Figures = {}
        if self.samples == self.floor_samples:
            chosen = np.sort(DataOrder(0, len(train.images)).indices(0, self.floor_samples))
            self.floor = self._compare(self._extract(train.images, chosen))
        if self.memory:
            self.floor |= self.memory.floor

    def on(self, comm: Communicator) -> "Reference":
        """Return the same, of ranks that are left of those that made it."""
        smaller = copy.copy(self)
        smaller.comm = comm
        if self.memory is not None:
            smaller.memory = copy.copy(self.memory)
            smaller.memory.comm = comm
        return smaller

    @property
    def conditions(self) -> Conditions:
        """What evaluations must have in common to be compared with those made here."""
        return self.name, self.extractor.sha256, self.samples, False

    def places(self, label_counts: Sequence[int], names: Sequence[str]) -> np.ndarray | None:
        """Return the classifier's class for each of a generator's, by their names or numbers.

        None if some are not among the classifier's, or there are none; nor does a number mean
        anything where names are given and the classifier, of other images, has none.
        """
        if not (label_counts and self.extractor.classes):
            return None
        if names and not self.class_names and not self.learned:
            return None
        return classes.places(label_counts, names, self.class_names, self.extractor.classes)

    def doubts(self, trained_on: DataRecord) -> list[str]:
        """Return what should be known before figures of such a generator are believed."""
        said = self.extractor.doubt, self._unjudged(trained_on), self._by_number(trained_on)
        return [each for each in said if each]

    def _by_number(self, trained_on: DataRecord) -> str:
        """Return a sentence if classes of other images are taken for those of a number, or ""."""
        named = self.class_names and trained_on.class_names
        judged = self.places(trained_on.label_counts, trained_on.class_names) is not None
        if self.learned or named or not judged:
            return ""
        return (
            f"the classifier {self.extractor.name} learned other images: its classes are taken for "
            "those of the same number here"
        )

    def _unjudged(self, trained_on: DataRecord) -> str:
        """Return a sentence if samples cannot be judged by the class that was asked for, or ""."""
        asked_for = trained_on.label_counts
        if not asked_for or self.places(asked_for, trained_on.class_names) is not None:
            return ""
        known = ", ".join(self.class_names) or f"{self.extractor.classes} without names"
        asked = ", ".join(trained_on.class_names) or f"{trained_on.classes} without names"
        return (
            f"the generator's classes are {asked}, and those of the classifier {known}: whether "
            "samples are of the class that was asked for is not measured"
        )

    def evaluate(
        self, generator: Generator, config: TrainConfig, names: Sequence[str]
    ) -> tuple[Evaluation, np.ndarray]:
        """Return the evaluation of a generator, and Memory's pairs, none of points.  Collective.

        `names` are those of the generator's classes, where they are known.
        """
        begin = time.perf_counter()
        drawn = self._draw(generator, config)
        figures, pairs = self._compare(drawn), np.empty(0)
        places = self.places(generator.label_counts, names)
        if places is not None:
            labels = places[sample_labels(generator, 0, self.samples)]
            figures["agreement"] = classes.agreement(drawn.probabilities, labels)
        if self.memory:
            memorised, pairs = self.memory.compare(drawn.pixels)
            figures |= memorised
        evaluation: Evaluation = {
            "data": self.name,
            "samples": self.samples,
            "real": self.real.count,
            "floor_samples": self.floor_samples,
            "extractor": self.extractor.identity,
            **({"class_names": self.class_names} if self.class_names else {}),
            "figures": figures,
            "floor": self.floor,
            "seconds": time.perf_counter() - begin,
            "time": time.time(),
        }
        return evaluation, pairs

    def _extract(self, images: np.ndarray, rows: np.ndarray | None = None) -> Features:
        """Return the features of images, or of some of their rows; a rank copies its own alone."""

        def compute(first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
            part = slice(first, last)
            return self.extractor.extract(images[part if rows is None else rows[part]])

        return Features(*in_chunks(self.comm, len(images if rows is None else rows), compute))

    def _draw(self, generator: Generator, config: TrainConfig) -> Features:
        def compute(first: int, last: int) -> tuple[np.ndarray, ...]:
            drawn = generate(generator, config, range(first, last))
            kept = drawn[: max(0, memory.COUNT - first)]
            return (*self.extractor.extract(drawn), kept)

        return Features(*in_chunks(self.comm, self.samples, compute))

    def _compare(self, drawn: Features) -> Figures:
        """Return the figures of a set of samples against the test images.  Collective."""
        figures: Figures = {}
        if min(drawn.count, self.real.count, self.floor_samples) >= FEWEST:
            moments = frechet.moments(self.comm, drawn.features)
            figures["frechet"] = frechet.frechet_distance(self.moments, moments)
        own = kernel.mean_kernel(self.comm, drawn.features, Purpose.BOOTSTRAP_FAKE)
        cross = kernel.mean_cross_kernel(self.comm, drawn.features, self.real.features)
        distance, error = kernel.kernel_distance(self.kernel, own, cross)
        figures |= {"kernel": distance, "kernel_error": error}
        figures |= neighbours.compare(self.comm, self.real.features, self.radii, drawn.features)
        if self.shares is not None:
            shares = classes.histogram(drawn.probabilities)
            figures |= {
                "score": classes.classifier_score(drawn.probabilities),
                "histogram": shares.tolist(),
                "missing": classes.missing_modes(shares, self.shares),
                "kl_uniform": classes.divergence_from_uniform(shares),
            }
        return figures


def check_counts(samples: int, train: Dataset, test: Dataset) -> None:
    """Raise UserError unless there is enough of everything for every figure."""
    fewest = min(len(train.images), len(test.images))
    if min(samples, fewest) > neighbours.K:
        return
    option = "--datadir" if fewest <= neighbours.K else "--samples"
    raise UserError(
        f"{option}: {samples} samples, {len(train.images)} training and {len(test.images)} test "
        f"images are too few; every figure needs more than {neighbours.K} of each.",
        exit_code=2,
    )
