"""A folder of PNG or JPEG pictures, cropped to their middle square; labels by sub-folder."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.Image import Resampling

from gan_mpi.errors import UserError, reason

ENDINGS = (".png", ".jpg", ".jpeg")
MOST_CLASSES = 256  # labels are bytes
SOUGHT = "pictures (.png, .jpg), those of a class in a sub-folder of its name"
GREY = ("1", "L", "LA")
GREY_16 = ("I", "I;16", "I;16B", "I;16L")  # 0..65535


def has_pictures(folder: Path, split: str = "train") -> bool:
    """Return whether a folder holds pictures of a split."""
    return any(_pictures(folder, split))


def read_pictures(
    folder: Path, split: str, resolution: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return images, uint8 (N, C, resolution, resolution), and labels, uint8 (N,), or None.

    They are those of FOLDER/train or FOLDER/test; where there is neither, all are for training.  C
    is 1 if all pictures are grey, else 3.  The label is the place of a picture's sub-folder among
    those of both splits, by name; there are none where pictures lie in no sub-folder.  Raises
    UserError, naming the file and what is wrong with it.
    """
    paths = sorted(_pictures(folder, split))
    root = _root(folder, split)
    assert root is not None, "has_pictures was asked first"
    labels = _labels(paths, root, _classes(folder))
    pictures = [_read(path, resolution) for path in paths]
    mode = "L" if all(picture.mode == "L" for picture in pictures) else "RGB"
    arrays = [np.asarray(picture.convert(mode)) for picture in pictures]
    images = np.stack(arrays).reshape(len(arrays), resolution, resolution, -1)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels


def _root(folder: Path, split: str) -> Path | None:
    """Return where the pictures of a split are, None if there are no test pictures."""
    if (folder / "train").is_dir() or (folder / "test").is_dir():
        return folder / split
    return folder if split == "train" else None


def _pictures(folder: Path, split: str) -> Iterator[Path]:
    root = _root(folder, split)
    for pattern in ("*", "*/*") if root else ():
        for path in root.glob(pattern):  # type: ignore[union-attr]
            if path.suffix.lower() in ENDINGS:
                yield path


def _classes(folder: Path) -> list[str]:
    """Return the sub-folders with pictures, of both splits, by name."""
    names = set()
    for split in ("train", "test"):
        root = _root(folder, split)
        names |= {p.parent.name for p in _pictures(folder, split) if p.parent != root}
    return sorted(names)


def _read(path: Path, resolution: int) -> Image.Image:
    try:
        with Image.open(path) as picture:
            plain = ImageOps.exif_transpose(picture)
            if plain.mode in GREY_16:  # Pillow's own conversion clips it at 255
                plain = Image.fromarray((np.asarray(plain) >> 8).astype(np.uint8))
            plain = plain.convert("L" if plain.mode in GREY else "RGB")
            size = (resolution, resolution)
            return ImageOps.fit(plain, size, Resampling.LANCZOS)
    except UnidentifiedImageError:
        raise UserError(f"{path} is not a PNG or JPEG picture.") from None
    except OSError as error:  # Pillow's own have no strerror
        why = str(error) if error.errno is None else reason(error)
        raise UserError(f"cannot read {path}: {why}.") from None
    except (SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read {path}: {error}.") from None


def _labels(paths: list[Path], root: Path, classes: list[str]) -> np.ndarray | None:
    loose = [path for path in paths if path.parent == root]
    if len(loose) == len(paths):
        return None
    if loose:
        raise UserError(
            f"{loose[0]} lies beside the sub-folders of the classes; put it into one, or all "
            "pictures into one folder."
        )
    if len(classes) > MOST_CLASSES:
        raise UserError(
            f"{root} has {len(classes)} sub-folders with pictures; at most {MOST_CLASSES} classes "
            "are told apart."
        )
    number = {name: place for place, name in enumerate(classes)}
    return np.array([number[path.parent.name] for path in paths], dtype=np.uint8)
