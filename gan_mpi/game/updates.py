"""One update of each player: loss, backward, average over ranks, optimizer."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from gan_mpi.game.batch import Batch
from gan_mpi.game.players import FAKE_SUMS, G_SUMS, REAL_SUMS, Game
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.average import Averages, average_gradients, global_means
from gan_mpi.parallel.batch_norm import batch_norms
from gan_mpi.parallel.bucket import GradientBucket
from gan_mpi.parallel.staging import nothing

Pair = tuple[Batch | None, Batch | None]  # of reals and fakes
Figures = dict[str, Tensor]  # 0-d sums over samples, by name


class Learned(NamedTuple):
    """What an update of D has done with reals before there are fakes.

    It has learned from them; or, as a loss of pairs compares both, has but its outputs of them.
    """

    figures: Figures
    outputs: Tensor | None = None


T = TypeVar("T")


def discriminator_update(
    comm: Communicator,
    game: Game,
    parts: Iterable[Pair],
    stop: bool,
    meanwhile: Callable[[], None] = nothing,
    learned: Learned | None = None,
    penalised: bool = True,
) -> Averages:
    """Compute D's mean gradient over the global batch; figures of reals and fakes.  Collective.

    `parts` are this rank's share of reals, as D sees them, and fakes, in one or several, whose sums
    are added.  Where one of the two is None, D learns from the other alone, with the whole of its
    loss.  `learned` is what learn_reals() has made of the first part's reals, if it has.
    `penalised` says that the game's penalties count.  `meanwhile` is as average_gradients() has it.
    """
    D, sums, count = game.D, Figures(), 0
    if learned is None:
        D.bucket.zero()
    for real, fake in _each(parts, D.network):
        _add(sums, _learn_D(comm, game, real, fake, learned, penalised))
        learned = None
        count += max(len(batch) for batch in (real, fake) if batch is not None)
    return average_gradients(comm, D.bucket, sums, count, stop, meanwhile)


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


def _add(sums: Figures, figures: Figures) -> None:
    """Add the 0-d figures of a part to those of the parts before it, in float64."""
    for name, figure in figures.items():
        part = figure.detach()
        sums[name] = sums[name].double() + part.double() if name in sums else part


def _learn_D(
    comm: Communicator,
    game: Game,
    real: Batch | None,
    fake: Batch | None,
    learned: Learned | None,
    penalised: bool,
) -> Figures:
    """Add the gradients of D on one part to its bucket; return figures.  Collective."""
    if fake is not None:
        with comm.clock.phase("forward"):
            fake = game.seen(game.recall(fake))
    batches = [batch for batch in (real, fake) if batch is not None]
    weight = game.loss.weight if len(batches) == 2 else 1.0
    at_once = game.judges_at_once or game.loss.is_paired
    together = [batches] if at_once else [[batch] for batch in batches]
    figures, outputs = Figures(), None
    if learned is not None:
        figures, outputs = learned
        if outputs is None:
            assert len(together) == 2, "reals and fakes go through D together"
            together = together[1:]
    for group in together:
        is_last = group is together[-1]
        penalties = partial(_penalties, game, real, fake) if penalised else Figures
        figures |= _learn_from(comm, game, group, weight, penalties if is_last else None, outputs)
    return figures


def learn_reals(comm: Communicator, game: Game, real: Batch) -> Learned:
    """Begin an update of D with reals, where batch norm does not see them together with fakes."""
    game.D.bucket.zero()
    if game.loss.is_paired:
        with comm.clock.phase("forward"):
            return Learned(Figures(), game.judge(real))
    return Learned(_learn_from(comm, game, [real], game.loss.weight, None))


def _learn_from(
    comm: Communicator,
    game: Game,
    batches: Sequence[Batch],
    weight: float,
    penalties: Callable[[], Figures] | None,
    ahead: Tensor | None = None,
) -> Figures:
    """Add the gradients of D on some batches to its bucket; return figures.  Collective.

    `penalties` come with the last batches of a part.  `ahead` are D's outputs of the first batch if
    it has been judged.
    """
    figures, losses, added = Figures(), [], Figures()
    with comm.clock.phase("forward"):
        judged = [] if ahead is None else [ahead]
        outputs_of = judged + game.judge_all(batches[len(judged) :])
        logits_of = _compared(game, *(outputs[:, 0] for outputs in outputs_of))
        for batch, outputs, logits in zip(batches, outputs_of, logits_of, strict=True):
            of_batch = _real_figures if batch.kind == "real" else _fake_figures
            figures |= of_batch(game, logits, batch)
            losses.append(figures[f"loss_{batch.kind}"])
            if (class_loss := game.class_loss(outputs, batch)) is not None:
                added[f"class_loss_{batch.kind}"] = class_loss
        if penalties is not None:
            added |= penalties()
        loss = weight * torch.stack(losses).sum()
    _backward(comm, game.D.bucket, loss, added, penalties is not None)
    return figures | added


def _penalties(game: Game, real: Batch | None, fake: Batch | None) -> Figures:
    """Return the penalties of one part of D's batches.  Collective (batch norm)."""
    terms = {f"penalty_{each.name}": each(game.judge, real, fake) for each in game.penalties}
    return {name: term for name, term in terms.items() if term is not None}


def _backward(
    comm: Communicator, bucket: GradientBucket, loss: Tensor, added: Figures, is_last: bool
) -> None:
    """Back-propagate a loss and what comes on top of it.  Collective.

    `is_last` says that this finishes the gradients of a part.
    """
    finishing = bucket.finishing(comm) if is_last else nullcontext()
    with comm.clock.phase("backward"), finishing:
        for term in added.values():
            loss = loss + term
        loss.backward()


def _compared(game: Game, *logits: Tensor) -> Sequence[Tensor]:
    """Return logits, or of pairs how far those of each, reals and fakes, are above the other's."""
    if not game.loss.is_paired:
        return logits
    real, fake = logits
    return real - fake, fake - real


def _real_figures(game: Game, logits: Tensor, real: Batch) -> dict[str, Tensor]:
    losses = game.loss.real(logits, game.target(real))
    terms = (losses, game.loss.score(logits), logits <= 0, logits)
    return {n: term.sum() for n, term in zip(REAL_SUMS, terms, strict=True)}


def _fake_figures(game: Game, logits: Tensor, fake: Batch) -> dict[str, Tensor]:
    losses = game.loss.fake(logits, game.target(fake))
    terms = (losses, game.loss.score(logits), logits > 0, logits)
    return {n: term.sum() for n, term in zip(FAKE_SUMS, terms, strict=True)}


def _generator_figures(game: Game, logits: Tensor) -> dict[str, Tensor]:
    terms = (game.loss.generator(logits), logits <= 0)
    return {n: term.sum() for n, term in zip(G_SUMS, terms, strict=True)}


def generator_update(
    comm: Communicator,
    game: Game,
    parts: Iterable[tuple[Batch | None, Batch]],
    stop: bool,
    meanwhile: Callable[[], None] = nothing,
) -> Averages:
    """Compute G's mean gradient over the global batch; figures of G_SUMS.  Collective.

    `parts` are this rank's share of G's samples, in one or several, whose sums are added, each
    beside the reals, as D sees them, that a loss of pairs compares them with.  D is frozen while G
    learns: no gradient of it is computed or sent.  `meanwhile` is as average_gradients() has it.
    """
    G, D, sums, count = game.G, game.D, Figures(), 0
    G.bucket.zero()
    D.network.requires_grad_(False)
    for real, fake in _each(parts, D.network):
        _add(sums, _learn_G(comm, game, real, fake))
        count += len(fake)
    D.network.requires_grad_(True)
    return average_gradients(comm, G.bucket, sums, count, stop, meanwhile)


def _learn_G(comm: Communicator, game: Game, real: Batch | None, fake: Batch) -> Figures:
    """Add the gradients of G on one part to its bucket; return figures.  Collective."""
    with comm.clock.phase("forward"):
        fake = game.seen(fake)
        outputs = game.judge(fake)
        logits, added = outputs[:, 0], Figures()
        if real is not None:
            with torch.no_grad():
                rivals = game.judge(real)[:, 0]
            _, logits = _compared(game, rivals, logits)
        figures = _generator_figures(game, logits)
        if (class_loss := game.class_loss(outputs, fake)) is not None:
            added["class_loss_G"] = class_loss
    _backward(comm, game.G.bucket, figures["loss_G"], added, is_last=True)
    return figures | added


@torch.no_grad()
def measure(
    comm: Communicator, game: Game, parts: Iterable[tuple[Batch, Batch]]
) -> dict[str, float]:
    """Return the mean figures of both players; nobody learns.  Collective.

    `parts` are pairs of reals, as D sees them, and fakes.
    """
    sums, count = Figures(), 0
    for real, fake in _each(parts, game.D.network):
        with comm.clock.phase("forward"):
            fake = game.seen(fake)
            outputs_of = game.judge_all([real, fake])
            of_real, of_fake = _compared(game, *(outputs[:, 0] for outputs in outputs_of))
            figures = _real_figures(game, of_real, real)
            figures |= _fake_figures(game, of_fake, fake) | _generator_figures(game, of_fake)
        _add(sums, figures)
        count += len(real)
    return global_means(comm, sums, count)
