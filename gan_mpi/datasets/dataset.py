"""A data set, and where it comes from."""

import hashlib
from dataclasses import dataclass

import numpy as np

from gan_mpi.config.running import RunConfig


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
    sha256: str

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image, or (d,) of a point."""
        return self.images.shape[1:]


def make_dataset(name: str, source: str, images: np.ndarray, labels: np.ndarray | None) -> Dataset:
    """Return images or points (N, ...) and labels (N,) as a data set, with their SHA-256."""
    images = np.ascontiguousarray(images)
    digest = hashlib.sha256(images.data)
    if labels is not None:
        digest.update(labels.data)
    return Dataset(name, source, images, labels, digest.hexdigest())
