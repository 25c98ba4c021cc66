"""Finding and reading the data: files of several layouts, drawn glyphs or points.  No MPI here."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gan_mpi.config.values import RANK
from gan_mpi.datasets import cifar10, classes, cntk_text, idx, npz, packed, pictures
from gan_mpi.datasets.dataset import Dataset, Source, make_dataset
from gan_mpi.datasets.drawn import COUNT, draw_points, read_glyphs
from gan_mpi.datasets.folder import SOUGHT, deeper, has_pictures
from gan_mpi.datasets.packed import Packed, find_packed
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
        if _found(Path(folder), "train") is not None:
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
    dataset, side = _open(source, split, into), source.resolution
    if side in (Source.resolution, *dataset.shape[1:]):
        return dataset
    said = f"--resolution {side} is for folders of pictures, and changes nothing here"
    return replace(dataset, notes=(*dataset.notes, said))


def _open(source: Source, split: str, into: NewFile | None) -> Dataset:
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
    return source.datadir is None or _found(Path(source.datadir), split) is not None


@dataclass(frozen=True)
class Layout:
    """Files of one kind: what people call them, what finds them, and what reads the found."""

    name: str
    find: Callable[[Path, str], Any]  # in a folder, for a split; false if they are not there
    read: Callable[["Split", Any], Dataset]


@dataclass(frozen=True)
class Split:
    """A split of the data in a folder."""

    folder: Path
    source: Source
    kind: str  # train or test
    into: NewFile | None

    @property
    def name(self) -> str:
        """What the data are called: as the folder is, in small letters."""
        letters = self.folder.resolve().name.lower()
        return "".join(c if c.isalnum() else "-" for c in letters) or "data"


def _read_packed(split: Split, found: Packed) -> Dataset:
    where, arrays = str(found.folder), found.arrays()
    return Dataset(split.name, where, *arrays, found.sha256, found.classes, packed=found)


def _read_batches(split: Split, batches: list[Path]) -> Dataset:
    arrays = cifar10.read_batches(batches)
    return make_dataset(split.name, str(batches[0].parent), *arrays, cifar10.CLASSES)


def _read_pictures(split: Split, _: bool) -> Dataset:
    folder, resolution = split.folder, split.source.resolution
    read = pictures.read_pictures(folder, split.kind, resolution, split.into)
    return make_dataset(split.name, str(folder), *read)


def _named(split: Split, path: Path, images: np.ndarray, labels: np.ndarray | None) -> Dataset:
    """Return a data set read from a file, with the names of its classes if they are beside it."""
    names = classes.read_names(path.parent, labels)
    return make_dataset(split.name, str(path), images, labels, names)


def _find_text(folder: Path, split: str) -> Path | None:
    path = folder / cntk_text.FILES[split]
    return path if path.exists() else None


LAYOUTS = (  # the first that is found is read
    Layout("packed data", find_packed, _read_packed),
    Layout(
        "MNIST's files",
        idx.find_images,
        lambda split, path: _named(split, path, *idx.read_images(path, split.kind)),
    ),
    Layout("CIFAR-10's batches", cifar10.find_batches, _read_batches),
    Layout(
        "CNTK's text",
        _find_text,
        lambda split, path: _named(split, path, *cntk_text.read_cached(path)),
    ),
    Layout(
        "a NumPy archive",
        npz.find_archive,
        lambda split, archive: _named(split, archive.path, *npz.read_npz(archive)),
    ),
    Layout("pictures", has_pictures, _read_pictures),
)


def _found(folder: Path, split: str) -> tuple[Layout, Any] | None:
    """Return the layout in which a folder is read, and what was found; None without data."""
    found = ((layout, layout.find(folder, split)) for layout in LAYOUTS)
    return next((each for each in found if each[1]), None)


def _beside(layout: Layout, folder: Path, split: str) -> list[str]:
    """Return the names of later layouts that a folder has too, damaged or not."""
    names = []
    for other in LAYOUTS[LAYOUTS.index(layout) + 1 :]:
        try:
            is_there = bool(other.find(folder, split))
        except UserError:
            is_there = True
        names += [other.name] if is_there else []
    return names


def _holds(folder: Path, split: str) -> bool:
    """Return whether there are data in a folder, damaged or not."""
    try:
        return _found(folder, split) is not None
    except UserError:
        return True


def _read(folder: Path, source: Source, split: str, into: NewFile | None) -> Dataset:
    """Return the data in a folder, with a note on data of other layouts beside them."""
    _require_folder(folder, source.named_by, split)
    found = _found(folder, split)
    if found is None:
        raise _nothing(folder, source.named_by, split)
    layout, what = found
    dataset = layout.read(Split(folder, source, split, into), what)
    others = _beside(layout, folder, split)
    if Path(dataset.source) != folder and Path(dataset.source).is_dir():  # in a folder of its own
        beside = (each for each in folder.iterdir() if each.is_dir() and _holds(each, split))
        others += sorted(
            f"the folder {each.name}" for each in beside if str(each) != dataset.source
        )
    if others:
        said = f"{folder} holds {layout.name}, read, and {' and '.join(others)}, not read"
        return replace(dataset, notes=(*dataset.notes, said))
    return dataset


def _require_folder(folder: Path, named_by: str, split: str) -> None:
    if RANK in str(folder):
        raise UserError(
            f"{named_by}: {folder} names a folder for each site of train --average weights; here "
            "give one folder with data.",
            exit_code=2,
        )
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"{named_by}: {folder} {what}; {_sought(split)}.")


def _nothing(folder: Path, named_by: str, split: str) -> UserError:
    """Return the error of a folder without data of a split."""
    if split == "train" and (below := deeper(folder)):
        return UserError(
            f"{named_by}: {folder} holds no data at its top, but pictures in {below}; give the "
            "folder in which they lie, or in which the folders of their classes lie."
        )
    lacks = "data" if split == "train" else "test images"
    return UserError(f"{named_by}: {folder} holds no {lacks}; {_sought(split)}.")


def _sought(split: str) -> str:
    return (
        f"sought were {idx.IMAGES[split]} (with or without .gz; {idx.LABELS[split]} beside it is "
        f"optional), {cntk_text.FILES[split]}, {cifar10.SOUGHT[split]}, {npz.FILES[split]}, "
        f"{packed.FILE} and {'' if split == 'train' else 'in a folder test/, '}{SOUGHT}"
    )
