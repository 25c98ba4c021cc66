"""NumPy archives of images and labels: our own, MedMNIST's and Keras's, and those of the cache.

An archive is believed only where its headers, its members' sizes and its bytes agree, so that what
a damaged one promises costs no memory.
"""

import io
import math
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from gan_mpi.arrays import Array
from gan_mpi.errors import UserError, reason
from gan_mpi.files import cache_folder, read_up_to, write_aside

FILES = {"train": "train.npz", "test": "test.npz"}
# Names of the arrays in a file of one split, and of both: MedMNIST's, then Keras's.
IMAGES = {"train": ("train_images", "x_train"), "test": ("test_images", "x_test")}
LABELS = {"train": ("train_labels", "y_train"), "test": ("test_labels", "y_test")}
Arrays = tuple[np.ndarray, np.ndarray | None]  # images and labels
OWN = "images", "labels"
MOST_PACKED = 1040  # times that deflate can make bytes fewer, and some


@dataclass(frozen=True)
class Archive:
    """A file, and the names of the arrays in it that hold a split; no labels if None."""

    path: Path
    images: str
    labels: str | None


def find_archive(folder: Path, split: str = "train") -> Archive | None:
    """Return where a folder holds a split: in train.npz or test.npz, or in its one other archive.

    None if there is no such file, or the one other holds no such arrays.  Raises UserError if it
    cannot be read.
    """
    own = folder / FILES[split]
    if own.exists():
        return _archive(own, (OWN[0], *IMAGES[split]), (OWN[1], *LABELS[split])) or Archive(
            own, *OWN
        )
    others = [path for path in sorted(folder.glob("*.npz")) if path.name not in FILES.values()]
    return _archive(others[0], IMAGES[split], LABELS[split]) if len(others) == 1 else None


def _archive(path: Path, images: tuple[str, ...], labels: tuple[str, ...]) -> Archive | None:
    with _opened(path) as file:
        names = _names(file)
    found = next((name for name in images if name in names), None)
    of_labels = next((name for name in labels if name in names), None)
    return None if found is None else Archive(path, found, of_labels)


def read_npz(archive: Archive) -> tuple[np.ndarray, np.ndarray | None]:
    """Return images, uint8 (N, C, H, W), and labels, uint8 (N,), or None without labels.

    The images are uint8 (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3, and the labels
    integers 0 to 255, (N,) or (N, 1).  No other array is read.  Raises UserError, naming the file
    and what is wrong with it.
    """
    path = archive.path
    with _opened(path) as file:
        if archive.images not in _names(file):
            found = ", ".join(_names(file)) or "nothing"
            raise UserError(f"{path} has no array '{archive.images}'; it has {found}.")
        images = _with_channels(path, _array(path, file, archive.images))
        if archive.labels is None or archive.labels not in _names(file):
            return images, None
        labels = _array(path, file, archive.labels)
    if labels.shape == (len(images), 1):
        labels = labels[:, 0]
    if labels.shape != (len(images),):
        shape = "x".join(map(str, labels.shape))
        raise UserError(f"{path} has {shape} labels for {len(images)} images.")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 255:
        raise UserError(f"{path}: its labels are not integers in 0..255.")
    return images, labels.astype(np.uint8)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive.  Raises UserError, naming the file, whatever goes wrong while it is open."""
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise UserError(f"{path} is truncated or no NumPy archive.")
            with zipfile.ZipFile(file) as archive:
                yield archive
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}.") from None
    except Exception as error:  # noqa: BLE001 - zipfile and numpy raise some ten kinds
        raise UserError(f"{path} is damaged: {error or type(error).__name__}.") from None


def _names(file: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in file.namelist()]


def _array(path: Path, file: zipfile.ZipFile, name: str) -> np.ndarray:
    """Return an array of numbers, of which the header promises what there is."""
    member = next(each for each in file.infolist() if each.filename.removesuffix(".npy") == name)
    if member.file_size > MOST_PACKED * max(1, member.compress_size):
        raise UserError(f"{path} is damaged: '{name}' has a size that it cannot have.")
    with file.open(member) as content:
        version = npy.read_magic(content)
        if version not in ((1, 0), (2, 0)):
            raise UserError(f"{path}: '{name}' is an array of a format that is not read.")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, by_column, dtype = read(content)
        if dtype.hasobject:
            raise UserError(
                f"{path} holds Python objects, which could run anything and are not read; save "
                "arrays of numbers of one shape: np.savez('train.npz', images=..., labels=...)."
            )
        size = math.prod(shape) * dtype.itemsize
        if size > member.file_size:
            raise UserError(
                f"{path} is damaged: '{name}' promises {size} bytes, and has {member.file_size}."
            )
        data = read_up_to(content, size)
        content.read(1)  # the end, at which zipfile checks the sum
    return np.ndarray(shape, dtype, data, order="F" if by_column else "C")


def _with_channels(path: Path, images: np.ndarray) -> np.ndarray:
    shape = "x".join(map(str, images.shape))
    if images.dtype != np.uint8:
        raise UserError(f"{path}: its images are {images.dtype}, not uint8 0..255.")
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.size:
        raise UserError(
            f"{path}: its images are {shape}, and should be (N, H, W), (N, H, W, 3) or (N, 3, H, "
            "W)."
        )
    # Contiguous, and with strides of its own: others let torch choose other kernels.
    return np.ascontiguousarray(images).reshape(images.shape)


def bytes_of(images: np.ndarray, labels: np.ndarray | None) -> bytes:
    """Return the archive of images, uint8 (N, C, H, W), and labels, uint8 (N,), if any."""
    arrays = {"images": images} if labels is None else {"images": images, "labels": labels}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def cached(name: str, stamp: Array, make: Callable[[], Arrays]) -> Arrays:
    """Return what make() does, from a file of the cache that has this stamp if there is one.

    The file is written aside and renamed, so that ranks and jobs may write it at once; where it
    cannot be read or written, the arrays are made again.
    """
    folder = cache_folder()
    if folder is None:
        return make()
    file = folder / f"{name}.npz"
    found = _load_cached(file, stamp)
    if found is None:
        found = make()
        _save_cached(file, stamp, *found)
    return found


def _load_cached(path: Path, stamp: Array) -> Arrays | None:
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            if not np.array_equal(arrays["stamp"], stamp):
                return None
            return arrays["images"], arrays.get("labels")
    except Exception:  # noqa: BLE001 - whatever is wrong with it, the arrays can be made
        return None


def _save_cached(path: Path, stamp: Array, images: np.ndarray, labels: np.ndarray | None) -> None:
    arrays = {"stamp": stamp, "images": images}
    if labels is not None:
        arrays["labels"] = labels
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_aside(path, buffer.getvalue())
    except (OSError, UserError):
        return  # then they are made again next time
