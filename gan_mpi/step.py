"""One update of each player: loss, backward, average over ranks, optimizer."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gan_mpi.comm import Communicator
from gan_mpi.config import OptimizerConfig
from gan_mpi.losses import Loss
from gan_mpi.optimizers import apply_update, make_optimizer
from gan_mpi.parallel import (
    Averages,
    GradientBucket,
    average_gradients,
    commit_running_statistics,
    global_means,
)

REAL_SUMS = ("loss_real", "D_real", "error_real", "logit_real")
FAKE_SUMS = ("loss_fake", "D_fake", "error_fake", "logit_fake")
G_SUMS = ("loss_G", "error_G")


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


def make_player(network: nn.Module, config: OptimizerConfig, batch: int) -> Player:
    """Return a player whose optimizer sees mean gradients over `batch` samples."""
    bucket = GradientBucket(network, room=len(REAL_SUMS + FAKE_SUMS))
    optimizer = make_optimizer(
        config.optimizer, network.parameters(), config.settings, batch
    )
    return Player(network, bucket, optimizer)


@dataclass
class Game:
    """The two players and what they play for."""

    G: Player
    D: Player
    loss: Loss

    def fakes(self, latents: Tensor) -> Tensor:
        """Return G's samples (n, *shape), without a gradient to G.  Collective (batch norm)."""
        with torch.no_grad():
            return self.G.network(latents)

    def logits(self, samples: Tensor) -> Tensor:
        """Return D's logits (n,) of samples (n, *shape).  Collective (batch norm)."""
        return self.D.network(samples).squeeze(1)


def discriminator_step(
    comm: Communicator,
    game: Game,
    real: Tensor | None,
    fake: Tensor | None,
    stop: bool,
) -> Averages:
    """Compute D's mean gradient over the global batch; figures of reals and fakes.  Collective.

    `real` and `fake` (n, *shape) are this rank's share; n may be 0.  Where one is None, D
    learns from the other alone, with the whole of its loss.
    """
    D = game.D
    D.bucket.zero()
    figures = {} if real is None else _real_figures(game, game.logits(real))
    if fake is not None:
        figures |= _fake_figures(game, game.logits(fake))
    if real is None or fake is None:
        loss = figures.get("loss_real", figures.get("loss_fake"))
    else:
        loss = game.loss.discriminator(figures["loss_real"], figures["loss_fake"])
    assert loss is not None
    loss.backward()
    count = len(fake if real is None else real)  # type: ignore[arg-type]
    return average_gradients(comm, D.bucket, figures, count, stop)


def _real_figures(game: Game, logits: Tensor) -> dict[str, Tensor]:
    terms = (game.loss.real(logits), logits.sigmoid(), logits <= 0, logits)
    return {n: term.sum() for n, term in zip(REAL_SUMS, terms, strict=True)}


def _fake_figures(game: Game, logits: Tensor) -> dict[str, Tensor]:
    terms = (game.loss.fake(logits), logits.sigmoid(), logits > 0, logits)
    return {n: term.sum() for n, term in zip(FAKE_SUMS, terms, strict=True)}


def _generator_figures(game: Game, logits: Tensor) -> dict[str, Tensor]:
    terms = (game.loss.generator(logits), logits <= 0)
    return {n: term.sum() for n, term in zip(G_SUMS, terms, strict=True)}


def generator_step(
    comm: Communicator, game: Game, latents: Tensor, stop: bool
) -> Averages:
    """Compute G's mean gradient over the global batch; figures of G_SUMS.  Collective.

    D is frozen meanwhile: no gradient of it is computed or sent.
    """
    G = game.G
    G.bucket.zero()
    game.D.network.requires_grad_(False)
    figures = _generator_figures(game, game.logits(G.network(latents)))
    figures["loss_G"].backward()
    game.D.network.requires_grad_(True)
    return average_gradients(comm, G.bucket, figures, len(latents), stop)


@torch.no_grad()
def measure(
    comm: Communicator, game: Game, real: Tensor, fake: Tensor
) -> dict[str, float]:
    """Return the mean figures of both players; nobody learns.  Collective."""
    figures = _real_figures(game, game.logits(real))
    fake_logits = game.logits(fake)
    figures |= _fake_figures(game, fake_logits) | _generator_figures(game, fake_logits)
    return global_means(comm, figures, len(real))
