"""Finding and reading the data: IDX files, CNTK text, or drawn glyphs.  No MPI here."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gan_mpi.datasets import cntk_text, idx
from gan_mpi.datasets.glyphs import draw_glyphs
from gan_mpi.errors import UserError

DEFAULT_FOLDER = Path("data/MNIST")


@dataclass(frozen=True)
class Dataset:
    """Images, uint8 0..255 of shape (N, C, H, W), and labels, uint8 of shape (N,), if any."""

    name: str
    source: str
    images: np.ndarray
    labels: np.ndarray | None
    sha256: str

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.images.shape[1:]


def load_dataset(datadir: str | None, glyphs: int) -> Dataset:
    """Read the training images of `datadir`, or draw `glyphs` digits if it is None.

    Raises UserError, naming the file and what is wrong with it.
    """
    if datadir is not None:
        return _read(Path(datadir))
    images, labels = draw_glyphs(glyphs)
    return _dataset("glyphs", f"{glyphs} drawn glyphs", images, labels)


def default_datadir() -> str | None:
    """Return the folder that is read when none is named, None if it holds no data."""
    return str(DEFAULT_FOLDER) if _finds_data(DEFAULT_FOLDER) else None


def _finds_data(folder: Path) -> bool:
    return (
        idx.find_images(folder) is not None or (folder / cntk_text.TRAIN_FILE).exists()
    )


def _read(folder: Path) -> Dataset:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"--datadir: {folder} {what}; {_sought()}.")
    if not _finds_data(folder):
        raise UserError(f"--datadir: {folder} holds no data; {_sought()}.")
    name = (
        "".join(c if c.isalnum() else "-" for c in folder.resolve().name.lower())
        or "data"
    )
    images_file = idx.find_images(folder)
    if images_file is not None:
        images, labels = idx.read_training_images(images_file)
        return _dataset(name, str(images_file), images, labels)
    text_file = folder / cntk_text.TRAIN_FILE
    images, labels = cntk_text.read_cached(text_file)
    return _dataset(name, str(text_file), images, labels)


def _sought() -> str:
    return (
        f"sought were {idx.IMAGES} (with or without .gz; {idx.LABELS} beside it is optional) "
        f"and {cntk_text.TRAIN_FILE}"
    )


def _dataset(
    name: str, source: str, images: np.ndarray, labels: np.ndarray | None
) -> Dataset:
    digest = hashlib.sha256(images.data)
    if labels is not None:
        digest.update(labels.data)
    return Dataset(name, source, images, labels, digest.hexdigest())
