"""One update of each player: loss, backward, average over ranks, optimizer."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from gan_mpi.game.batch import Batch
from gan_mpi.game.players import FAKE_SUMS, G_SUMS, REAL_SUMS, Game
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.batch_norm import batch_norms
from gan_mpi.parallel.bucket import Averages, average_gradients, global_means

Pair = tuple[Batch | None, Batch | None]  # of reals and fakes
T = TypeVar("T")


def discriminator_update(
    comm: Communicator, game: Game, parts: Iterable[Pair], stop: bool
) -> Averages:
    """Compute D's mean gradient over the global batch; figures of reals and fakes.  Collective.

    `parts` are this rank's share of reals and fakes, in one or several, whose sums are added.
    Where one of the two is None, D learns from the other alone, with the whole of its loss.
    """
    D, sums, count = game.D, dict[str, Tensor](), 0
    D.bucket.zero()
    for real, fake in _each(parts, D.network):
        _add(sums, _learn_D(comm, game, real, fake))
        count += max(len(batch) for batch in (real, fake) if batch is not None)
    return average_gradients(comm, D.bucket, sums, count, stop)


def _each(parts: Iterable[T], network: nn.Module) -> Iterator[T]:
    """Yield the parts of a share, for each of which the network's buffers are as for the first.

    Spectral norm moves its vectors whenever D is applied, and should do so as often as for a
    share in one part.  Statistics of a batch have no parts.
    """
    kept = [] if any(batch_norms(network)) else [each.clone() for each in network.buffers()]
    for number, part in enumerate(parts):
        if number:
            for buffer, before in zip(network.buffers(), kept, strict=True):
                buffer.copy_(before)
        yield part


def _add(sums: dict[str, Tensor], figures: dict[str, Tensor]) -> None:
    """Add the 0-d figures of a part to those of the parts before it, in float64."""
    for name, figure in figures.items():
        part = figure.detach().double()
        sums[name] = sums[name] + part if name in sums else part


def _learn_D(
    comm: Communicator, game: Game, real: Batch | None, fake: Batch | None
) -> dict[str, Tensor]:
    """Add the gradients of D on one part to its bucket; return figures.  Collective."""
    D, figures = game.D, dict[str, Tensor]()
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
    return figures | _backward(comm, loss, added)


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


def generator_update(
    comm: Communicator, game: Game, parts: Iterable[Batch], stop: bool
) -> Averages:
    """Compute G's mean gradient over the global batch; figures of G_SUMS.  Collective.

    `parts` are this rank's share of latents, in one or several, whose sums are added.  D is frozen
    meanwhile: no gradient of it is computed or sent.
    """
    G, D, sums, count = game.G, game.D, dict[str, Tensor](), 0
    G.bucket.zero()
    D.network.requires_grad_(False)
    for latents in _each(parts, D.network):
        _add(sums, _learn_G(comm, game, latents))
        count += len(latents)
    D.network.requires_grad_(True)
    return average_gradients(comm, G.bucket, sums, count, stop)


def _learn_G(comm: Communicator, game: Game, latents: Batch) -> dict[str, Tensor]:
    """Add the gradients of G on one part to its bucket; return figures.  Collective."""
    with comm.clock.phase("forward"):
        fake = game.seen(game.generate(latents))
        outputs = game.judge(fake)
        figures = _generator_figures(game, outputs[:, 0])
        added = {"class_loss_G": game.class_loss(outputs, fake)}
    return figures | _backward(comm, figures["loss_G"], added)


@torch.no_grad()
def measure(
    comm: Communicator, game: Game, parts: Iterable[tuple[Batch, Batch]]
) -> dict[str, float]:
    """Return the mean figures of both players on reals and fakes; nobody learns.  Collective."""
    sums, count = dict[str, Tensor](), 0
    for real, fake in _each(parts, game.D.network):
        with comm.clock.phase("forward"):
            real, fake = game.seen(real), game.seen(fake)
            of_real, of_fake = (outputs[:, 0] for outputs in game.judge_both(real, fake))
            figures = _real_figures(game, of_real, real)
            figures |= _fake_figures(game, of_fake, fake) | _generator_figures(game, of_fake)
        _add(sums, figures)
        count += len(real)
    return global_means(comm, sums, count)
