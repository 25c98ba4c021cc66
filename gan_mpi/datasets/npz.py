"""NumPy archives of images and labels."""

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np

from gan_mpi.errors import UserError, reason

FILES = {"train": "train.npz", "test": "test.npz"}


def read_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Return images, uint8 (N, C, H, W), and labels, uint8 (N,), or None without labels.

    The archive holds `images`, uint8 (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3, and
    perhaps `labels`, integers 0 to 255 (N,).  Raises UserError, naming the file and what is wrong
    with it.
    """
    arrays = _load(path)
    if "images" not in arrays:
        found = ", ".join(arrays) or "nothing"
        raise UserError(f"{path} has no array 'images'; it has {found}.")
    images = _with_channels(path, arrays["images"])
    if "labels" not in arrays:
        return images, None
    labels = arrays["labels"]
    if labels.shape != (len(images),):
        shape = "x".join(map(str, labels.shape))
        raise UserError(f"{path} has {shape} labels for {len(images)} images.")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 255:
        raise UserError(f"{path}: its labels are not integers in 0..255.")
    return images, labels.astype(np.uint8)


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise UserError(f"{path} is truncated or no NumPy archive.")
            file.seek(0)
            archive = np.load(file, allow_pickle=False)
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}.") from None
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged: {error}.") from None
    except ValueError:
        raise UserError(
            f"{path} holds Python objects, which could run anything and are not read; save arrays "
            "of numbers of one shape: np.savez('train.npz', images=..., labels=...)."
        ) from None


def _with_channels(path: Path, images: np.ndarray) -> np.ndarray:
    shape = "x".join(map(str, images.shape))
    if images.dtype != np.uint8:
        raise UserError(f"{path}: its images are {images.dtype}, not uint8 0..255.")
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.size:
        raise UserError(
            f"{path}: its images are {shape}, and should be (N, H, W), (N, H, W, 3) or (N, 3, H, "
            "W)."
        )
    # Contiguous, and with strides of its own: others let torch choose other kernels.
    return np.ascontiguousarray(images).reshape(images.shape)


def bytes_of(images: np.ndarray, labels: np.ndarray | None) -> bytes:
    """Return the archive of images, uint8 (N, C, H, W), and labels, uint8 (N,), if any."""
    arrays = {"images": images} if labels is None else {"images": images, "labels": labels}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
