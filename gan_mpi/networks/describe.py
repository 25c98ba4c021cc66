"""The layers of a network with the shapes of their outputs and their parameters."""

import torch
from torch import Tensor, nn


def layer_table(network: nn.Sequential, inputs: tuple[int, ...]) -> list[tuple[str, str, int]]:
    """Return (layer, shape of its output, parameters) for samples of shape `inputs`."""
    samples, rows = torch.zeros(2, *inputs, dtype=torch.double), []
    for layer in network.eval():
        samples = layer(samples)
        parameters = sum(parameter.numel() for parameter in layer.parameters())
        rows.append((describe(layer), _shape(samples), parameters))
    return rows


def describe(layer: nn.Module) -> str:
    """Return a layer in a few words, such as 'Conv2d 5x5, stride 2, padding 0'."""
    name = type(layer).__name__
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        sides = "x".join(map(str, layer.kernel_size))
        return f"{name} {sides}, stride {layer.stride[0]}, padding {layer.padding[0]}"
    if isinstance(layer, nn.ZeroPad2d):
        before, after, *_ = layer.padding
        return f"{name}, {before} before and {after} after"
    if isinstance(layer, nn.LeakyReLU):
        return f"{name} {layer.negative_slope:g}"
    if hasattr(layer, "eps"):
        return f"{name}, epsilon {layer.eps:g}, momentum {layer.momentum:.4g}"
    return name


def _shape(samples: Tensor) -> str:
    return "x".join(map(str, samples.shape[1:]))
