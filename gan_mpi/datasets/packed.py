"""The packed layout: arrays that are mapped into memory and not read, and digests of their parts.

    DIR/packed.json         what there is of each split, the names of classes, the digests
    DIR/train/images.npy    uint8 (N, C, H, W)
    DIR/train/labels.npy    uint8 (N,), if there are labels
    DIR/test/...            likewise, if there are test images

All processes of a node share what the operating system keeps of the files, so that a set may be
larger than memory, and a start takes hardly longer for more of it.
"""

import hashlib
import io
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.lib import format as npy

from gan_mpi.arrays import Array
from gan_mpi.config.values import composed
from gan_mpi.datasets import classes
from gan_mpi.errors import UserError, reason
from gan_mpi.files import AT_ONCE, cache_folder, write_aside

FILE = "packed.json"
FORMAT = 1
PART = 64 << 20  # bytes of images with a digest of their own
MOST = 16 << 20  # bytes of packed.json: digests of 15 TB of images
HEADER = 128  # bytes of an .npy file before its numbers


@dataclass(frozen=True)
class Memory:
    """A file in the cache that remembers files by their sizes and times, which others have not."""

    path: Path
    text: str

    def is_there(self) -> bool:
        """Return whether the cache has it."""
        try:
            return self.path.is_file()
        except OSError:
            return False

    def keep(self) -> None:
        """Write it, if the cache can be written."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_aside(self.path, self.text.encode())
        except (OSError, UserError):
            return  # then they are checked again next time


@dataclass(frozen=True)
class Packed:
    """A split in its folder: what packed.json says of it."""

    folder: Path
    shape: tuple[int, ...]  # of the images, (N, C, H, W)
    sha256: str  # of images and labels
    images_sha256: str
    parts: tuple[str, ...]  # SHA-256 of each PART bytes of the images
    labels_sha256: str | None  # None without labels
    classes: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of the images."""
        return math.prod(self.shape)

    def arrays(self) -> tuple[Array, Array | None]:
        """Return the images, uint8 (N, C, H, W), and labels, uint8 (N,) or None; read-only maps.

        Raises UserError if they are not what packed.json says.
        """
        images = _mapped(self._images, self.shape)
        if self.labels_sha256 is None:
            return images, None
        labels = _mapped(self._labels, self.shape[:1])
        if self.classes and int(labels.max()) >= len(self.classes):
            raise UserError(
                f"{self.folder.parent / FILE} names {len(self.classes)} classes, and a label is "
                f"{labels.max()}; pack the data again."
            )
        return images, labels

    def check(self, share: int = 0, shares: int = 1) -> None:
        """Compare every `shares`-th part, from number `share` on, with its digest.

        The first also compares the labels.  Raises UserError.
        """
        for number in range(share, len(self.parts), shares):
            first = number * PART
            found = _digest(_bytes_of(self._images, first, min(PART, self.size - first)))
            if found != self.parts[number]:
                last = min(first + PART, self.size)
                raise self._damaged(self._images, f"its pixels {first} to {last - 1}")
        if share or self.labels_sha256 is None:
            return
        if _digest(_bytes_of(self._labels, 0, self.shape[0])) != self.labels_sha256:
            raise self._damaged(self._labels, "its labels")

    def memory(self) -> "Memory | None":
        """Return where this user's cache remembers that these very files were checked.

        None for a user without a cache, and for files that cannot be looked at.
        """
        folder = cache_folder()
        if folder is None:
            return None
        about: list[Any] = [str(self.folder.resolve()), self.sha256]
        try:
            for path in (self._images, self._labels)[: 1 if self.labels_sha256 is None else 2]:
                status = path.stat()
                about.append([status.st_ino, status.st_size, status.st_mtime_ns])
        except OSError:
            return None
        text = json.dumps(about)
        name = f"checked-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
        return Memory(folder / name, text)

    @property
    def _images(self) -> Path:
        return self.folder / "images.npy"

    @property
    def _labels(self) -> Path:
        return self.folder / "labels.npy"

    def _damaged(self, path: Path, what: str) -> UserError:
        return UserError(
            f"{path} is damaged: {what} are not those that were packed; copy or pack it again."
        )


def require_checked(packed: Packed) -> None:
    """Check all of a split, unless the cache remembers that.  Raises UserError."""
    memory = packed.memory()  # of the files as they are before they are read
    if memory is not None and memory.is_there():
        return
    packed.check()
    if memory is not None:
        memory.keep()


def find_packed(folder: Path, split: str = "train") -> Packed | None:
    """Return a split that a folder holds packed, None if it holds none.

    Raises UserError, naming packed.json and what is wrong with it.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            text = file.read(MOST + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}.") from None
    try:
        record = json.loads(text[:MOST])
        if record["format"] != FORMAT:
            found = str(record["format"])[:20]
            raise UserError(f"{path} is of format {found}, and this gan-mpi reads {FORMAT}.")
        return _packed(folder / split, record[split], record) if split in record else None
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        raise UserError(f"{path} is damaged; pack the data again.") from None


def _packed(folder: Path, found: dict[str, Any], record: dict[str, Any]) -> Packed:
    """Return what is written of a split.

    Raises KeyError, TypeError, ValueError or OverflowError.
    """
    shape = tuple(int(size) for size in found["images"])
    names = tuple(composed(str(name)) for name in record["classes"])
    if len(classes.bytes_of(names).splitlines()) != len(set(names) - {""}):
        raise ValueError("names of classes are not lines that differ")
    has_labels = found["labels"] is not None
    packed = Packed(
        folder,
        shape,
        str(found["sha256"]),
        str(found["images_sha256"]),
        tuple(str(digest) for digest in found["parts"]),
        str(found["labels"]) if has_labels else None,
        names if has_labels else (),
    )
    right = len(shape) == 4 and min(shape) > 0 and shape[1] in (1, 3)
    if not right or len(packed.parts) != -(-packed.size // PART) or len(names) > classes.MOST:
        raise ValueError("a shape or a number that cannot be")
    return packed


def _mapped(path: Path, shape: tuple[int, ...]) -> Array:
    """Return a read-only map of an .npy file of bytes in this shape."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        whole = path.stat().st_size == HEADER + math.prod(shape)
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}.") from None
    except Exception:  # noqa: BLE001 - numpy raises several kinds for what is no array
        array, whole = None, False
    if not whole or array is None or (array.dtype, array.shape) != (np.uint8, shape):
        sizes = "x".join(map(str, shape))
        raise UserError(
            f"{path} is truncated or damaged: it should hold {sizes} bytes, as {FILE} says; copy "
            "or pack it again."
        )
    return np.asarray(array)


def _bytes_of(path: Path, first: int, count: int) -> Iterator[bytes]:
    """Yield so many numbers of an .npy file, from number `first` on, in pieces."""
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(HEADER + first)
            while count and (piece := file.read(min(AT_ONCE, count))):
                count -= len(piece)
                yield piece
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}.") from None


def _digest(pieces: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


class NewArray:
    """An .npy file of bytes, and its folder, that are made when they are needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def open(self) -> IO[bytes]:
        """Return the file, at the place of the first number unless some are written."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w+b")
            self._file.write(bytes(HEADER))
        return self._file

    def finish(self, array: Array) -> None:
        """Write an array (N, ...), unless its numbers are in the file already, and its header."""
        file = self.open()
        if file.tell() == HEADER:
            flat = array.reshape(-1)
            for first in range(0, flat.size, PART):
                file.write(flat[first : first + PART].data)
        about = {"descr": "|u1", "fortran_order": False, "shape": array.shape}
        header = io.BytesIO()
        npy.write_array_header_1_0(header, about)
        assert len(header.getvalue()) == HEADER
        file.seek(0)
        file.write(header.getvalue())
        file.flush()
        os.fsync(file.fileno())


def description(images: Array, labels: Array | None, sha256: str) -> dict[str, Any]:
    """Return what packed.json says of images (N, C, H, W) and labels (N,) with their SHA-256."""
    flat, whole, parts = images.reshape(-1), hashlib.sha256(), []
    for first in range(0, flat.size, PART):
        part = flat[first : first + PART].data
        whole.update(part)
        parts.append(_digest([part]))
    return {
        "images": list(images.shape),
        "sha256": sha256,
        "images_sha256": whole.hexdigest(),
        "labels": None if labels is None else _digest([labels.data]),
        "parts": parts,
    }


def bytes_of(splits: dict[str, dict[str, Any]], names: tuple[str, ...]) -> bytes:
    """Return packed.json of these descriptions by split, and of the names of classes."""
    return json.dumps({"format": FORMAT, "classes": names, **splits}, indent=1).encode()
