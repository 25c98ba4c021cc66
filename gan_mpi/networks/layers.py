"""Layers that several networks have."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d, fold

from gan_mpi.errors import UserError
from gan_mpi.parallel.normalise import rows

Geometry = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]  # stride and both paddings


class View(nn.Module):
    """Features (N, C*H*W) as (N, C, H, W)."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, features: Tensor) -> Tensor:
        return features.view(-1, *self.shape)


class _Transposed(torch.autograd.Function):
    """torch's transposed convolution of a batch in channels_last.

    There its own gradient of the bias takes as long as half of the rest.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, geometry: Geometry
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.geometry = geometry
        return conv_transpose2d(inputs, weight, bias, *geometry)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        stride, padding, output_padding = ctx.geometry
        needed = [*ctx.needs_input_grad[:2], False]
        of_inputs, of_weight, _ = torch.ops.aten.convolution_backward(
            gradient, inputs, weight, None, stride, padding, (1, 1), True, output_padding, 1, needed
        )
        of_bias = rows(gradient).sum(0) if ctx.needs_input_grad[2] else None
        return of_inputs, of_weight, of_bias, None


class ConvTranspose2d(nn.ConvTranspose2d):
    """torch's layer, computed on a CPU as is fastest there, in channels_last.

    Few channels come of one matrix product, what every pixel adds to its surroundings, which fold()
    adds up.  By benchmarks/layers.py that is up to 3 times as fast where the numbers that a pixel
    gives are at most FEW of its channels, and half as fast where they are twice as many.
    """

    FEW = 0.6

    def forward(self, inputs: Tensor, output_size: list[int] | None = None) -> Tensor:
        if inputs.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(inputs, output_size)
        assert output_size is None and self.bias is not None
        assert self.dilation == (1, 1) and self.groups == 1
        weight, bias = self.weight, self.bias
        if halved := torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            inputs, weight, bias = inputs.to(dtype), weight.to(dtype), bias.to(dtype)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        padding = int(self.padding[0]), int(self.padding[1])
        given = self.out_channels * self.kernel_size[0] * self.kernel_size[1]
        if halved or given > self.FEW * self.in_channels:
            geometry = self.stride, padding, self.output_padding
            return _Transposed.apply(inputs, weight, bias, geometry)
        parts = rows(inputs) @ weight.flatten(1)
        parts = parts.view(len(inputs), inputs.shape[2:].numel(), given).transpose(1, 2)
        sides = self._side(inputs, 0), self._side(inputs, 1)
        maps = fold(parts, sides, self.kernel_size, padding=padding, stride=self.stride)
        return maps + bias.view(-1, 1, 1)

    def _side(self, inputs: Tensor, axis: int) -> int:
        """Return the height (axis 0) or width (1) of the outputs."""
        reach = (inputs.shape[2 + axis] - 1) * self.stride[axis] + self.kernel_size[axis]
        return reach - 2 * int(self.padding[axis]) + self.output_padding[axis]


def quarter_sides(who_makes: str, height: int, width: int) -> tuple[int, int]:
    """Return a quarter of both sides of an image.  Raises UserError if there is none."""
    if height % 4 or width % 4:
        raise UserError(
            f"{who_makes} images with sides that are multiples of 4, not of {height}x{width}."
        )
    return height // 4, width // 4


def last_layer(tanh: bool) -> nn.Module:
    """Return the generator's last layer: tanh for -1..1, else a sigmoid for 0..1."""
    return nn.Tanh() if tanh else nn.Sigmoid()
