"""Losses of the two players, per sample, from the discriminator's logits."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from torch import Tensor
from torch.nn.functional import relu, softplus

T = TypeVar("T", float, Tensor)


class Loss(ABC):
    """What each player loses by a sample; a logit above 0 says real, one below says fake.

    `weight` multiplies the sum of D's two terms.  `targets` (n,), if D is told others than 1 for
    reals and 0 for fakes, are not for hinge, wasserstein and relativistic.  `of_a_critic` says that
    logits are heights of a slope, of which only differences mean something, and that D's loss has
    no least.  `is_paired` says that what it is given of a sample is how far its logit is above that
    of its rival: of a real, the fake of the same number in the global batch, and the other way
    round.
    """

    weight: float = 1.0
    of_a_critic: ClassVar[bool] = False
    is_paired: ClassVar[bool] = False

    @abstractmethod
    def real(self, logits: Tensor, targets: Tensor | None = None) -> Tensor:
        """Return D's loss of each real, (n,)."""

    @abstractmethod
    def fake(self, logits: Tensor, targets: Tensor | None = None) -> Tensor:
        """Return D's loss of each fake, (n,)."""

    @abstractmethod
    def generator(self, fake_logits: Tensor) -> Tensor:
        """Return G's loss of each fake, (n,)."""

    def score(self, logits: Tensor) -> Tensor:
        """Return what D says of each sample, 0..1: 1 is real; of a critic its height."""
        return logits.sigmoid()

    def discriminator(self, real: T, fake: T) -> T:
        """Return D's loss from its two terms."""
        return self.weight * (real + fake)


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross-entropy with D(x) = sigmoid(logit), and the non-saturating loss for G.

    Goodfellow et al., arXiv 1406.2661.  softplus(-s) is -log D and softplus(s) is -log(1 - D),
    exact where D rounds to 0 or 1.  `constant` is added to G's loss.
    """

    weight: float = 1.0
    constant: float = 0.0

    def real(self, logits: Tensor, targets: Tensor | None = None) -> Tensor:
        """Return -log D(x) of each real image; 0.693 where D is 1/2."""
        return softplus(-logits) if targets is None else _soft(logits, targets)

    def fake(self, logits: Tensor, targets: Tensor | None = None) -> Tensor:
        """Return -log(1 - D(G(z))) of each fake; 0.693 where D is 1/2."""
        return softplus(logits) if targets is None else _soft(logits, targets)

    def generator(self, fake_logits: Tensor) -> Tensor:
        """Return `constant` - log D(G(z)) of each fake, the non-saturating loss."""
        return self.constant + softplus(-fake_logits)


def _soft(logits: Tensor, targets: Tensor) -> Tensor:
    """Return -t log D - (1 - t) log(1 - D) of each sample."""
    return softplus(logits) - targets * logits


@dataclass(frozen=True)
class Minimax(CrossEntropy):
    """Cross-entropy, and for G its negative: the game of arXiv 1406.2661, equation 1."""

    def generator(self, fake_logits: Tensor) -> Tensor:
        """Return log(1 - D(G(z))) of each fake; -0.693 where D is 1/2."""
        return -softplus(fake_logits)


@dataclass(frozen=True)
class Relativistic(CrossEntropy):
    """Cross-entropy of pairs: a real should have a higher logit than its fake, or a lower one.

    Both terms of D are softplus(-(D(x) - D(G(z)))), and G has softplus(-(D(G(z)) - D(x))).
    Jolicoeur-Martineau, arXiv 1807.00734, of pairs as in Huang et al., arXiv 2501.05441, 1.
    """

    weight: float = 0.5
    is_paired = True


class LeastSquares(Loss):
    """Half the squared distance of D = (1 + logit) / 2 to 1 or 0.  Mao et al., 1611.04076, 9."""

    def real(self, logits: Tensor, targets: Tensor | None = None) -> Tensor:
        """Return (D - 1)^2 / 2 of each real; 1/8 where D is 1/2."""
        return 0.5 * ((1 + logits) / 2 - (1.0 if targets is None else targets)).square()

    def fake(self, logits: Tensor, targets: Tensor | None = None) -> Tensor:
        """Return D^2 / 2 of each fake; 1/8 where D is 1/2."""
        return 0.5 * ((1 + logits) / 2 - (0.0 if targets is None else targets)).square()

    def score(self, logits: Tensor) -> Tensor:
        """Return D of each sample, kept in 0..1."""
        return ((1 + logits) / 2).clamp(0, 1)

    def generator(self, fake_logits: Tensor) -> Tensor:
        """Return (D - 1)^2 / 2 of each fake."""
        return self.real(fake_logits)


class Hinge(Loss):
    """Hinge loss, margin 1.  Lim and Ye, arXiv 1705.02894; Miyato et al., 1802.05957."""

    def real(self, logits: Tensor, targets: Tensor | None = None) -> Tensor:
        """Return max(0, 1 - logit) of each real."""
        return relu(1 - logits)

    def fake(self, logits: Tensor, targets: Tensor | None = None) -> Tensor:
        """Return max(0, 1 + logit) of each fake."""
        return relu(1 + logits)

    def generator(self, fake_logits: Tensor) -> Tensor:
        """Return -logit of each fake."""
        return -fake_logits


class Wasserstein(Loss):
    """D as the critic of a transport distance, if its slope is bounded.  arXiv 1701.07875."""

    of_a_critic = True

    def score(self, logits: Tensor) -> Tensor:
        """Return the height of each sample, of which differences alone mean something."""
        return logits

    def real(self, logits: Tensor, targets: Tensor | None = None) -> Tensor:
        """Return -logit of each real."""
        return -logits

    def fake(self, logits: Tensor, targets: Tensor | None = None) -> Tensor:
        """Return the logit of each fake."""
        return logits

    def generator(self, fake_logits: Tensor) -> Tensor:
        """Return -logit of each fake."""
        return -fake_logits


LOSSES: dict[str, Loss] = {
    "sum": CrossEntropy(constant=1.0),  # CNTK's GAN programs
    "mean": CrossEntropy(weight=0.5),  # Lightning's basic GAN; PaddlePaddle's demo
    "nonsaturating": CrossEntropy(),
    "minimax": Minimax(),
    "least-squares": LeastSquares(),
    "hinge": Hinge(),
    "wasserstein": Wasserstein(),
    "relativistic": Relativistic(),
}
