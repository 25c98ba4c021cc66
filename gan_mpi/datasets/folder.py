"""Folders of pictures: which files there are of each split and class, and what is left out.

A folder holds pictures, or a sub-folder of pictures for each class; or such a folder `train`, or
`test`, or both.  Names of splits are known in any case.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path

from PIL import Image

from gan_mpi.config.values import composed
from gan_mpi.datasets.classes import MOST, in_order
from gan_mpi.errors import UserError, reason

SPLITS = {"train": ("train", "training"), "test": ("test", "testing")}
# Such as trainA, test-photos or val2017.
SPLIT_OF_ONE = re.compile(
    r"(?P<split>train(?:ing)?|test(?:ing)?|val(?:id(?:ation)?)?)"
    r"(?P<set>[-_ .]?(?-i:[A-Z])|[-_ .\d].*)",
    re.IGNORECASE,
)
SOUGHT = "pictures (.png, .jpg, .webp ...), those of a class in a sub-folder of its name"
# What systems and editors leave beside people's files, besides names that begin with a dot.
OF_SYSTEMS = (
    *("__MACOSX", "Thumbs.db", "ehthumbs.db", "desktop.ini"),
    *("@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"),
)
# Formats that Pillow knows, but gives to other programs, or only by name.
NOT_READ = ("EPS", "WMF", "BUFR", "GRIB", "HDF5", "PDF", "MPEG")
NAMED = 3  # of what is left out, of each kind


@dataclass
class Found:
    """The pictures in a folder, those of each split in order; classes by name; what is not read."""

    pictures: dict[str, list[Path]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    unlabelled: set[str] = field(default_factory=set)  # splits whose pictures lie in no sub-folder
    left_out: list[str] = field(default_factory=list)  # such as "2 files .txt"


@cache
def formats() -> dict[str, str]:
    """Return the formats of pictures that are read, by the endings of their files."""
    endings = Image.registered_extensions()  # which loads all of Pillow's plugins
    return {
        ending: name
        for ending, name in endings.items()
        if name in Image.OPEN and name not in NOT_READ
    }


def has_pictures(folder: Path, split: str = "train") -> bool:
    """Return whether a folder holds pictures of a split."""
    root = _roots(folder).get(split)
    if root is None:
        return False
    inside = (file for entry in _entries(root) if entry.is_dir() for file in _entries(entry))
    return any(_is_picture(path) for path in chain(_entries(root), inside))


def find_pictures(folder: Path) -> Found:
    """Return the pictures of both splits in a folder that has some.

    A picture of a class lies in root/CLASS.  Classes are those of both splits, in the order of
    their names, or of the numbers that all of them are.  Raises UserError for pictures both in and
    beside sub-folders, and too many classes.
    """
    roots, found, others = _roots(folder), Found(), Counter[str]()
    if folder in roots.values():
        _require_no_pairs(folder)
    for split, root in roots.items():
        found.pictures[split] = sorted(_of_root(root, others))
        if _is_flat(found.pictures[split], root):
            found.unlabelled.add(split)
    if folder not in roots.values():
        for entry in _entries(folder):
            if entry not in roots.values():
                others[_named(entry, folder)] += _count(entry)
    names = {
        path.parent.name
        for split, paths in found.pictures.items()
        for path in paths
        if path.parent != roots[split]
    }
    if len(names) > MOST:
        raise UserError(
            f"{folder} has {len(names)} sub-folders with pictures; at most {MOST} classes "
            "are told apart."
        )
    # In the order of the names as they lie there, by which runs have numbered them before.
    found.classes = tuple(dict.fromkeys(map(composed, in_order(names))))
    found.left_out = _told(others)
    return found


def class_of(path: Path) -> str:
    """Return the name of the class that a picture lies in, however its letters are composed."""
    return composed(path.parent.name)


def deeper(folder: Path) -> Path | None:
    """Return a folder below that holds pictures which are not found from here, None without."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_passed_over(name))
        if any(_is_picture(Path(place, name)) for name in files if not _is_passed_over(name)):
            return Path(place)
    return None


def _roots(folder: Path) -> dict[str, Path]:
    """Return where the pictures of each split are.  Raises UserError if that is not one place."""
    roots: dict[str, Path] = {}
    for entry in _entries(folder):
        for split, names in SPLITS.items():
            if entry.name.lower() not in names or not entry.is_dir():
                continue
            if split in roots:
                raise UserError(
                    f"{folder} holds both {roots[split].name} and {entry.name}; one of them is to "
                    f"be the {split} images."
                )
            roots[split] = entry
    return roots or {"train": folder}


def _require_no_pairs(folder: Path) -> None:
    """Raise UserError for splits of several sets, trainA and testA, which are no classes."""
    seen: dict[str, re.Match[str]] = {}
    for entry in _entries(folder):
        named = SPLIT_OF_ONE.fullmatch(entry.name) if entry.is_dir() else None
        if named is None:
            continue
        other = seen.setdefault(named["set"].lower(), named)
        if other["split"].lower() != named["split"].lower():
            raise UserError(
                f"{folder} holds {other[0]} and {named[0]}, which look like splits of one set and "
                "not like classes; give a folder in which they are called train and test."
            )


def _entries(folder: Path) -> list[Path]:
    """Return what people put into a folder, by name.  Raises UserError if it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if not _is_passed_over(path.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read {folder}: {reason(error)}.") from None


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name in OF_SYSTEMS


def _is_picture(path: Path) -> bool:
    """Return whether a file should be one; a pipe, which may never end, is none."""
    return path.suffix.lower() in formats() and (path.is_file() or not path.exists())


def _of_root(root: Path, others: Counter[str]) -> Iterator[Path]:
    """Yield the pictures of a split, and count the other things there."""
    for entry in _entries(root):
        if not entry.is_dir():
            if _is_picture(entry):
                yield entry
            else:
                others[_kind(entry)] += 1
            continue
        inside, pictures = _entries(entry), 0
        for path in inside:
            if path.is_dir():
                others[_named(path, root)] += _count(path)
            elif _is_picture(path):
                pictures += 1
                yield path
            else:
                others[_kind(path)] += 1
        if not inside:
            others[_named(entry, root)] += 0


def _kind(path: Path) -> str:
    return f"files {path.suffix.lower()}" if path.suffix else "files without an ending"


def _named(entry: Path, root: Path) -> str:
    if entry.is_dir():
        return f"files in the folder {entry.relative_to(root)}"
    return "files beside the splits"


def _count(entry: Path) -> int:
    """Return how many files, that people put there, are below a folder; 1 for a file."""
    if not entry.is_dir():
        return 1
    total = 0
    for _, folders, files in os.walk(entry):
        folders[:] = [name for name in folders if not _is_passed_over(name)]
        total += sum(not _is_passed_over(name) for name in files)
    return total


def _told(others: Counter[str]) -> list[str]:
    """Say what is left out, most first."""
    words = {0: "nothing", 1: "1 file"}
    told = [
        what.replace("files", words.get(count, f"{count} files"), 1)
        for what, count in others.most_common()
    ]
    rest = sum(count for _, count in others.most_common()[2 * NAMED :])
    return [*told[: 2 * NAMED], f"{rest} other files"] if told[2 * NAMED :] else told


def _is_flat(paths: list[Path], root: Path) -> bool:
    """Return whether pictures lie in no sub-folders.  Raises UserError if some do."""
    loose = [path for path in paths if path.parent == root]
    if loose and len(loose) < len(paths):
        raise UserError(
            f"{loose[0]} lies beside the sub-folders of the classes; put it into one, or all "
            "pictures into one folder."
        )
    return bool(loose)
