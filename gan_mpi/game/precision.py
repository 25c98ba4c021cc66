"""What the networks compute in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor


class Compute(Protocol):
    """How a network is applied."""

    def __call__(self, network: "Applied", *inputs: Tensor) -> Tensor:
        """Return what a network makes of its inputs, in their precision.

        Collective (batch norm).
        """


class Applied(Protocol):
    """A network, or another function of its inputs."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return outputs."""


def plainly(network: Applied, *inputs: Tensor) -> Tensor:
    """Apply a network in the precision of its inputs.  Collective (batch norm)."""
    return network(*inputs)


def in_bfloat16(network: Applied, *inputs: Tensor) -> Tensor:
    """Apply a network with matrix products and convolutions in bfloat16.  Collective (batch norm).

    So are the maps between them; weights, gradients and statistics stay in float32.
    """
    with torch.autocast(inputs[0].device.type, torch.bfloat16):
        outputs = network(*inputs)
    return outputs.to(inputs[0].dtype)


# Of weights, by the names of --precision.
DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp64": torch.float64,
    "bf16": torch.float32,
}
COMPUTE: dict[str, Compute] = dict.fromkeys(DTYPES, plainly) | {"bf16": in_bfloat16}


@contextmanager
def training_in(precision: str) -> Iterator[None]:
    """Let a GPU round the factors of float32 products to TF32 meanwhile, if that is the precision.

    A forward, and the backward that follows, are within.
    """
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    products.allow_tf32 = convolutions.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        products.allow_tf32 = convolutions.allow_tf32 = False  # as place() has it
