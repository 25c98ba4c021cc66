"""The IDX files of MNIST and its relatives, compressed or not."""

import math
from pathlib import Path

import numpy as np

from gan_mpi.errors import UserError
from gan_mpi.files import read_up_to, unpacked

IMAGES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
LABELS = {"train": "train-labels-idx1-ubyte", "test": "t10k-labels-idx1-ubyte"}
UINT8 = 0x08
SIDE = 28  # pixels


FOLDERS = ("", "raw", "MNIST/raw")  # the last two are where torchvision puts them


def _beside(folder: Path, name: str) -> Path | None:
    """Return the file of this name as people have it: unpacked by others, or still compressed.

    7-Zip writes a dot for the last hyphen but one, and Kaggle a folder of the file's name.
    """
    names = [n + ending for n in (name, name.replace("-idx", ".idx")) for ending in ("", ".gz")]
    candidates = [folder / n for n in names] + [folder / a / b for a in names for b in names]
    return next((path for path in candidates if path.is_file()), None)


def find_images(folder: Path, split: str = "train") -> Path | None:
    """Return the file of training or test images in a folder, None if there is none."""
    found = (_beside(folder / inside, IMAGES[split]) for inside in FOLDERS)
    return next((path for path in found if path), None)


def _find_labels(images_file: Path, split: str) -> Path | None:
    """Return the file of labels beside that of images, or beside the folder of its name."""
    folder = images_file.parent
    beside = _beside(folder, LABELS[split])
    if beside is None and folder.name.startswith(IMAGES[split][:12]):
        return _beside(folder.parent, LABELS[split])
    return beside


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
    labels_file = _find_labels(path, split)
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
    header = 4 + 4 * dimensions
    with unpacked(path) as file:
        head = read_up_to(file, header)
        if len(head) < header:
            raise UserError(f"{path} is truncated: {len(head)} bytes, less than its header.")
        magic, expected = int.from_bytes(head[:4], "big"), UINT8 << 8 | dimensions
        if magic != expected:
            raise UserError(
                f"{path} is not an IDX file of unsigned bytes in {dimensions} dimension(s): its "
                f"magic number is 0x{magic:08x}, not 0x{expected:08x}."
            )
        shape = tuple(int(n) for n in np.frombuffer(head, ">u4", dimensions, offset=4))
        elements = math.prod(shape)
        data = read_up_to(file, elements + 1)  # what a header promises, and no more
    if len(data) != elements:
        sizes, found = "x".join(map(str, shape)), f"{len(data)} bytes"
        what = "truncated" if len(data) < elements else "too long"
        if len(data) > elements:
            found = f"more than {elements} bytes"
        raise UserError(f"{path} is {what}: {found} of data for {sizes} = {elements}.")
    return np.frombuffer(data, np.uint8).reshape(shape)


def bytes_of(array: np.ndarray) -> bytes:
    """Return the IDX file of an array of unsigned bytes."""
    header = bytes([0, 0, UINT8, array.ndim])
    header += b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()
