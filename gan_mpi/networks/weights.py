"""Initial weights, drawn from one stream a network so that they depend on the seed alone."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gan_mpi.networks.variations import InstanceNorm
from gan_mpi.parallel.batch_norm import BatchNorm
from gan_mpi.streams import Purpose, box_muller, uniforms

# Whose weights are scales, and not matrices.
NORMS = (BatchNorm, InstanceNorm)


@dataclass(frozen=True)
class Draw:
    """A distribution: U(centre +- spread), or N(centre, spread^2) if `normal`."""

    centre: float
    spread: float = 0.0
    normal: bool = False


# What a parameter is drawn from, by its layer, its name ("weight" or "bias") and fan-in.
Rule = Callable[[nn.Module, str, int], Draw]


@torch.no_grad()
def draw_weights(network: nn.Module, seed: int, purpose: Purpose, rule: Rule) -> None:
    """Draw every parameter of a network, layer by layer, by a rule."""
    found: list[tuple[nn.Parameter, Draw]] = []
    for layer in network.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            found.append((parameter, rule(layer, name, fan_in(layer))))
    sizes = [_words(parameter, draw) for parameter, draw in found]
    stream = uniforms(seed, purpose, 0, 1, sum(sizes))[0]
    parts = np.split(stream, np.cumsum(sizes)[:-1])
    for (parameter, draw), part in zip(found, parts, strict=True):
        unit = box_muller(part) if draw.normal else 2.0 * part - 1.0
        drawn = unit[: parameter.numel()] if len(part) else np.zeros(parameter.numel())
        parameter.copy_(torch.from_numpy(draw.centre + draw.spread * drawn).view_as(parameter))


def _words(parameter: Tensor, draw: Draw) -> int:
    if draw.spread == 0:
        return 0
    return parameter.numel() + (parameter.numel() % 2 if draw.normal else 0)


def fan_in(layer: nn.Module) -> int:
    """Return the number of inputs of one output of a layer, as torch counts them."""
    weight = getattr(layer, "weight", None)
    return weight[0].numel() if isinstance(weight, Tensor) and weight.dim() > 1 else 1


def xavier_as_cntk(layer: nn.Module, name: str, fan_in: int) -> Draw:
    """Weights from U(+-sqrt(3/fan_in)), biases 0: C.xavier() of CNTK.

    Only the number of inputs counts, which is not what torch calls xavier.  Source:
    LearnableParameter::InitRandom of CNTK 2.
    """
    if isinstance(layer, NORMS):
        return Draw(1.0 if name == "weight" else 0.0)
    return Draw(0.0, math.sqrt(3.0 / fan_in) if name == "weight" else 0.0)


def dcgan_normal(layer: nn.Module, name: str, fan_in: int) -> Draw:
    """Weights from N(0, 0.02), biases 0, a norm's scale 1: CNTK 206B."""
    if name == "bias":
        return Draw(0.0)
    return Draw(1.0) if isinstance(layer, NORMS) else Draw(0.0, 0.02, normal=True)


def paddle_normal(layer: nn.Module, name: str, fan_in: int) -> Draw:
    """As dcgan_normal, with a norm's scale from N(1, 0.02): Paddle's gan_conf_image.py."""
    if name == "bias":
        return Draw(0.0)
    return Draw(float(isinstance(layer, NORMS)), 0.02, normal=True)


def paddle_smart(layer: nn.Module, name: str, fan_in: int) -> Draw:
    """Weights from N(0, 1/fan_in), biases 1, a norm's scale from N(1, 0.02).

    Paddle's gan_conf.py: "initial_smart" for the weights, bias_attr of mean 1 throughout.
    """
    if name == "bias":
        return Draw(1.0)
    if isinstance(layer, NORMS):
        return Draw(1.0, 0.02, normal=True)
    return Draw(0.0, 1.0 / math.sqrt(fan_in), normal=True)


def normal_by_gain(layer: nn.Module, name: str, fan_in: int) -> Draw:
    """Weights from N(0, gain^2 / fan_in), where a layer's gain is 1 if it has none; biases 0.

    Numbers that belong to no inputs, the maps of modern's Basis, are from N(0, 1).
    """
    if name == "bias":
        return Draw(0.0)
    if not isinstance(layer, (nn.Linear, nn.Conv2d)):
        return Draw(0.0, 1.0, normal=True)
    return Draw(0.0, float(getattr(layer, "gain", 1.0)) / math.sqrt(fan_in), normal=True)


def torch_default(layer: nn.Module, name: str, fan_in: int) -> Draw:
    """Weights and biases from U(+-1/sqrt(fan_in)), as torch.nn.Linear draws them."""
    if isinstance(layer, NORMS):
        return Draw(1.0 if name == "weight" else 0.0)
    return Draw(0.0, 1.0 / math.sqrt(fan_in))
