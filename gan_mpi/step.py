"""One update of each player: loss, backward, average over ranks, optimizer."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gan_mpi.comm import Communicator
from gan_mpi.config import OptimizerConfig
from gan_mpi.losses import CntkLoss
from gan_mpi.optimizers import apply_update, make_optimizer
from gan_mpi.parallel import (
    Averages,
    GradientBucket,
    average_gradients,
    commit_running_statistics,
)

D_SUMS = ("loss_D", "D_real", "D_fake", "error_real", "error_fake")
G_SUMS = ("loss_G",)


@dataclass
class Player:
    """A network and what trains it."""

    network: nn.Module
    bucket: GradientBucket
    optimizer: torch.optim.Optimizer

    def update(self, lr: float) -> None:
        """Apply the averaged gradients, and commit the running statistics of batch norm."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        apply_update(self.optimizer)
        commit_running_statistics(self.network)


def make_player(
    network: nn.Module, config: OptimizerConfig, batch: int, sums: Sequence[str]
) -> Player:
    """Return a player whose optimizer sees mean gradients over `batch` samples."""
    bucket = GradientBucket(network, len(sums))
    optimizer = make_optimizer(
        config.optimizer, network.parameters(), config.settings, batch
    )
    return Player(network, bucket, optimizer)


@dataclass
class Game:
    """The two players and what they play for."""

    G: Player
    D: Player
    loss: CntkLoss


def discriminator_step(
    comm: Communicator, game: Game, real: Tensor, latents: Tensor, stop: bool
) -> Averages:
    """Compute D's mean gradient over the global batch; means are those of D_SUMS.  Collective.

    `real` (n, C, H, W) in -1..1 and `latents` (n, latent_dim) are this rank's share; n may be 0.
    """
    D = game.D
    D.bucket.zero()
    with torch.no_grad():
        fake = game.G.network(latents)
    real_logits, fake_logits = D.network(real), D.network(fake)
    loss = game.loss.discriminator(real_logits, fake_logits).sum()
    loss.backward()
    scores = [
        real_logits.sigmoid().sum(),
        fake_logits.sigmoid().sum(),
        (real_logits <= 0).sum(),
        (fake_logits > 0).sum(),
    ]
    return average_gradients(comm, D.bucket, [loss, *scores], len(real), stop)


def generator_step(
    comm: Communicator, game: Game, latents: Tensor, stop: bool
) -> Averages:
    """Compute G's mean gradient over the global batch; means are those of G_SUMS.  Collective.

    D is frozen meanwhile: no gradient of it is computed or sent.
    """
    G = game.G
    G.bucket.zero()
    game.D.network.requires_grad_(False)
    loss = game.loss.generator(game.D.network(G.network(latents))).sum()
    loss.backward()
    game.D.network.requires_grad_(True)
    return average_gradients(comm, G.bucket, [loss], len(latents), stop)
