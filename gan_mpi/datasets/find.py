"""Finding and reading the data: files of several layouts, drawn glyphs or points.  No MPI here."""

from pathlib import Path

import numpy as np

from gan_mpi.config.values import RANK
from gan_mpi.datasets import cifar10, classes, cntk_text, idx, npz, packed, pictures
from gan_mpi.datasets.dataset import Dataset, Source, make_dataset
from gan_mpi.datasets.drawn import COUNT, draw_points, read_glyphs
from gan_mpi.datasets.folder import SOUGHT, deeper, has_pictures
from gan_mpi.errors import UserError
from gan_mpi.files import NewFile

# Where each data set is looked for, and the shape of one sample.
FOLDERS = {
    "mnist": ("data/MNIST",),
    # The second is where Debian's package dataset-fashion-mnist puts it.
    "fashion-mnist": ("data/FashionMNIST", "/usr/share/datasets/fashion-mnist"),
    "cifar10": ("data/CIFAR-10",),
}
SHAPES = {
    "mnist": (1, 28, 28),
    "fashion-mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
    "uniform": (2,),
}
DRAWN_TEST = 10_000  # glyphs or points of a test set
FIRST_TEST_GLYPH = 10**9  # beyond those that anybody trains on


def find_source(dataset: str, datadir: str | None, glyphs: int | None, drawn: int) -> Source:
    """Return where to read: what is given, else the folders of `dataset`, else drawn glyphs.

    `drawn` is how many glyphs stand in for MNIST.  Raises UserError.
    """
    if dataset == "uniform":
        if datadir is not None or glyphs is not None:
            raise UserError(
                "--dataset uniform draws its points; leave out --datadir and --glyphs.",
                exit_code=2,
            )
        return Source()
    if datadir is not None or glyphs is not None:
        return Source(datadir, glyphs)
    for folder in FOLDERS[dataset]:
        if _finds_data(Path(folder)):
            return Source(folder)
    if dataset == "mnist":
        return Source(glyphs=drawn)
    raise UserError(
        f"--dataset {dataset}: there is none in {' or '.join(FOLDERS[dataset])}; give its folder "
        f"with --datadir, or get it with: gan-mpi data download {dataset}"
    )


def load_dataset(source: Source, split: str = "train", into: NewFile | None = None) -> Dataset:
    """Read the training or test images of a folder, or draw glyphs or points.

    `split` is train or test.  `into` makes a file for images that are read one by one, which may be
    more than there is memory for.  Raises UserError, naming the file and what is wrong with it.
    """
    dataset = open_dataset(source, split, into)
    if dataset.packed is not None:
        packed.require_checked(dataset.packed)
    return dataset


def open_dataset(source: Source, split: str = "train", into: NewFile | None = None) -> Dataset:
    """Return what load_dataset() does, a packed data set unchecked.  Raises UserError."""
    if source.datadir is not None:
        return _read(Path(source.datadir), source, split, into)
    is_test = split == "test"
    if source.glyphs is not None:
        count = DRAWN_TEST if is_test else source.glyphs
        images, labels = read_glyphs(count, FIRST_TEST_GLYPH if is_test else 0)
        return make_dataset("glyphs", f"{count} drawn glyphs", images, labels)
    drawn = draw_points(DRAWN_TEST, COUNT) if is_test else draw_points()
    return make_dataset("uniform", "the unit square", drawn, None)


def has_split(source: Source, split: str) -> bool:
    """Return whether a source has training or test images at all."""
    return source.datadir is None or _finds_data(Path(source.datadir), split)


def _finds_data(folder: Path, split: str = "train") -> bool:
    return (
        packed.find_packed(folder, split) is not None
        or idx.find_images(folder, split) is not None
        or (folder / cntk_text.FILES[split]).exists()
        or bool(cifar10.find_batches(folder, split))
        or npz.find_archive(folder, split) is not None
        or has_pictures(folder, split)
    )


def _read(folder: Path, source: Source, split: str, into: NewFile | None) -> Dataset:
    named_by = source.named_by
    if RANK in str(folder):
        raise UserError(
            f"{named_by}: {folder} names a folder for each site of train --average weights; here "
            "give one folder with data.",
            exit_code=2,
        )
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"{named_by}: {folder} {what}; {_sought(split)}.")
    if not _finds_data(folder, split):
        lacks = "data" if split == "train" else "test images"
        if below := deeper(folder) if split == "train" else None:
            raise UserError(
                f"{named_by}: {folder} holds no data at its top, but pictures in {below}; give the "
                "folder in which they lie, or in which the folders of their classes lie."
            )
        raise UserError(f"{named_by}: {folder} holds no {lacks}; {_sought(split)}.")
    name = "".join(c if c.isalnum() else "-" for c in folder.resolve().name.lower()) or "data"
    if found := packed.find_packed(folder, split):
        return Dataset(
            name, str(found.folder), *found.arrays(), found.sha256, found.classes, packed=found
        )
    images_file = idx.find_images(folder, split)
    if images_file is not None:
        images, labels = idx.read_images(images_file, split)
        return _named(name, images_file, images, labels)
    if batches := cifar10.find_batches(folder, split):
        images, labels = cifar10.read_batches(batches)
        where = str(batches[0].parent)
        return make_dataset(name, where, images, labels, cifar10.CLASSES)
    text_file = folder / cntk_text.FILES[split]
    if text_file.exists():
        return _named(name, text_file, *cntk_text.read_cached(text_file))
    if archive := npz.find_archive(folder, split):
        return _named(name, archive.path, *npz.read_npz(archive))
    read = pictures.read_pictures(folder, split, source.resolution, into)
    return make_dataset(name, str(folder), *read)


def _named(name: str, path: Path, images: np.ndarray, labels: np.ndarray | None) -> Dataset:
    """Return a data set read from a file, with the names of its classes if they are beside it."""
    return make_dataset(name, str(path), images, labels, classes.read_names(path.parent, labels))


def _sought(split: str) -> str:
    return (
        f"sought were {idx.IMAGES[split]} (with or without .gz; {idx.LABELS[split]} beside it is "
        f"optional), {cntk_text.FILES[split]}, {cifar10.SOUGHT[split]}, {npz.FILES[split]}, "
        f"{packed.FILE} and {SOUGHT}"
    )
