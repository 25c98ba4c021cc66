"""One update of each player: loss, backward, average over ranks, optimizer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gan_mpi.batch import Batch
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


class Penalty(Protocol):
    """A term of D's loss that is not a loss of its logits."""

    name: str

    def __call__(
        self, network: nn.Module, real: Batch | None, fake: Batch | None
    ) -> Tensor | None:
        """Return it summed over this rank's share, None if it needs a batch that is none."""


@dataclass
class Player:
    """A network and what trains it; `after_update` is called after each of its updates."""

    network: nn.Module
    bucket: GradientBucket
    optimizer: torch.optim.Optimizer
    after_update: list[Callable[[], None]] = field(default_factory=list)

    def update(self, lr: float) -> None:
        """Apply the averaged gradients, and commit the running statistics of batch norm."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        apply_update(self.optimizer)
        commit_running_statistics(self.network)
        for act in self.after_update:
            act()


def make_player(
    network: nn.Module, config: OptimizerConfig, batch: int, figures: int = 0
) -> Player:
    """Return a player whose optimizer sees mean gradients over `batch` samples.

    There is room in its bucket for so many figures besides the usual ones.
    """
    bucket = GradientBucket(network, room=len(REAL_SUMS + FAKE_SUMS) + figures)
    optimizer = make_optimizer(
        config.optimizer, network.parameters(), config.settings, batch
    )
    return Player(network, bucket, optimizer)


@dataclass
class Game:
    """The two players and what they play for.

    What is done besides is handed over as functions: what D sees of a batch, what it is told the
    samples are (None: 1 for reals, 0 for fakes), which fakes it gets in the place of new ones,
    penalties, and what both lose by the class of a sample.
    """

    G: Player
    D: Player
    loss: Loss
    see: Callable[[Batch], Tensor] = lambda batch: batch.values
    target: Callable[[Batch], Tensor | None] = lambda batch: None
    recall: Callable[[Batch], Batch] = lambda fake: fake
    penalties: Sequence[Penalty] = ()
    class_loss: Callable[[Tensor, Batch], Tensor | None] = lambda outputs, batch: None
    average: Any = None  # extras.average.Average, if samples are drawn from one
    replay: Any = None  # extras.replay.Replay, if `recall` is its

    @property
    def sampler(self) -> nn.Module:
        """The generator that samples are drawn from: the average of G, if there is one."""
        return self.G.network if self.average is None else self.average.network

    @property
    def networks(self) -> dict[str, nn.Module]:
        """All networks that must be alike on all ranks, by name."""
        found = {"G": self.G.network, "D": self.D.network}
        return found if self.average is None else {**found, "G_ema": self.sampler}

    def fakes(self, latents: Batch) -> Batch:
        """Return G's samples of latents, without a gradient to G.  Collective (batch norm)."""
        with torch.no_grad():
            return self.generate(latents)

    def generate(self, latents: Batch) -> Batch:
        """Return G's samples (n, *shape) of latents (n, d).  Collective (batch norm)."""
        return replace(latents, values=self.G.network(*latents.inputs))

    def judge(self, samples: Batch) -> Tensor:
        """Return what D says of samples, (n, 1 or more): the logits first.  Collective (batch norm)."""
        return self.D.network(*samples.inputs)

    def seen(self, samples: Batch) -> Batch:
        """Return samples as D sees them."""
        return replace(samples, values=self.see(samples))


def discriminator_step(
    comm: Communicator,
    game: Game,
    real: Batch | None,
    fake: Batch | None,
    stop: bool,
) -> Averages:
    """Compute D's mean gradient over the global batch; figures of reals and fakes.  Collective.

    `real` and `fake` are this rank's share.  Where one is None, D learns from the other alone,
    with the whole of its loss.
    """
    D = game.D
    D.bucket.zero()
    figures: dict[str, Tensor] = {}
    more: dict[str, Tensor | None] = {}
    if real is not None:
        real = game.seen(real)
        outputs = game.judge(real)
        figures |= _real_figures(game, outputs[:, 0], real)
        more["class_loss_real"] = game.class_loss(outputs, real)
    if fake is not None:
        fake = game.seen(game.recall(fake))
        outputs = game.judge(fake)
        figures |= _fake_figures(game, outputs[:, 0], fake)
        more["class_loss_fake"] = game.class_loss(outputs, fake)
    if real is None or fake is None:
        loss = figures.get("loss_real", figures.get("loss_fake"))
    else:
        loss = game.loss.discriminator(figures["loss_real"], figures["loss_fake"])
    assert loss is not None
    for penalty in game.penalties:
        more[f"penalty_{penalty.name}"] = penalty(D.network, real, fake)
    _backward(loss, more, figures)
    count = len(fake if real is None else real)  # type: ignore[arg-type]
    return average_gradients(comm, D.bucket, figures, count, stop)


def _backward(
    loss: Tensor, more: dict[str, Tensor | None], figures: dict[str, Tensor]
) -> None:
    """Back-propagate a loss and what comes on top of it, which is added to the figures."""
    added = {name: term for name, term in more.items() if term is not None}
    for term in added.values():
        loss = loss + term
    loss.backward()
    figures |= added


def _real_figures(game: Game, logits: Tensor, real: Batch) -> dict[str, Tensor]:
    losses = game.loss.real(logits, game.target(real))
    terms = (losses, logits.sigmoid(), logits <= 0, logits)
    return {n: term.sum() for n, term in zip(REAL_SUMS, terms, strict=True)}


def _fake_figures(game: Game, logits: Tensor, fake: Batch) -> dict[str, Tensor]:
    losses = game.loss.fake(logits, game.target(fake))
    terms = (losses, logits.sigmoid(), logits > 0, logits)
    return {n: term.sum() for n, term in zip(FAKE_SUMS, terms, strict=True)}


def _generator_figures(game: Game, logits: Tensor) -> dict[str, Tensor]:
    terms = (game.loss.generator(logits), logits <= 0)
    return {n: term.sum() for n, term in zip(G_SUMS, terms, strict=True)}


def generator_step(
    comm: Communicator, game: Game, latents: Batch, stop: bool
) -> Averages:
    """Compute G's mean gradient over the global batch; figures of G_SUMS.  Collective.

    D is frozen meanwhile: no gradient of it is computed or sent.
    """
    G = game.G
    G.bucket.zero()
    game.D.network.requires_grad_(False)
    fake = game.seen(game.generate(latents))
    outputs = game.judge(fake)
    figures = _generator_figures(game, outputs[:, 0])
    more = {"class_loss_G": game.class_loss(outputs, fake)}
    _backward(figures["loss_G"], more, figures)
    game.D.network.requires_grad_(True)
    return average_gradients(comm, G.bucket, figures, len(latents), stop)


@torch.no_grad()
def measure(
    comm: Communicator, game: Game, real: Batch, fake: Batch
) -> dict[str, float]:
    """Return the mean figures of both players; nobody learns.  Collective."""
    real, fake = game.seen(real), game.seen(fake)
    figures = _real_figures(game, game.judge(real)[:, 0], real)
    logits = game.judge(fake)[:, 0]
    figures |= _fake_figures(game, logits, fake) | _generator_figures(game, logits)
    return global_means(comm, figures, len(real))
