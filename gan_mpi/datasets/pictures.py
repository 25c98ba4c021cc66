"""Pictures as arrays: cropped to their middle square, grey or in colour, eight bits a channel."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.Image import Resampling

from gan_mpi.datasets.classes import in_two_cases
from gan_mpi.datasets.folder import Found, class_of, find_pictures, formats
from gan_mpi.errors import UserError, reason
from gan_mpi.files import NewFile

GREY = ("1", "L", "LA", "La")
DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # whole numbers, beyond 255
PAPER = "white"  # what shows through what is transparent
DARK = 16  # of 255: the upper bytes of numbers of 12 bits end below it
DIM = 64  # and those of 14 bits below this


def read_pictures(
    folder: Path, split: str, resolution: int, into: NewFile | None = None
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...], list[str]]:
    """Return images, labels, the names of the classes, and what should be said of the folder.

    Images are uint8 (N, C, resolution, resolution); C is 1 if all pictures are grey, else 3.
    They go into the file that `into` makes, of which they are a map, or into memory.  Labels, uint8
    (N,), are the places of the names; there are none where pictures of the split lie in no
    sub-folder.  Raises UserError, naming the file and what is wrong with it.
    """
    found = find_pictures(folder)
    reader, paths = _Reader(found, resolution), found.pictures[split]
    images = _Images(resolution, BytesIO() if into is None else into())
    for path in paths:
        images.append(reader.read(path))
    notes = [*_left_out(found), *in_two_cases(found.classes), *reader.notes()]
    if not found.classes or split in found.unlabelled:
        return images.array(), None, (), notes
    number = {name: place for place, name in enumerate(found.classes)}
    labels = np.array([number[class_of(path)] for path in paths], dtype=np.uint8)
    return images.array(), labels, found.classes, notes


class _Images:
    """Pictures one after the other in a file: grey ones, until there is one in colour."""

    def __init__(self, resolution: int, file: IO[bytes]) -> None:
        self.file = file
        self.start, self.count, self.channels = self.file.tell(), 0, 1
        self.resolution = resolution

    def append(self, picture: Image.Image) -> None:
        """Add a picture, `L` or `RGB`, at the end."""
        if picture.mode != "L" and self.channels == 1:
            self._colour()
        pixels = np.asarray(picture.convert("L" if self.channels == 1 else "RGB"))
        self.file.write(np.atleast_3d(pixels).transpose(2, 0, 1).tobytes())
        self.count += 1

    def array(self) -> np.ndarray:
        """Return all of them, uint8 (N, C, resolution, resolution)."""
        self.file.flush()
        shape = (self.count, self.channels, self.resolution, self.resolution)
        if isinstance(self.file, BytesIO):
            return np.frombuffer(self.file.getbuffer(), np.uint8).reshape(shape)
        return np.asarray(np.memmap(self.file, np.uint8, "r", self.start, shape))

    def _colour(self) -> None:
        """Write the grey pictures so far with three channels, the last first."""
        size = self.resolution**2
        for number in reversed(range(self.count)):
            self.file.seek(self.start + number * size)
            grey = self.file.read(size)
            self.file.seek(self.start + 3 * number * size)
            self.file.write(3 * grey)
        self.file.seek(self.start + 3 * self.count * size)
        self.channels = 3


def _left_out(found: Found) -> list[str]:
    return ["left out: " + ", ".join(found.left_out)] if found.left_out else []


class _Reader:
    """Reads the pictures of a folder, alike those of both splits."""

    def __init__(self, found: Found, resolution: int) -> None:
        self.resolution = resolution
        self.everything = [path for paths in found.pictures.values() for path in paths]
        self.unturned: list[Path] = []  # whose EXIF is damaged
        self.moving: list[Path] = []  # of which the first frame is read
        self.wide: list[Path] = []  # in colours of 16 bits, of which Pillow keeps the upper eight
        self.brightest = 0  # of those

    def read(self, path: Path) -> Image.Image:
        """Return a picture as `L` or `RGB` at the resolution."""
        with _opened(path) as picture:
            is_wide = picture.mode not in DEEP and _is_wide(picture)
            if getattr(picture, "is_animated", False) and picture.format != "MPO":
                self.moving.append(path)
            plain = self._eight_bits(path, self._turned(path, picture))
            if is_wide:
                self.wide.append(path)
                self.brightest = max(self.brightest, _brightest(plain))
            size = (self.resolution, self.resolution)
            return ImageOps.fit(_without_alpha(plain), size, Resampling.LANCZOS)

    @cached_property
    def bits(self) -> int:
        """Bits of the largest whole number in all pictures that hold such, 8 to 31.

        Cameras and scanners put numbers of 10, 12 or 14 bits into files of 16.
        """
        largest = 0
        for path in self.everything:
            with _opened(path) as picture:
                if picture.mode in DEEP:
                    low, high = np.asarray(picture).min(), np.asarray(picture).max()
                    if low < 0:
                        raise UserError(
                            f"{path} holds numbers below 0; save it with 8 or 16 bits, from 0 on."
                        )
                    largest = max(largest, int(high))
        return max(8, largest.bit_length())

    def notes(self) -> list[str]:
        """Return what should be said of the pictures that were read.

        Raises UserError if numbers of 16 bits a colour all are too small to be seen.
        """
        if self.wide and self.brightest < DARK:
            raise UserError(
                f"{self.wide[0]} holds colours of 16 bits that end below {DARK << 8}, as all such "
                "here do, and of which only the upper eight bits can be read: nearly black; save "
                "them with 8 bits a colour."
            )
        notes = []
        if self.wide and self.brightest < DIM:
            notes.append(
                f"colours of 16 bits end below {DIM << 8} in all pictures that have them; they "
                "are dark, since only the upper eight bits are read: save them with 8 bits a colour"
            )
        if "bits" in self.__dict__ and self.bits != 16:
            notes.append(f"pictures of 16 bits are taken as of {self.bits}, since none goes beyond")
        notes += _about(self.unturned, "damaged EXIF and is not turned by it")
        notes += _about(self.moving, "several frames, of which the first is read")
        return notes

    def _turned(self, path: Path, picture: Image.Image) -> Image.Image:
        """Return a picture as its EXIF says that it was held."""
        try:
            return ImageOps.exif_transpose(picture)
        except (OSError, MemoryError):
            raise
        except Exception:  # noqa: BLE001 - a damaged block raises anything; the pixels are whole
            self.unturned.append(path)
            return picture

    def _eight_bits(self, path: Path, picture: Image.Image) -> Image.Image:
        if picture.mode in DEEP:
            numbers = np.asarray(picture).astype(np.int64) >> (self.bits - 8)
            return Image.fromarray(numbers.astype(np.uint8))
        if picture.mode == "F":
            raise UserError(
                f"{path} holds floating-point numbers, of whose range nothing is known; save it "
                "with 8 or 16 bits."
            )
        return picture


def _is_wide(picture: Image.Image) -> bool:
    """Return whether the file, not loaded yet, holds colours of 16 bits: `RGB;16B` and the like."""
    return ";16" in str([tile[3] for tile in getattr(picture, "tile", [])])


def _brightest(picture: Image.Image) -> int:
    """Return the largest value of a colour, 0..255, alpha aside."""
    return int(np.asarray(picture.convert("L" if picture.mode in GREY else "RGB")).max())


def _without_alpha(picture: Image.Image) -> Image.Image:
    """Return a picture as `L` if it is grey, else `RGB`, what is transparent on white paper."""
    is_grey = picture.mode in GREY
    if picture.mode in ("P", "PA"):  # of grey colours or others
        red, green, blue = picture.convert("RGB").split()
        is_grey = red.tobytes() == green.tobytes() == blue.tobytes()
    if picture.has_transparency_data:
        paper = Image.new("RGBA", picture.size, PAPER)
        picture = Image.alpha_composite(paper, picture.convert("RGBA"))
        return picture.convert("RGB").getchannel(0) if is_grey else picture.convert("RGB")
    return picture.convert("L" if is_grey else "RGB")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture.  Raises UserError, naming the file, whatever goes wrong while it is open."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of tags that it does not know
            with Image.open(path, formats=tuple(sorted(set(formats().values())))) as picture:
                yield picture
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(f"{path} is no picture, or damaged.") from None
    except OSError as error:  # Pillow's own have no strerror
        why = str(error) if error.errno is None else reason(error)
        raise UserError(f"cannot read {path}: {why}.") from None
    except Exception as error:  # noqa: BLE001 - a damaged file can raise anything in a decoder
        raise UserError(f"cannot read {path}: {error or type(error).__name__}.") from None


def _about(paths: Iterable[Path], what: str) -> list[str]:
    count = len(list(paths))
    if not count:
        return []
    first = next(iter(paths))
    others = f" and {count - 1} other{'s' * (count > 2)}" if count > 1 else ""
    has = "have" if others else "has"
    return [f"{first}{others} {has} {what}"]
