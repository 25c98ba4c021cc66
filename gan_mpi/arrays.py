"""Types of numpy arrays and of what they hold, without Any, and rows of arrays that may be maps."""

import mmap
from contextlib import suppress

import numpy as np

DType = np.dtype[np.generic]
Array = np.ndarray[tuple[int, ...], DType]
ROWS = 16  # of a map, each of whose pages may have 2 MB, that are looked at before they are let go
AT_ONCE = 1 << 17  # bytes that Linux reads ahead for one piece of advice, at least


def take(array: Array, rows: Array) -> Array:
    """Return a copy of some rows of an array, which may be a map.

    The pages of a map that were looked at do not go on counting as memory of this process; the
    operating system keeps them, for all processes, as long as it has room.
    """
    base = map_of(array)
    if base is None:
        return array[rows]
    taken = np.empty((len(rows), *array.shape[1:]), array.dtype)
    for first in range(0, len(rows), ROWS):
        some = slice(first, first + ROWS)
        taken[some] = array[rows[some]]
        base.madvise(mmap.MADV_DONTNEED)
    return taken


def read_ahead(array: Array, rows: Array) -> None:
    """Let the system read some rows of a map that take() will want, while other work goes on."""
    base = map_of(array)
    if base is None:
        return
    size = array.strides[0]
    begin = array.ctypes.data - np.frombuffer(base, np.uint8).ctypes.data
    with suppress(OSError):  # of a file system that takes no advice
        for row in rows.tolist():
            first, end = begin + row * size, begin + (row + 1) * size
            for page in range(first - first % mmap.PAGESIZE, end, AT_ONCE):
                base.madvise(mmap.MADV_WILLNEED, page, min(AT_ONCE, end - page))


class SharedMemory(mmap.mmap):
    """Memory that processes share, and that no file keeps: a map, but nothing to read again."""


def map_of(array: Array) -> mmap.mmap | None:
    """Return the map of a file that an array is a view of, None if it is in memory."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and not isinstance(base, SharedMemory):
        return base
    return None
