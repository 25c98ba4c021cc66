"""Times transposed convolutions as torch does them, and as gan-mpi does: layers.py."""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from contest import processor
from torch import Tensor, nn

from gan_mpi.networks.layers import ConvTranspose2d

IMAGES, REPEATS = 64, 15
SHAPES = (  # channels in, out, side, kernel, padding, output padding; the stride is 2
    (128, 128, 7, 5, 2, 1),
    (128, 1, 14, 5, 2, 1),
    (128, 3, 14, 5, 2, 1),
    (128, 8, 14, 5, 2, 1),
    (64, 1, 14, 4, 1, 0),
    (64, 3, 16, 4, 1, 0),
    (64, 64, 7, 4, 1, 0),
)


def milliseconds(function: Callable[[], object]) -> float:
    """Return the median time of a call."""
    seconds = []
    for _ in range(REPEATS + 3):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds[3:])


def folded(few: float) -> type[ConvTranspose2d]:
    """Return gan-mpi's layer with another bound of what few channels are."""
    return type("Layer", (ConvTranspose2d,), {"FEW": few})


def times(layer: nn.Module, images: Tensor) -> str:
    """Return the ms of a pass forward, and of one forward and backward."""
    wanted = [images, *layer.parameters()]

    def backward() -> None:
        torch.autograd.grad(layer(images).square().sum(), wanted)

    with torch.no_grad():
        forward = milliseconds(lambda: layer(images))
    return f"{forward:9.2f} {milliseconds(backward):9.2f}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    layers = {
        "torch": nn.ConvTranspose2d,
        "channels_last": folded(0.0),
        "fold": folded(float("inf")),
    }
    print(f"{processor()}, one thread, {IMAGES} images; ms forward, and forward and backward")
    print(f"{'':28}" + "".join(f"{name:>20}" for name in layers))
    for inputs, outputs, side, kernel, padding, more in SHAPES:
        images = torch.randn(IMAGES, inputs, side, side, requires_grad=True)
        found = [
            times(kind(inputs, outputs, kernel, 2, padding, more), images)
            for kind in layers.values()
        ]
        share = outputs * kernel * kernel / inputs
        print(f"{inputs:3} to {outputs:3}, {kernel}x{kernel}, {share:5.2f} " + " ".join(found))
        sys.stdout.flush()
