"""The names of the classes, in a file beside data that cannot hold them."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from gan_mpi.config.values import composed
from gan_mpi.errors import UserError, reason

FILE = "classes.txt"  # a name a line, in the order of the labels
MOST = 256  # classes: labels are bytes
MOST_BYTES = 65_536  # of the file


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of classes in the order of their labels: of numbers, if all are such."""
    names = list(names)
    numbers = all(name.isdecimal() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if numbers else 0, name)))


def in_two_cases(names: Iterable[str]) -> list[str]:
    """Return a note if names differ in nothing but capitals, which hardly are two classes."""
    by_letters: dict[str, list[str]] = {}
    for name in names:
        by_letters.setdefault(name.casefold(), []).append(name)
    alike = [" and ".join(each) for each in by_letters.values() if len(each) > 1]
    return [f"classes that differ in capitals alone are two: {', '.join(alike)}"] if alike else []


def read_names(folder: Path, labels: np.ndarray | None) -> tuple[str, ...]:
    """Return the names beside data with these labels (N,), none if they are not named.

    Raises UserError, naming the file and what is wrong with it.
    """
    path = folder / FILE
    if labels is None or not path.is_file():
        return ()
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}.") from None
    text = composed(data.decode("utf-8-sig", errors="replace"))
    names = [line.strip() for line in text.splitlines()]
    while names and not names[-1]:
        names.pop()
    if len(data) > MOST_BYTES or not all(names):
        raise UserError(f"{path} should hold a name of a class a line, and nothing else.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path} names {twice} twice; each class has a name of its own.")
    if len(names) > MOST:
        raise UserError(f"{path} names {len(names)} classes; at most {MOST} are told apart.")
    if len(names) <= int(labels.max()):
        raise UserError(f"{path} names {len(names)} classes, and a label is {labels.max()}.")
    return tuple(names)


def bytes_of(names: tuple[str, ...]) -> bytes:
    """Return the file of these names."""
    return "".join(f"{name}\n" for name in names).encode(errors="surrogateescape")
