"""Images between the range that the networks see and pictures of 8-bit pixels."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

GAP = 2  # pixels between the tiles of a grid
GAP_GREY = 72
TILE = 64  # pixels: smaller images are magnified by a whole factor up to about this


@dataclass(frozen=True)
class Range:
    """The range of real images, and that of the generator, which ends in tanh or a sigmoid."""

    low: float
    high: float
    tanh: bool = True


RANGES = {
    "signed": Range(-1.0, 1.0),
    "unit": Range(0.0, 1.0, tanh=False),
    # torchvision's Normalize(0.1307, 0.3081), which Lightning's example combines with tanh.
    "standard": Range((0.0 - 0.1307) / 0.3081, (1.0 - 0.1307) / 0.3081),
}


def to_range(pixels: torch.Tensor, dtype: torch.dtype, name: str) -> torch.Tensor:
    """Map uint8 0..255 to the range of that name; numbers that are no pixels stay as they are."""
    if pixels.is_floating_point():
        return pixels.to(dtype)
    low, high = RANGES[name].low, RANGES[name].high
    return (high - low) * (pixels.to(dtype) / 255.0) + low


def to_pixels(images: torch.Tensor, name: str) -> np.ndarray:
    """Map a generator's (N, C, H, W) to uint8 of the same shape, rounded, and clipped beyond.

    Points (N, 2) are returned as float64.
    """
    wide = images.detach().cpu().double()
    if images.dim() == 2:
        return wide.numpy()
    scaled = (wide + 1.0) * 127.5 if RANGES[name].tanh else wide * 255.0
    return scaled.round().clamp(0, 255).to(torch.uint8).numpy()


def channels_last(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 (N, C, H, W) as (N, H, W) for one channel and (N, H, W, 3) for three."""
    return pixels[:, 0] if pixels.shape[1] == 1 else pixels.transpose(0, 2, 3, 1)


def grid(pixels: np.ndarray, columns: int, rows: int) -> Image.Image:
    """Arrange at most columns*rows images, uint8 (N, C, H, W), row by row with a thin gap."""
    tiles = channels_last(pixels)
    factor = max(1, round(TILE / max(tiles.shape[1:3])))
    tiles = tiles.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = tiles.shape[1:3]
    shape = (
        rows * (height + GAP) + GAP,
        columns * (width + GAP) + GAP,
        *tiles.shape[3:],
    )
    canvas = np.full(shape, GAP_GREY, dtype=np.uint8)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
        canvas[top : top + height, left : left + width] = tile
    return Image.fromarray(canvas)


def provenance(saved: Mapping[str, Any]) -> dict[str, object]:
    """Return what made a picture, from the state that a checkpoint holds."""
    config, data = saved["config"], saved["data"]["name"]
    facts = {"preset": config["preset"], "data": data, "seed": config["seed"]}
    return {"gan-mpi": saved["version"], **facts, "step": saved["progress"]["step"]}


def png(image: Image.Image, facts: Mapping[str, object]) -> bytes:
    """Return a PNG file with facts about the picture as text chunks."""
    info = PngInfo()
    for name, value in facts.items():
        info.add_text(name, str(value))
    buffer = io.BytesIO()
    image.save(buffer, format="png", pnginfo=info)
    return buffer.getvalue()
