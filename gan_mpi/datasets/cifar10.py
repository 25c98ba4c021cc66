"""CIFAR-10 in its two layouts: binary records, and Python pickles read without running them.

Source of both: Krizhevsky's page of the data set.
"""

import io
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any

import numpy as np

from gan_mpi.errors import UserError, reason

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
NOT_IN_BATCHES = (
    *("DUP", "PERSID", "BINPERSID", "INST", "OBJ", "EXT1", "EXT2", "EXT4"),
    *("NEXT_BUFFER", "READONLY_BUFFER"),
)
SHAPE = (3, 32, 32)
PIXELS = 3072
RECORD = 1 + PIXELS  # bytes: the label, then the red, green and blue plane
NAMES = {"train": r"data_batch_\d", "test": "test_batch"}
FOLDERS = ("", "cifar-10-batches-bin", "cifar-10-batches-py")
SOUGHT = {
    "train": "CIFAR-10's data_batch_1 to 5 (.bin or Python's)",
    "test": "CIFAR-10's test_batch (.bin or Python's)",
}


def find_batches(folder: Path, split: str = "train") -> list[Path]:
    """Return the training or test batches, in order, of a folder or the archive's folder in it."""
    for name in FOLDERS:
        inside = folder / name
        for pattern in (NAMES[split] + r"\.bin", NAMES[split]):
            files = inside.iterdir() if inside.is_dir() else ()
            if batches := sorted(f for f in files if re.fullmatch(pattern, f.name)):
                return batches
    return []


def read_batches(files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Return images, uint8 (N, 3, 32, 32), and labels, uint8 (N,), of batches in either layout.

    Raises UserError, naming the file and what is wrong with it.
    """
    read = [_binary(f) if f.suffix == ".bin" else _python(f) for f in files]
    images = np.concatenate([images for images, _ in read]).reshape(-1, *SHAPE)
    return images, np.concatenate([labels for _, labels in read])


def _binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    data = _bytes(path)
    if not data or len(data) % RECORD:
        raise UserError(
            f"{path} is truncated: {len(data)} bytes are not a multiple of {RECORD}, those of "
            "one image and its label."
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, RECORD)
    return records[:, 1:], _checked(path, records[:, 0], len(records))


def _python(path: Path) -> tuple[np.ndarray, np.ndarray]:
    pickled = _bytes(path)
    try:
        _scan(pickled)
        batch = _Unpickler(io.BytesIO(pickled), encoding="bytes").load()
    except _Refused as error:
        raise UserError(f"{path} is no batch of CIFAR-10: {error}.") from None
    except Exception as error:  # noqa: BLE001 - a damaged pickle can raise anything
        raise UserError(f"{path} is truncated or damaged: {str(error)[:200]}.") from None
    named = {_text(k): v for k, v in batch.items()} if isinstance(batch, dict) else {}
    data, labels = named.get("data"), named.get("labels")
    if not isinstance(data, _Array) or not isinstance(labels, list):
        raise UserError(f"{path} is no batch of CIFAR-10: it lacks data or labels.")
    images = data.images(path)
    if not all(isinstance(label, int) and 0 <= label <= 9 for label in labels):
        raise UserError(f"{path} holds labels that are not 0 to 9.")
    return images, _checked(path, np.array(labels, dtype=np.uint8), len(images))


def _checked(path: Path, labels: np.ndarray, images: int) -> np.ndarray:
    if len(labels) != images:
        raise UserError(f"{path} holds {len(labels)} labels for {images} images.")
    if labels.max(initial=0) > 9:
        raise UserError(f"{path} holds the label {labels.max()}, not 0 to 9.")
    return labels


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}.") from None


def _text(key: Any) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else str(key)


class _Refused(Exception):
    """A pickle that asks for more than an array."""


def _scan(data: bytes) -> None:
    """Raise _Refused for a pickle that would cost more than its size: memory, or time.

    A memo of a large number takes memory up to it, and tuples of tuples that share their parts take
    time without end where they are looked up.
    """
    last, tuples, memo = "", set(), 0
    for count, (op, argument, _) in enumerate(pickletools.genops(data)):
        if op.name in NOT_IN_BATCHES:
            raise _Refused(f"it holds {op.name}, as no batch does")
        if op.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = memo if argument is None else int(argument)
            memo = max(memo, place + 1) if op.name != "MEMOIZE" else memo + 1
            if place > count:
                raise _Refused(f"it keeps value {place} of {count}")
            tuples |= {place} if last.startswith("TUPLE") else set()
        if op.name in ("GET", "BINGET", "LONG_BINGET") and argument in tuples:
            raise _Refused("it uses a tuple twice, as no batch does")
        last = op.name


class _DType:
    """Stands in for numpy.dtype; keeps the name only."""

    def __init__(self, name: Any = "", *_: Any) -> None:
        self.name = _text(name)

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like do not matter to single bytes."""


class _Array:
    """Stands in for numpy.ndarray; keeps shape, type and bytes."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def images(self, path: Path) -> np.ndarray:
        """Return uint8 (N, 3072).  Raises UserError."""
        try:
            _, shape, dtype, column_major, raw = self.state
            if dtype.name not in ("u1", "uint8") or column_major:
                raise ValueError("its data are not unsigned bytes")
            if len(shape) != 2 or shape[1] != PIXELS:
                raise ValueError(f"its data have shape {shape}, not (N, {PIXELS})")
            raw = raw.encode("latin1") if isinstance(raw, str) else raw
            return np.frombuffer(raw, np.uint8).reshape(shape)
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path} is no batch of CIFAR-10: {str(error)[:200]}.") from None


def _encode(text: str, encoding: str) -> bytes:
    """Stand in for _codecs.encode, as which Python 3 pickles bytes for Python 2."""
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "_codecs")
STAND_INS = {
    "_reconstruct": _Array,
    "ndarray": _Array,
    "dtype": _DType,
    "encode": _encode,
}


class _Unpickler(pickle.Unpickler):
    """Builds numbers, strings, lists, dicts and _Array; nothing that a pickle names is called."""

    def find_class(self, module: str, name: str) -> Any:
        if module not in MODULES or name not in STAND_INS:
            raise _Refused(f"it asks to run {module}.{name}")
        return STAND_INS[name]
