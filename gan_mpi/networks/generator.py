"""What every generator says of itself."""

from torch import nn


class Generator(nn.Module):
    """A network from latents (N, latent_dim) to samples, and what it is given besides."""

    masks: int = 0  # uniform numbers a sample, for dropout, which follow the latents
    label_counts: tuple[int, ...] = ()  # of the data, by class, if it is given labels


class PlainGenerator(Generator, nn.Sequential):
    """Layers one after another, which are given latents alone."""
