"""Types of numpy arrays and of what they hold, without Any, and rows of arrays that may be maps."""

import mmap

import numpy as np

DType = np.dtype[np.generic]
Array = np.ndarray[tuple[int, ...], DType]
ROWS = 16  # of a map, each of whose pages may have 2 MB, that are looked at before they are let go


def take(array: Array, rows: Array) -> Array:
    """Return a copy of some rows of an array, which may be a map.

    The pages of a map that were looked at do not go on counting as memory of this process; the
    operating system keeps them, for all processes, as long as it has room.
    """
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, mmap.mmap):
        return array[rows]
    taken = np.empty((len(rows), *array.shape[1:]), array.dtype)
    for first in range(0, len(rows), ROWS):
        some = slice(first, first + ROWS)
        taken[some] = array[rows[some]]
        base.madvise(mmap.MADV_DONTNEED)
    return taken
