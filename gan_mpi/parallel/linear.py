"""A linear layer that writes the gradient of its weight where it is to cross MPI.

Its products are MKL's, or oneDNN's where MKL leaves instructions of a processor unused.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from gan_mpi.cluster.processors import ONEDNN

LEAST = 1 << 18  # numbers of a weight, at least, whose gradient is worth it


class AffineContext(Protocol):
    """What autograd keeps of an application for its backward."""

    layer: "Linear"
    saved_tensors: tuple[Tensor, Tensor]
    needs_input_grad: tuple[bool, bool, bool, bool]

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep tensors."""


class _Affine(torch.autograd.Function):
    """inputs @ weight.T + bias."""

    @staticmethod
    def forward(
        ctx: AffineContext, inputs: Tensor, weight: Tensor, bias: Tensor, layer: "Linear"
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.layer = layer
        used = layer.weight_as(inputs.dtype)
        if layer.is_by_onednn(inputs):
            return _onednn(inputs, used, bias)
        return torch.addmm(bias, inputs, used.t())

    @staticmethod
    def backward(ctx: AffineContext, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        of_inputs, of_weight, of_bias = None, None, None
        again = torch.is_grad_enabled()  # then autograd must know every step
        if ctx.needs_input_grad[0]:
            used = weight.to(inputs.dtype) if again else ctx.layer.weight_as(inputs.dtype)
            by_onednn = not again and ctx.layer.is_by_onednn(inputs)
            of_inputs = _onednn(gradient, used.t(), None) if by_onednn else gradient @ used
        if ctx.needs_input_grad[1]:
            room = None if again else ctx.layer.take_room()
            if room is None:
                of_weight = (gradient.t() @ inputs).to(weight.dtype)
            elif room.dtype == inputs.dtype:
                of_weight = torch.mm(gradient.t(), inputs, out=room)
            else:
                of_weight = room.copy_(gradient.t() @ inputs)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum(0).to(weight.dtype)
        return of_inputs, of_weight, of_bias, None


def _onednn(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return inputs @ weight.t() + bias by oneDNN, which torch.nn.functional.linear never takes."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return product


def has_onednn() -> bool:
    """Return whether this torch can compute linear layers of float32 by oneDNN."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def compute_linear(networks: Iterable[nn.Module], library: str) -> None:
    """Let the linear layers of networks be computed in training by MKL or ONEDNN, on a CPU."""
    for network in networks:
        for layer in network.modules():
            if isinstance(layer, Linear):
                layer.onednn = library == ONEDNN and has_onednn()


class Linear(nn.Linear):
    """torch's layer for inputs (N, in_features), where large weights are touched less often.

    On a CPU the first gradient of a weight in an update is written to its place in the bucket,
    rather than added to zeros there.  In bfloat16 a weight is rounded once after it has changed,
    rather than whenever it is used.  The numbers are those of torch's layer, which computes where
    the weight is small, or is itself computed, as by spectral norm; but for float32 in training, if
    `onednn` is true, they are oneDNN's, with other last bits.
    """

    plainly: ClassVar = False  # let torch's layer compute

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.onednn = False
        self._room: Tensor | None = None
        self._rounded: Tensor | None = None
        self._version = 0  # of the weight that was rounded

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (N, out_features)."""
        is_torchs = self.large_weight() is None and not self.is_by_onednn(inputs)
        if self.plainly or torch.compiler.is_compiling() or is_torchs:
            return super().forward(inputs)
        bias: Tensor = self.bias
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            inputs, bias = inputs.to(dtype), bias.to(dtype)
        return _Affine.apply(inputs, self.weight, bias, self)

    def __getstate__(self) -> dict[str, object]:
        """Leave out what a copy has to make for itself."""
        return {**self.__dict__, "_room": None, "_rounded": None}

    def large_weight(self) -> nn.Parameter | None:
        """Return the weight if it is a parameter of this layer, a large one, and on a CPU."""
        weight = self._parameters.get("weight")
        if weight is None or weight.numel() < LEAST or weight.device.type != "cpu":
            return None
        return weight

    def is_by_onednn(self, inputs: Tensor) -> bool:
        """Return whether oneDNN multiplies these inputs (N, in_features) by the weight."""
        return (
            self.onednn
            and self.training
            and "weight" in self._parameters
            and inputs.dtype == self.weight.dtype == torch.float32
            and inputs.device.type == "cpu"
            and not torch.is_autocast_enabled("cpu")
        )

    def give_room(self, room: Tensor) -> None:
        """Say where the next gradient of the weight may be written."""
        self._room = room

    def take_room(self) -> Tensor | None:
        """Return where the gradient may be written, once; a view that nobody else holds."""
        room, self._room = self._room, None
        return None if room is None else room.view_as(room)

    def weight_as(self, dtype: torch.dtype) -> Tensor:
        """Return the weight rounded to `dtype`, the same tensor until the weight changes."""
        weight = self.weight.detach()
        if dtype == weight.dtype:
            return weight
        if self._rounded is None or self._rounded.dtype != dtype:
            self._rounded = weight.to(dtype)
        elif self._version != weight._version:
            self._rounded.copy_(weight)
        self._version = weight._version
        return self._rounded


@contextmanager
def torchs_layers() -> Iterator[None]:
    """Let torch's own layers compute, as for a gradient that is differentiated again.

    Asked for the gradient of the inputs alone, they leave out that of the weight.
    """
    Linear.plainly = True
    try:
        yield
    finally:
        Linear.plainly = False
