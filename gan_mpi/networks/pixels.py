"""Images between the range that the networks see and pictures of 8-bit pixels."""

from dataclasses import dataclass

import numpy as np
import torch


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
    return pixels.to(dtype).div_(255.0).mul_(high - low).add_(low)


def from_range(images: torch.Tensor, name: str) -> np.ndarray:
    """Map (N, C, H, W) in the range of that name to uint8, rounded, and clipped beyond."""
    low, high = RANGES[name].low, RANGES[name].high
    scaled = (images.detach().cpu().double() - low) * 255.0 / (high - low)
    return scaled.round().clamp(0, 255).to(torch.uint8).numpy()


def to_pixels(images: torch.Tensor, name: str) -> np.ndarray:
    """Map a generator's (N, C, H, W) to uint8 of the same shape, rounded, and clipped beyond.

    Points (N, 2) are returned as float64.
    """
    wide = images.detach().cpu().double()
    if images.dim() == 2:
        return wide.numpy()
    scaled = (wide + 1.0) * 127.5 if RANGES[name].tanh else wide * 255.0
    return scaled.round().clamp(0, 255).to(torch.uint8).numpy()
