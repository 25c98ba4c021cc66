"""A data set, and where it comes from."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gan_mpi.config.running import RunConfig
from gan_mpi.datasets.packed import Packed
from gan_mpi.errors import UserError


@dataclass(frozen=True)
class Source:
    """Where data come from: a folder, or so many drawn glyphs, or, with neither, points."""

    datadir: str | None = None
    glyphs: int | None = None
    named_by: str = "--datadir"  # what a user wrote the folder behind
    resolution: int = RunConfig.resolution  # of pictures, pixels a side


@dataclass(frozen=True)
class Dataset:
    """Images, uint8 0..255 (N, C, H, W), or points, float32 (N, d); and labels, uint8 (N,)."""

    name: str
    source: str
    images: np.ndarray
    labels: np.ndarray | None
    sha256: str  # of images and labels
    classes: tuple[str, ...] = ()  # names, in the order of the labels, where they are known
    notes: tuple[str, ...] = ()  # what people should know of how it was read
    packed: Packed | None = None  # where arrays are maps of files

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image, or (d,) of a point."""
        return self.images.shape[1:]

    @cached_property
    def images_sha256(self) -> str:
        """SHA-256 of the images alone, by which their classifier is found; reckoned once."""
        if self.packed is not None:
            return self.packed.images_sha256
        return hashlib.sha256(np.ascontiguousarray(self.images).data).hexdigest()


def make_dataset(
    name: str,
    source: str,
    images: np.ndarray,
    labels: np.ndarray | None,
    classes: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Dataset:
    """Return images or points (N, ...) and labels (N,) as a data set, with their SHA-256."""
    images = np.ascontiguousarray(images)
    digest = hashlib.sha256(images.data)
    if labels is not None:
        digest.update(labels.data)
    found = digest.hexdigest()
    return Dataset(name, source, images, labels, found, tuple(classes), tuple(notes))


def with_classes(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """Return a data set whose labels are places in `names`, among which are all of its own."""
    if dataset.labels is None or tuple(names) == dataset.classes:
        return dataset
    places = np.array([names.index(name) for name in dataset.classes], np.uint8)
    return replace(dataset, labels=places[dataset.labels], classes=tuple(names))


def like_training(train: Dataset, test: Dataset) -> Dataset:
    """Return test images as the training images are: grey ones in colour, or the other way.

    A folder of pictures is grey if all of one split are.  Raises UserError for other shapes, and
    for colours where training images have none.
    """
    if test.shape[1:] == train.shape[1:] and len(train.shape) == 3:
        if (test.shape[0], train.shape[0]) == (1, 3):
            return replace(test, images=np.repeat(test.images, 3, axis=1))
        if (test.shape[0], train.shape[0]) == (3, 1) and _is_grey(test.images):
            return replace(test, images=np.ascontiguousarray(test.images[:, :1]))
    if test.shape != train.shape:
        raise UserError(
            f"--datadir: {test.source} holds test images of {'x'.join(map(str, test.shape))}, and "
            f"the training images are of {'x'.join(map(str, train.shape))}.",
            exit_code=2,
        )
    return test


def _is_grey(images: np.ndarray) -> bool:
    return bool((images[:, :1] == images).all())
