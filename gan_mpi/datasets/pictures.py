"""A folder of pictures, PNG or JPEG, each cropped to its middle square and resized; labels by sub-folder."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.Image import Resampling

from gan_mpi.errors import UserError, reason

ENDINGS = (".png", ".jpg", ".jpeg")
RESOLUTION = 32  # pixels a side, where none is asked for
MOST_CLASSES = 256  # labels are bytes
SOUGHT = "pictures (.png, .jpg), those of a class in a sub-folder of its name"
GREY = ("1", "L", "LA", "I", "I;16")


def find_pictures(folder: Path, split: str = "train") -> list[Path]:
    """Return the pictures of a split, sorted by path: those of FOLDER/train or FOLDER/test.

    Where there is neither, all in the folder and its sub-folders are for training.
    """
    divided = (folder / "train").is_dir() or (folder / "test").is_dir()
    if not divided and split == "test":
        return []
    root = folder / split if divided else folder
    found = [*root.glob("*"), *root.glob("*/*")]
    return sorted(path for path in found if path.suffix.lower() in ENDINGS)


def read_pictures(
    paths: list[Path], resolution: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return images, uint8 (N, C, resolution, resolution), and labels, uint8 (N,), or None.

    C is 1 if all pictures are grey, else 3.  The label is the place of the sub-folder among all by
    name; there are none where pictures lie in the folder itself.  Raises UserError, naming the file
    and what is wrong with it.
    """
    pictures = [_read(path, resolution) for path in paths]
    mode = "L" if all(picture.mode == "L" for picture in pictures) else "RGB"
    arrays = [np.asarray(picture.convert(mode)) for picture in pictures]
    images = np.stack(arrays).reshape(len(arrays), resolution, resolution, -1)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), _labels(paths)


def _read(path: Path, resolution: int) -> Image.Image:
    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture)
            plain = upright.convert("L" if upright.mode in GREY else "RGB")
            size = (resolution, resolution)
            return ImageOps.fit(plain, size, Resampling.LANCZOS)
    except UnidentifiedImageError:
        raise UserError(f"{path} is not a PNG or JPEG picture.") from None
    except OSError as error:  # Pillow's own have no strerror
        why = str(error) if error.errno is None else reason(error)
        raise UserError(f"cannot read {path}: {why}.") from None
    except (SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read {path}: {error}.") from None


def _labels(paths: list[Path]) -> np.ndarray | None:
    folders = [path.parent for path in paths]
    top = min(len(folder.parts) for folder in folders)
    deep = [len(folder.parts) > top for folder in folders]
    classes = sorted(set(folders))
    if any(deep) and not all(deep):
        loose = paths[deep.index(False)]
        raise UserError(
            f"{loose} lies beside the sub-folders of the classes; put it into one, or all pictures into "
            "one folder."
        )
    if len(classes) == 1:
        return None
    if len(classes) > MOST_CLASSES:
        raise UserError(
            f"{classes[0].parent} has {len(classes)} sub-folders with pictures; at most "
            f"{MOST_CLASSES} classes are told apart."
        )
    return np.array([classes.index(folder) for folder in folders], dtype=np.uint8)
