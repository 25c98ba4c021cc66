"""The classifier in whose features images are compared."""

import torch
from torch import Tensor, nn

FEATURES = 128
LEAST = 12  # pixels a side, of which the second pooling leaves one


class LeNet(nn.Module):
    """Images, uint8 (N, C, H, W), to features in -1..1, (N, 128), and to logits (N, classes).

    H and W are LEAST or more; raises ValueError otherwise.
    LeCun et al., Gradient-based learning applied to document recognition, Proc. IEEE 86 (1998),
    with ReLU and maximum pooling, more filters, and one dense layer where LeNet-5 has two: the
    features of a second one are little more than the ten classes, and so the Frechet distance
    between real sets varied by 25 % of itself from draw to draw, with one layer by 10 %.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        if min(height, width) < LEAST:
            raise ValueError(f"{height}x{width} is too small for two poolings")
        pooled = 32 * ((height // 2 - 4) // 2) * ((width // 2 - 4) // 2)
        self.features = nn.Sequential(
            nn.Conv2d(channels, 16, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(pooled, FEATURES),
            nn.Tanh(),
        )
        self.classify = nn.Linear(FEATURES, classes)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and logits."""
        features = self.features(pixels.to(self.classify.weight.dtype) / 255)
        return features, self.classify(features)


def probabilities(logits: Tensor) -> Tensor:
    """Return class probabilities (N, classes) in float64."""
    return torch.softmax(logits.double(), dim=1)
