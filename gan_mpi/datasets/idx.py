"""The IDX files of MNIST and its relatives, compressed or not."""

import gzip
import zlib
from pathlib import Path

import numpy as np

from gan_mpi.errors import UserError, reason

IMAGES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
LABELS = {"train": "train-labels-idx1-ubyte", "test": "t10k-labels-idx1-ubyte"}
UINT8 = 0x08
SIDE = 28  # pixels


def _beside(folder: Path, name: str) -> Path | None:
    candidates = (folder / (name + ending) for ending in ("", ".gz"))
    return next((path for path in candidates if path.exists()), None)


def find_images(folder: Path, split: str = "train") -> Path | None:
    """Return the file of training or test images in a folder, None if there is none."""
    return _beside(folder, IMAGES[split])


def read_images(path: Path, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return images, uint8 (N, 1, 28, 28), and labels, uint8 (N,), if their file is beside.

    Raises UserError, naming the file and what is wrong with it.
    """
    images = read_idx(path, dimensions=3)
    if images.shape[1:] != (SIDE, SIDE):
        height, width = images.shape[1:]
        raise UserError(f"{path} holds images of {height}x{width} pixels, not of {SIDE}x{SIDE}.")
    if not len(images):
        raise UserError(f"{path} holds no images.")
    # Not images[:, None]: its strides let torch choose other kernels, with other last digits.
    images = images.reshape(-1, 1, SIDE, SIDE)
    labels_file = _beside(path.parent, LABELS[split])
    if labels_file is None:
        return images, None
    labels = read_idx(labels_file, dimensions=1)
    if len(labels) != len(images):
        raise UserError(f"{labels_file} holds {len(labels)} labels for {len(images)} images.")
    return images, labels


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Return the array of unsigned bytes in an IDX file, which must have so many dimensions.

    Source of the format: the MNIST database's page.  0, 0, type, number of dimensions; each
    dimension as a big-endian 32-bit number; the elements.
    """
    data = _read_bytes(path)
    header = 4 + 4 * dimensions
    magic = int.from_bytes(data[:4], "big")
    expected = UINT8 << 8 | dimensions
    if len(data) < header:
        raise UserError(f"{path} is truncated: {len(data)} bytes, less than its header.")
    if magic != expected:
        raise UserError(
            f"{path} is not an IDX file of unsigned bytes in {dimensions} dimension(s): its magic "
            f"number is 0x{magic:08x}, not 0x{expected:08x}."
        )
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", dimensions, offset=4))
    elements = int(np.prod([int(n) for n in shape], dtype=object))
    found = len(data) - header
    if found != elements:
        what = "truncated" if found < elements else "too long"
        sizes = "x".join(map(str, shape))
        raise UserError(f"{path} is {what}: {found} bytes of data for {sizes} = {elements}.")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def bytes_of(array: np.ndarray) -> bytes:
    """Return the IDX file of an array of unsigned bytes."""
    header = bytes([0, 0, UINT8, array.ndim])
    header += b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except OSError as error:  # gzip.BadGzipFile is one, without a strerror
        why = f"is not a gzip file: {error}" if error.errno is None else reason(error)
        raise UserError(f"cannot read {path}: {why}.") from None
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path} is truncated or damaged: {error}.") from None
