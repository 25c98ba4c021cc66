"""The dense networks of CNTK's Basic_GAN_Distributed.py: one hidden layer of 128 each."""

import math

from torch import Tensor, nn

HIDDEN = 128


class DenseGenerator(nn.Module):
    """Latents (N, latent_dim) to images (N, C, H, W) in -1..1."""

    def __init__(self, latent_dim: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, math.prod(image_shape)),
            nn.Tanh(),
        )

    def forward(self, latents: Tensor) -> Tensor:
        return self.layers(latents).view(-1, *self.image_shape)


class DenseDiscriminator(nn.Module):
    """Images (N, C, H, W) to logits (N,); D(x) is their sigmoid."""

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(image_shape), HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).squeeze(1)
