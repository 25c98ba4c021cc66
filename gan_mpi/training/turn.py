"""One turn of the schedule: who is trained, on what, and at which learning rate."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Protocol

from gan_mpi.clock import HERE
from gan_mpi.config.optimizer import OptimizerConfig
from gan_mpi.config.training import TrainConfig
from gan_mpi.errors import DIVERGED, UserError
from gan_mpi.game.batch import Batch
from gan_mpi.game.optimizers import schedule_factor
from gan_mpi.game.precision import training_in
from gan_mpi.game.updates import (
    Learned,
    Pair,
    discriminator_update,
    generator_update,
    measure,
)
from gan_mpi.lifecycle.stopping import StopRequest
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.average import Averages
from gan_mpi.parallel.staging import nothing
from gan_mpi.training.progress import Begun, Progress
from gan_mpi.training.state import RunState
from gan_mpi.training.supply import Supply


class NoteMeans(Protocol):
    """What is to be done with the means of an update."""

    def __call__(self, means: Mapping[str, float], /) -> object:
        """Note means by name."""


def nothing_of(means: Mapping[str, float]) -> None:
    """Note nothing."""


class Turn:
    """The updates of one step.  It alone moves a run of replicas on."""

    def __init__(
        self,
        comm: Communicator,
        state: RunState,
        supply: Supply,
        stop: StopRequest,
        pauses: bool = False,
    ) -> None:
        """`pauses` says that after this turn the run is saved, measured or at its end."""
        self.comm, self.state, self.supply, self.stop = comm, state, supply, stop
        self.pauses = pauses
        self.rest: tuple[str, ...] = ()  # who is still to be trained after this update
        self.stopping = False

    def begin(self) -> None:
        """Say which step this is, and how far it goes."""
        state = self.state
        state.books.step = state.progress.step + 1
        for name, player in (("G", state.game.G), ("D", state.game.D)):
            player.set_rates(*rates(state.config, name, state.progress))
        if state.adaptation is not None and not state.begun.players:
            state.host.each_time(partial(self._adapt, state.progress.updates_D))

    def _adapt(self, updates: int) -> None:
        """Augment as often as the figures of so many updates of D say.

        A device is waited for when that is due.  Where the turn was recorded it has been done.
        """
        adaptation = self.state.adaptation
        assert adaptation is not None, "images are augmented"
        if adaptation.is_due(updates):
            self.state.books.settle()
            adaptation.adapt(updates)
        adaptation.show()

    def play(self) -> bool:
        """Train whom the schedule says; return whether to stop.  Collective."""
        state = self.state
        self.begin()
        state.begun.is_recorded = True
        with training_in(state.config.precision):
            self._train()
        state.books.after(state.note_step)
        state.progress.advance(step=1)
        state.begun = Begun(is_recorded=False)
        state.mark(records=True)
        return self.stopping

    def _train(self) -> None:
        if self.state.config.schedule == "balance":
            self.train_the_worse()
            return
        turn, begun = self.state.config.turn, self.state.begun
        for number in range(begun.players, len(turn)):
            self.rest = turn[number + 1 :]
            self.train_D() if turn[number] == "D" else self.train_G()
            begun.players += 1

    def train_D(self) -> None:
        """Train D on the next reals and latents.  Collective."""
        self.state.mark()
        reals, latents = self._take("images"), self._take("latents")
        learned = self.supply.learned(reals)
        again = self.rest[:1] == ("D",)
        batches = self.supply.reals(reals), self.supply.fakes(latents, again)
        self._update_D(*batches, self._note_D, learned)

    def train_G(self) -> None:
        """Train G on the next latents, or on those of this turn's first update.  Collective."""
        self.state.mark()
        begun = self.state.begun
        if begun.latents_G is None or self.state.config.g_latents == "fresh":
            begun.latents_G = self._take("latents")
        rivals = self._rivals()
        self._update_G(rivals, self.supply.samples(begun.latents_G), self.state.note)

    def _rivals(self) -> Iterable[Batch | None]:
        """Return the reals that G's samples are compared with, if the loss is of pairs.

        They are those of D's last update of this turn, or else those of its first.  Where it has
        none they are the next ones.
        """
        state = self.state
        if not state.game.loss.is_paired:
            return itertools.repeat(None)
        turn = state.config.turn
        if "D" not in turn:
            return self.supply.reals(self._take("images"))
        after_D = "D" in turn[: state.begun.players]
        return self.supply.reals(state.progress.images - after_D * state.config.batch)

    def train_the_worse(self) -> None:
        """Measure both losses, and train by the balance rule on the same batch.  Collective."""
        state = self.state
        state.mark()
        state.books.settle()
        reals, latents = self._take("images"), self._take("latents")
        real, fake = list(self.supply.reals(reals)), list(self.supply.fakes(latents))
        pairs = zip(real, fake, strict=True)
        measured = self._with_loss_D(measure(self.comm, state.game, pairs))
        self.comm.alike(lambda: check_finite("both players", measured, state.progress.step + 1))
        if state.balance.choose(measured["loss_D"], measured["loss_G"]) == "D":
            self._update_D(real, fake, nothing_of)
        else:
            self._update_G(itertools.repeat(None), self.supply.samples(latents), nothing_of)
        state.books.after(partial(state.note, measured))

    def _take(self, stream: str) -> int:
        """Return where the next global batch of images or latents begins, and count it as taken."""
        position = getattr(self.state.progress, stream)
        self.state.progress.advance(**{stream: self.state.config.batch})
        return position

    def _note_D(self, figures: Mapping[str, float]) -> None:
        self.state.note(self._with_loss_D(figures))

    def _with_loss_D(self, figures: Mapping[str, float]) -> dict[str, float]:
        terms = figures["loss_real"], figures["loss_fake"]
        return {**figures, "loss_D": self.state.game.loss.discriminator(*terms)}

    def _update_D(
        self,
        reals: Iterable[Batch],
        fakes: Iterable[Batch],
        note: NoteMeans,
        learned: Learned | None = None,
    ) -> None:
        ahead = partial(self._make_ahead, "D")
        if self.state.config.d_update == "joint":
            self._train_D_on(zip(reals, fakes, strict=True), note, ahead, learned)
            return
        begun = self.state.begun
        if not begun.of_fakes:
            self._train_D_on(((None, fake) for fake in fakes), begun.of_fakes.update, nothing)
            self._mark_between()
        pairs, figures = ((real, None) for real in reals), begun.of_fakes
        begun.of_fakes = {}
        self._train_D_on(pairs, lambda of_reals: note({**figures, **of_reals}), ahead)

    def _mark_between(self) -> None:
        """Mark that D has learned from fakes and is to learn from reals, whose place is known."""
        self.state.mark()
        if (mark := self.state.last_mark) is not None:
            for stream in ("images", "latents"):
                mark.progress[stream] -= self.state.config.batch

    def _train_D_on(
        self,
        parts: Iterable[Pair],
        note: NoteMeans,
        meanwhile: Callable[[], None],
        learned: Learned | None = None,
    ) -> None:
        stop, progress = self.stop.requested, self.state.progress
        HERE.begin_update(progress.step + 1, "D", progress.updates_D + 1)
        penalised = self._is_penalised()
        game = self.state.game
        averages = discriminator_update(
            self.comm, game, parts, stop, meanwhile, learned, penalised=penalised
        )
        progress.advance(updates_D=1)
        self.finish_update("D", averages, note)

    def _is_penalised(self) -> bool:
        """Whether D's next update comes with penalties; of separate ones two are counted as one."""
        config = self.state.config
        before = self.state.progress.updates_D // (2 if config.d_update == "separate" else 1)
        return before % config.penalty_every == 0

    def _update_G(
        self, rivals: Iterable[Batch | None], samples: Iterable[Batch], note: NoteMeans
    ) -> None:
        stop, ahead = self.stop.requested, partial(self._make_ahead, "G")
        progress, parts = self.state.progress, zip(rivals, samples, strict=False)
        HERE.begin_update(progress.step + 1, "G", progress.updates_G + 1)
        averages = generator_update(self.comm, self.state.game, parts, stop, ahead)
        progress.advance(updates_G=1)
        self.finish_update("G", averages, note)

    def _make_ahead(self, updated: str) -> None:
        """Begin the next update while the sums of this one are under way.

        That they bring a stop is known only afterwards, and then what was begun is dropped.
        """
        if (self.pauses or self.stopping) and not self.rest:
            return
        config, progress = self.state.config, self.state.progress
        following, latents = (self.rest or config.turn)[0], progress.latents
        repeated = self.state.begun.latents_G if config.g_latents == "repeated" else None
        if self.rest and following == "G" and repeated is not None:
            latents = repeated
        self.supply.make_ahead(updated, following, progress.images, latents)

    def finish_update(self, name: str, averages: Averages, note: NoteMeans) -> None:
        """Update a player, G or D, by the averages just taken, whose means are to be noted."""
        state = self.state
        player = state.game.G if name == "G" else state.game.D

        def enter(figures: list[float], step: int) -> None:
            *means, norm = figures
            named = dict(zip(averages.names, means, strict=True))
            self.comm.alike(lambda: check_finite(name, {**named, "gradient": norm}, step))
            state.noted.count_updates(name)
            state.noted.add({f"gradient_{name}": norm})
            note(named)

        update = state.books.enter(averages, enter)
        with self.comm.clock.phase("optimizer"):
            player.update(update)
        self.stopping |= averages.stop


def check_finite(player: str, figures: dict[str, float], step: int) -> None:
    """Raise UserError if a mean figure of a player, or the norm of its gradient, is not finite.

    Then nothing of the update has been applied.
    """
    for name, figure in figures.items():
        if not math.isfinite(figure):
            option = f"--{player.lower()}-lr" if len(player) == 1 else "--lr"
            what = "loss" if name.startswith("loss") else name.replace("_", " ")
            raise UserError(
                f"diverged: the {what} of {player} is {figure} in step {step}. The last "
                f"checkpoint is kept; a lower {option} may help.",
                exit_code=DIVERGED,
            )


def rates(config: TrainConfig, player: str, progress: Progress) -> tuple[float, float | None]:
    """Return the learning rate, and beta2 if there is one, of a player in the step that begins."""
    settings: OptimizerConfig = config.G if player == "G" else config.D
    warmup = 1000 * settings.warmup
    ramp = min(1.0, (progress.step + 1) * config.images_counted / warmup) if warmup else 1.0
    decay = schedule_factor(settings.lr_schedule, progress.step / config.steps)
    now = settings.settings_at(config.share_of_ramp(progress.step))
    return now["lr"] * decay * ramp, now.get("beta2")
