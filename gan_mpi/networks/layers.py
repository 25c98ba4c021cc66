"""Initial weights, drawn from one stream a network so that they depend on the seed alone."""

import math

import torch
from torch import nn

from gan_mpi.streams import Purpose, uniforms


@torch.no_grad()
def xavier_as_cntk(network: nn.Module, seed: int, purpose: Purpose) -> None:
    """Draw the weights from U(+-sqrt(3/fan_in)), biases 0: C.xavier() of CNTK.

    Only the number of inputs counts, which is not what torch calls xavier.  Source:
    LearnableParameter::InitRandom of CNTK 2.
    """
    weights = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    total = sum(weight.numel() for weight in weights)
    stream = torch.from_numpy(uniforms(seed, purpose, 0, 1, total)[0])
    for weight, part in zip(
        weights, stream.split([w.numel() for w in weights]), strict=True
    ):
        bound = math.sqrt(3.0 / weight[0].numel())
        weight.copy_((2.0 * part - 1.0).view_as(weight) * bound)
    for parameter in network.parameters():
        if parameter.dim() == 1:
            parameter.zero_()
