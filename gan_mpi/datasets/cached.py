"""Arrays that take long to make, kept in this user's cache."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gan_mpi.arrays import Array
from gan_mpi.errors import UserError
from gan_mpi.files import cache_folder, write_aside

Arrays = tuple[np.ndarray, np.ndarray | None]  # images and labels


def cached(name: str, stamp: Array, make: Callable[[], Arrays]) -> Arrays:
    """Return what make() does, from a file of the cache that has this stamp if there is one.

    The file is written aside and renamed, so that ranks and jobs may write it at once; where it
    cannot be read or written, the arrays are made again.
    """
    folder = cache_folder()
    if folder is None:
        return make()
    file = folder / f"{name}.npz"
    found = _load(file, stamp)
    if found is None:
        found = make()
        _save(file, stamp, *found)
    return found


def _load(path: Path, stamp: Array) -> Arrays | None:
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            if not np.array_equal(arrays["stamp"], stamp):
                return None
            return arrays["images"], arrays.get("labels")
    except Exception:  # noqa: BLE001 - whatever is wrong with it, the arrays can be made
        return None


def _save(path: Path, stamp: Array, images: np.ndarray, labels: np.ndarray | None) -> None:
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
