"""CNTK text format (CTF), as written for MNIST by CNTK's own data loader.

A line is `[id] |name values... |name values... |# comment`.  The regular file of CNTK 103A,
with dense labels and then dense whole features on every line, is read with numpy at once;
anything else line by line.  Source: CNTK's documentation of CNTKTextFormatReader.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gan_mpi.datasets.npz import Arrays, cached
from gan_mpi.errors import UserError, reason

FILES = {"train": "Train-28x28_cntk_text.txt", "test": "Test-28x28_cntk_text.txt"}
SIDE = 28  # pixels
WIDTHS = {"labels": 10, "features": SIDE * SIDE}
CHUNK = 1 << 22  # bytes read at once; small enough to stay in a processor's cache
REGULAR_LINE = b"|labels|features\n"  # what is left of it without digits and spaces


def read(path: Path) -> Arrays:
    """Return images, uint8 (N, 1, 28, 28), and labels, uint8 (N,), or None without labels.

    Raises UserError, naming the file, the line and what is wrong with it.
    """
    try:
        values = _read_regular(path)
        if values is None:
            return _read_any(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}.") from None
    one_hot, pixels = values[:, : WIDTHS["labels"]], values[:, WIDTHS["labels"] :]
    return pixels.reshape(-1, 1, SIDE, SIDE).copy(), one_hot.argmax(1).astype(np.uint8)


def _read_regular(path: Path) -> np.ndarray | None:
    """Return all values, uint8 (N, 10 + 784), or None if the file is not perfectly regular."""
    rows = []
    with path.open("rb") as file:
        rest = b""
        while chunk := file.read(CHUNK):
            *_, rest_of_line = (lines := rest + chunk).rpartition(b"\n")
            values = _parse_regular(lines[: len(lines) - len(rest_of_line)])
            if values is None:
                return None
            rows.append(values)
            rest = rest_of_line
    return np.concatenate(rows) if rows and not rest else None


def _parse_regular(lines: bytes) -> np.ndarray | None:
    """Parse whole lines of `|labels n n ... |features n n ...` with numbers of 1 to 3 digits."""
    text = np.frombuffer(lines, np.uint8)
    digit = text - np.uint8(ord("0"))
    is_digit = digit < 10
    special = np.flatnonzero(~is_digit & (text != ord(" ")))
    count, odd = divmod(len(special), len(REGULAR_LINE))
    if odd or text[special].tobytes() != REGULAR_LINE * count:
        return None
    width = sum(WIDTHS.values())
    ends = np.flatnonzero(is_digit[:-1] & ~is_digit[1:])
    if len(ends) != count * width or not count:
        return None
    marks = special.reshape(count, -1)
    firsts = np.searchsorted(ends, marks[:, [0, REGULAR_LINE.rindex(b"|")]])
    expected = np.arange(count)[:, None] * width + [0, WIDTHS["labels"]]
    if not np.array_equal(firsts, expected):
        return None
    tens = is_digit[ends - 1]
    hundreds = tens & is_digit[ends - 2]
    if (hundreds & is_digit[ends - 3]).any():
        return None
    values = digit[ends].astype(np.uint16)
    values += np.where(tens, digit[ends - 1], 0) * np.uint16(10)
    values += np.where(hundreds, digit[ends - 2], 0) * np.uint16(100)
    table = values.reshape(count, width)
    one_hot = table[:, : WIDTHS["labels"]]
    if values.max() > 255 or one_hot.max() > 1 or (one_hot.sum(1) != 1).any():
        return None
    return table.astype(np.uint8)


def _read_any(path: Path) -> Arrays:
    """Read line by line; consecutive lines of one id are one sequence of samples."""
    inputs: dict[str, list[np.ndarray]] = {name: [] for name in WIDTHS}
    identifier: str | None = None
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}, line {number}"
            head, samples = _split(line, where)
            if not head and not samples:
                continue
            if not head or head != identifier:
                _check_sequence(inputs, where)
            identifier = head
            for name, values in samples:
                inputs[name].append(_row(name, values, where))
        _check_sequence(inputs, f"{path}, its last line")
    if not inputs["features"]:
        raise UserError(f"{path} holds no images.")
    images = np.stack(inputs["features"]).reshape(-1, 1, SIDE, SIDE)
    if not inputs["labels"]:
        return images, None
    return images, np.stack(inputs["labels"]).argmax(1).astype(np.uint8)


def _split(line: str, where: str) -> tuple[str, list[tuple[str, list[str]]]]:
    """Return the id of a line, '' for none, and its inputs as (name, values)."""
    head, *parts = _without_comments(line.strip("\ufeff")).split("|")
    head = head.strip()
    if head and not head.isdecimal():
        raise UserError(f"{where}: '{head[:20]}' stands before the first '|' and is no id.")
    samples: list[tuple[str, list[str]]] = []
    for part in parts:
        name, *values = part.split() or [""]
        if name not in WIDTHS:
            known = " and ".join(f"'{known}'" for known in WIDTHS)
            raise UserError(f"{where}: there is an input '{name[:20]}'; known are {known}.")
        if name in (seen for seen, _ in samples):
            raise UserError(f"{where}: the input '{name}' stands there twice.")
        samples.append((name, values))
    return head, samples


def _without_comments(line: str) -> str:
    """Drop `|# text`, in which `|#` stands for a pipe, up to the next input or the line's end."""
    return re.sub(r"\|#(?:[^|]|\|#)*", "", line)


def _row(name: str, values: list[str], where: str) -> np.ndarray:
    """Return the values of one input, dense or sparse (index:value), as uint8."""
    width = WIDTHS[name]
    try:
        if values and all(":" in value for value in values):
            row = np.zeros(width)
            for index, value in (pair.split(":", 1) for pair in values):
                if not 0 <= int(index) < width:
                    raise UserError(f"{where}: '{name}' has index {index}, beyond {width - 1}.")
                row[int(index)] = float(value)
        else:
            row = np.array([float(value) for value in values])
    except ValueError as error:
        raise UserError(f"{where}: '{name}' holds no number: {error}.") from None
    if len(row) != width:
        raise UserError(f"{where}: '{name}' has {len(row)} values, not {width}.")
    whole = np.isfinite(row) & (row == np.floor(row)) & (row >= 0) & (row <= 255)
    if not whole.all():
        wrong = row[~whole][0]
        raise UserError(f"{where}: '{name}' holds {wrong:g}, not a whole number from 0 to 255.")
    if name == "labels" and sorted(row)[-2:] != [0, 1]:
        raise UserError(f"{where}: 'labels' is not 0 but for one 1.")
    return row.astype(np.uint8)


def _check_sequence(inputs: dict[str, list[np.ndarray]], where: str) -> None:
    """Raise unless the sequences read so far have a label for every image, or no label at all."""
    images, labels = len(inputs["features"]), len(inputs["labels"])
    if labels not in (0, images):
        raise UserError(f"{where}: up to there are {images} images and {labels} labels.")


def read_cached(path: Path) -> Arrays:
    """Read a file through this user's cache, which forgets it with its size and time."""
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}.") from None
    stamp = np.array([status.st_size, status.st_mtime_ns])
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    return cached(f"cntk-text-{name}", stamp, lambda: read(path))


def lines_of(images: np.ndarray, labels: np.ndarray) -> Iterator[str]:
    """Yield the lines that CNTK 103A writes for images (N, 1, 28, 28) and labels (N,)."""
    numbers = [str(value) for value in range(256)]
    for image, label in zip(images, labels, strict=True):
        one_hot = " ".join("1" if digit == label else "0" for digit in range(10))
        pixels = " ".join([numbers[value] for value in image.ravel().tolist()])
        yield f"|labels {one_hot} |features {pixels}\n"
