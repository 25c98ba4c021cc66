"""The networks of the originals with other activations and normalisation, dropout, or labels."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import group_norm, layer_norm, normalize, one_hot
from torch.nn.utils.parametrize import register_parametrization

from gan_mpi.cluster.device import one_thread
from gan_mpi.networks.generator import Generator
from gan_mpi.networks.layers import View
from gan_mpi.parallel.batch_norm import BatchNorm
from gan_mpi.streams import Purpose, uniforms

SLOPE = 0.2
MOST = 2**16  # rows of a weight
FIRST_ITERATIONS = 15
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky": lambda: nn.LeakyReLU(SLOPE),
}
HIDDEN = (nn.ReLU, nn.LeakyReLU)


class InstanceNorm(nn.Module):
    """Normalises each sample by itself: a map (N, C, H, W) over its pixels, arXiv 1607.08022.

    Features (N, C), of which none has a spread of its own, are normalised over each other, as layer
    normalisation does, arXiv 1607.06450.
    """

    def __init__(self, features: int, eps: float) -> None:
        super().__init__()
        self.features, self.eps = features, eps
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.dim() == 2:
            return layer_norm(inputs, (self.features,), self.weight, self.bias, self.eps)
        return group_norm(inputs, self.features, self.weight, self.bias, self.eps)


class Dropout(nn.Module):
    """Drops a share of the units, or of whole maps, by uniform numbers that it is given.

    Srivastava et al., JMLR 15 (2014).  `units` numbers a sample.
    """

    def __init__(self, share: float, units: int) -> None:
        super().__init__()
        self.share, self.units = share, units

    def forward(self, inputs: Tensor, uniforms: Tensor) -> Tensor:
        kept = (uniforms >= self.share).to(inputs) / (1.0 - self.share)
        return inputs * kept.view(*kept.shape, *[1] * (inputs.dim() - 2))


def with_activation(network: nn.Sequential, name: str) -> nn.Sequential:
    """Return a network with another activation after its hidden layers."""
    return nn.Sequential(*(ACTIVATIONS[name]() if isinstance(m, HIDDEN) else m for m in network))


def activated_in_place(network: nn.Sequential) -> nn.Sequential:
    """Let hidden activations change what they are given, which no layer before them needs."""
    for layer in network:
        if isinstance(layer, HIDDEN):
            layer.inplace = True
    return network


def with_instance_norm(network: nn.Sequential) -> nn.Sequential:
    """Return a network with instance norm in the place of batch norm."""
    return nn.Sequential(
        *(InstanceNorm(len(m.weight), m.eps) if isinstance(m, BatchNorm) else m for m in network)
    )


def without_norm(network: nn.Sequential) -> nn.Sequential:
    """Return a network without batch norm."""
    return nn.Sequential(*(m for m in network if not isinstance(m, BatchNorm)))


def with_dropout(network: nn.Sequential, share: float) -> nn.Sequential:
    """Return a network with dropout after each hidden activation."""
    layers: list[nn.Module] = []
    units = 0
    for layer in network:
        layers.append(layer)
        if isinstance(layer, nn.Linear):
            units = layer.out_features
        elif isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            units = layer.out_channels
        elif isinstance(layer, View):
            units = layer.shape[0]
        elif isinstance(layer, HIDDEN):
            layers.append(Dropout(share, units))
    return nn.Sequential(*layers)


class SpectralNorm(nn.Module):
    """Divides a weight by its largest singular value.  Miyato et al., 1802.05957, algorithm 1.

    That value is followed by one power iteration a pass in training, on one thread, so that all
    ranks have the same to the bit.
    """

    def __init__(self, weight: Tensor, start: Tensor) -> None:
        """Begin the iteration with `start`, as many numbers as the weight has rows."""
        super().__init__()
        self.u: Tensor
        self.register_buffer("u", start.to(weight))
        for _ in range(FIRST_ITERATIONS):
            self._iterate(weight.flatten(1))

    @torch.no_grad()
    def _iterate(self, matrix: Tensor) -> Tensor:
        """Move u towards the left singular vector; return the right one."""
        with one_thread():
            right = normalize(matrix.T @ self.u, dim=0)
            if self.training:
                self.u.copy_(normalize(matrix @ right, dim=0))
        return right

    def forward(self, weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        with torch.autocast(weight.device.type, enabled=False):
            right = self._iterate(matrix)
            # The average of sites' vectors is shorter than 1.
            left = self.u.clone() if self.training else normalize(self.u, dim=0)
            return weight / (left @ (matrix @ right))


def normalise_spectrum(network: nn.Module, seed: int) -> None:
    """Give every weight of a network a spectral norm of 1."""
    layers = [m for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    for number, layer in enumerate(layers):
        weight = layer.weight.detach()
        drawn = uniforms(seed, Purpose.SPECTRAL, number, number + 1, MOST)[0]
        start = torch.from_numpy(drawn[: len(weight)] - 0.5)
        register_parametrization(layer, "weight", SpectralNorm(weight, start))


class WideGenerator(Generator):
    """A generator that is given more than latents: numbers for dropout, labels, or both.

    The numbers (N, masks), in 0..1, follow the latents in (N, latent_dim + masks); labels, int64
    (N,), join the latents as one-hot vectors, Mirza and Osindero, arXiv 1411.1784.
    """

    def __init__(self, layers: nn.Sequential, latent_dim: int, label_counts: Sequence[int]) -> None:
        """`layers` take latents and one-hot labels; `label_counts` are the data's, by class."""
        super().__init__()
        self.layers, self.latent_dim = layers, latent_dim
        self.label_counts = tuple(label_counts)
        self.masks = sum(m.units for m in layers if isinstance(m, Dropout))

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> Tensor:
        features, masks = inputs.split([self.latent_dim, self.masks], dim=1)
        if labels is not None:
            features = torch.cat(
                [features, one_hot(labels, len(self.label_counts)).to(features)], dim=1
            )
        for layer in self.layers:
            if isinstance(layer, Dropout):
                mine, masks = masks.tensor_split([layer.units], dim=1)
                features = layer(features, mine)
            else:
                features = layer(features)
        return features


class LabelledDiscriminator(nn.Module):
    """A discriminator that is given labels, int64 (N,).

    By projection, the features before its last layer are multiplied with a vector of the class,
    arXiv 1802.05637; or, auxiliary, it says the class itself, in (N, 1 + classes).
    """

    def __init__(self, layers: nn.Sequential, classes: int, auxiliary: bool) -> None:
        super().__init__()
        (last,) = [n for n, m in enumerate(layers) if isinstance(m, nn.Linear)][-1:]
        self.body, self.head = layers[:last], layers[last:]
        features = cast(nn.Linear, layers[last]).in_features
        self.classes = nn.Linear(features, classes, bias=auxiliary)
        self.auxiliary = auxiliary

    def forward(self, samples: Tensor, labels: Tensor) -> Tensor:
        features = self.body(samples)
        logits, of_classes = self.head(features), self.classes(features)
        if self.auxiliary:
            return torch.cat([logits, of_classes], dim=1)
        return logits + of_classes.gather(1, labels[:, None])
