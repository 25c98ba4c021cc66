"""The two players, and what they play for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from gan_mpi.config.optimizer import OptimizerConfig
from gan_mpi.game.batch import Batch, Draw
from gan_mpi.game.device_optimizers import ON_DEVICE
from gan_mpi.game.host import DeviceUpdate
from gan_mpi.game.losses import Loss
from gan_mpi.game.optimizers import ON_HOST, apply_update, make_optimizer
from gan_mpi.game.precision import Compute, plainly
from gan_mpi.networks.generator import Generator
from gan_mpi.parallel.batch_norm import (
    batch_norms,
    commit_running_statistics,
    normalised_apart,
)
from gan_mpi.parallel.bucket import GradientBucket

REAL_SUMS = ("loss_real", "D_real", "error_real", "logit_real")
FAKE_SUMS = ("loss_fake", "D_fake", "error_fake", "logit_fake")
G_SUMS = ("loss_G", "error_G")

Network = TypeVar("Network", bound=nn.Module)


class Judge(Protocol):
    """The discriminator."""

    def __call__(self, samples: Batch) -> Tensor:
        """Return its outputs (n, 1 or more), the logits first.  Collective (batch norm)."""


class Penalty(Protocol):
    """A term of D's loss that is not a loss of its logits."""

    name: str

    def __call__(self, judge: Judge, real: Batch | None, fake: Batch | None) -> Tensor | None:
        """Return it summed over this rank's share, None if it needs a batch that is none."""


class AfterUpdate(Protocol):
    """What is done after each update of a player."""

    def __call__(self, update: DeviceUpdate | None, /) -> None:
        """Do it; on a device as part of an update there."""


@dataclass
class Player(Generic[Network]):
    """A network and what trains it; `after_update` is called after each of its updates."""

    network: Network
    bucket: GradientBucket
    optimizer: torch.optim.Optimizer
    after_update: list[AfterUpdate] = field(default_factory=list)

    def update(self, update: DeviceUpdate | None = None) -> None:
        """Apply the averaged gradients, and commit the running statistics of batch norm.

        `update` is given where they are on a device.
        """
        are_finite = None if update is None else update.are_finite
        if are_finite is not None:
            self.bucket.gradients.masked_fill_(~are_finite, 0.0)
        apply_update(self.optimizer, update)
        commit_running_statistics(self.network, are_finite)
        for act in self.after_update:
            act(update)

    @property
    def lr(self) -> float:
        """The learning rate of this turn, or of the last one."""
        return self.optimizer.param_groups[0]["lr"]

    @lr.setter
    def lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def set_rates(self, lr: float, beta2: float | None) -> None:
        """Let the updates that follow have these, as OptimizerConfig has them."""
        self.lr = lr
        for group in self.optimizer.param_groups if beta2 is not None else ():
            if "betas" in group:
                group["betas"] = group["betas"][0], beta2
            else:
                group["b2"] = beta2 ** group["batch"]


def make_player(
    network: Network, config: OptimizerConfig, batch: int, figures: int = 0
) -> Player[Network]:
    """Return a player whose optimizer sees mean gradients over `batch` samples.

    There is room in its bucket for so many figures besides the usual ones.
    """
    bucket = GradientBucket(network, room=len(REAL_SUMS + FAKE_SUMS) + figures)
    kinds = ON_HOST if bucket.on_host else ON_DEVICE
    parameters = network.parameters()
    optimizer = make_optimizer(config.optimizer, parameters, config.settings_at(0), batch, kinds)
    return Player(network, bucket, optimizer)


@dataclass
class Game:
    """The two players and what they play for.

    What is done besides is handed over as functions: what D sees of a batch, and how that is
    changed before each of its passes, which a slope goes through; what it is told the samples are
    (None: 1 for reals, 0 for fakes), which fakes it gets in the place of new ones, penalties, and
    what both lose by the class of a sample.  `draws` are what these draw for a batch before it
    comes to them.  `compute` applies a network.
    """

    G: Player[Generator]
    D: Player[nn.Module]
    loss: Loss
    see: Callable[[Batch], Tensor] = lambda batch: batch.values
    augment: Callable[[Batch], Tensor] = lambda batch: batch.values
    target: Callable[[Batch], Tensor | None] = lambda batch: None
    recall: Callable[[Batch], Batch] = lambda fake: fake
    penalties: Sequence[Penalty] = ()
    class_loss: Callable[[Tensor, Batch], Tensor | None] = lambda outputs, batch: None
    draws: Sequence[Draw] = ()
    compute: Compute = plainly

    def fakes(self, latents: Batch) -> Batch:
        """Return G's samples of latents, without a gradient to G.  Collective (batch norm)."""
        with torch.no_grad():
            return self.generate(latents)

    def generate(self, latents: Batch) -> Batch:
        """Return G's samples (n, *shape) of latents (n, d).  Collective (batch norm)."""
        return replace(latents, values=self.compute(self.G.network, *latents.inputs))

    def judge(self, samples: Batch) -> Tensor:
        """Return D's outputs (n, 1 or more), the logits first.  Collective (batch norm)."""
        return self.compute(self.D.network, *self._augmented(samples).inputs)

    @property
    def judges_at_once(self) -> bool:
        """Whether several batches go through D as one, and share the messages of batch norm."""
        return _shares_messages(self.D.network)

    @property
    def draws_at_once(self) -> bool:
        """Whether fakes of several batches are drawn as one, and share messages of batch norm."""
        return _shares_messages(self.G.network)

    def judge_all(self, batches: Sequence[Batch]) -> list[Tensor]:
        """Return D's outputs of batches, each normalised by itself.  Collective (batch norm)."""
        return self._apply(self.D.network, [self._augmented(batch) for batch in batches])

    def _augmented(self, samples: Batch) -> Batch:
        return replace(samples, values=self.augment(samples))

    def all_fakes(self, latents: Sequence[Batch]) -> list[Batch]:
        """Return what fakes() does of batches, each normalised by itself.  Collective."""
        with torch.no_grad():
            samples = self._apply(self.G.network, latents)
        pairs = zip(latents, samples, strict=True)
        return [replace(batch, values=values) for batch, values in pairs]

    def _apply(self, network: nn.Module, batches: Sequence[Batch]) -> list[Tensor]:
        """Return what a network makes of batches, each normalised by itself."""
        if len(batches) == 1 or not _shares_messages(network):
            return [self.compute(network, *batch.inputs) for batch in batches]
        sizes = [len(batch) for batch in batches]
        inputs = zip(*(batch.inputs for batch in batches), strict=True)
        with normalised_apart(network, sizes):
            outputs = self.compute(network, *(torch.cat(each) for each in inputs))
        return list(outputs.split(sizes))

    def seen(self, samples: Batch) -> Batch:
        """Return samples as D sees them."""
        return replace(samples, values=self.see(samples))


def _shares_messages(network: nn.Module) -> bool:
    return any(not layer.local for layer in batch_norms(network))
