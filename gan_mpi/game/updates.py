"""One update of each player: loss, backward, average over ranks, optimizer."""

from functools import partial

import torch
from torch import Tensor

from gan_mpi.game.batch import Batch
from gan_mpi.game.players import FAKE_SUMS, G_SUMS, REAL_SUMS, Game
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.bucket import Averages, average_gradients, global_means


def discriminator_update(
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
    added: dict[str, Tensor | None] = {}
    with comm.clock.phase("forward"):
        real = None if real is None else game.seen(real)
        fake = None if fake is None else game.seen(game.recall(fake))
        for batch, outputs in _judge(game, real, fake):
            of_batch = _real_figures if batch is real else _fake_figures
            figures |= of_batch(game, outputs[:, 0], batch)
            added[f"class_loss_{batch.kind}"] = game.class_loss(outputs, batch)
        loss = _discriminator_loss(game, figures)
        for penalty in game.penalties:
            added[f"penalty_{penalty.name}"] = penalty(partial(game.compute, D.network), real, fake)
    figures |= _backward(comm, loss, added)
    count = max(len(batch) for batch in (real, fake) if batch is not None)
    return average_gradients(comm, D.bucket, figures, count, stop)


def _judge(game: Game, real: Batch | None, fake: Batch | None) -> list[tuple[Batch, Tensor]]:
    """Return the batches that there are with D's outputs.  Collective (batch norm)."""
    if real is not None and fake is not None:
        return list(zip((real, fake), game.judge_both(real, fake), strict=True))
    return [(batch, game.judge(batch)) for batch in (real, fake) if batch is not None]


def _discriminator_loss(game: Game, figures: dict[str, Tensor]) -> Tensor:
    """Return the loss of reals and fakes together, or of those that there are."""
    terms = [figures[name] for name in ("loss_real", "loss_fake") if name in figures]
    return game.loss.discriminator(*terms) if len(terms) == 2 else terms[0]


def _backward(
    comm: Communicator, loss: Tensor, added: dict[str, Tensor | None]
) -> dict[str, Tensor]:
    """Back-propagate a loss and what comes on top of it; return the latter.  Collective."""
    terms = {name: term for name, term in added.items() if term is not None}
    with comm.clock.phase("backward"):
        for term in terms.values():
            loss = loss + term
        loss.backward()
    return terms


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


def generator_update(comm: Communicator, game: Game, latents: Batch, stop: bool) -> Averages:
    """Compute G's mean gradient over the global batch; figures of G_SUMS.  Collective.

    D is frozen meanwhile: no gradient of it is computed or sent.
    """
    G = game.G
    G.bucket.zero()
    game.D.network.requires_grad_(False)
    with comm.clock.phase("forward"):
        fake = game.seen(game.generate(latents))
        outputs = game.judge(fake)
        figures = _generator_figures(game, outputs[:, 0])
        added = {"class_loss_G": game.class_loss(outputs, fake)}
    figures |= _backward(comm, figures["loss_G"], added)
    game.D.network.requires_grad_(True)
    return average_gradients(comm, G.bucket, figures, len(latents), stop)


@torch.no_grad()
def measure(comm: Communicator, game: Game, real: Batch, fake: Batch) -> dict[str, float]:
    """Return the mean figures of both players; nobody learns.  Collective."""
    with comm.clock.phase("forward"):
        real, fake = game.seen(real), game.seen(fake)
        of_real, of_fake = (outputs[:, 0] for outputs in game.judge_both(real, fake))
        figures = _real_figures(game, of_real, real)
        figures |= _fake_figures(game, of_fake, fake) | _generator_figures(game, of_fake)
    return global_means(comm, figures, len(real))
