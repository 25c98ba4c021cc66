"""One turn of the schedule: who is trained, on what, and at which learning rate."""

import math

import torch

from gan_mpi.config import OptimizerConfig, TrainConfig
from gan_mpi.errors import DIVERGED, UserError
from gan_mpi.game.batch import Batch
from gan_mpi.game.optimizers import schedule_factor
from gan_mpi.game.updates import discriminator_step, generator_step, measure
from gan_mpi.lifecycle.stopping import StopRequest
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.bucket import Averages
from gan_mpi.training.feed import Feed
from gan_mpi.training.progress import Progress
from gan_mpi.training.state import RunState


def take_step(comm: Communicator, state: RunState, feed: Feed, stop: StopRequest) -> bool:
    """Do one turn of the schedule; return whether to stop.  Collective."""
    return Turn(comm, state, feed, stop).play()


class Turn:
    """The updates of one step."""

    def __init__(self, comm: Communicator, state: RunState, feed: Feed, stop: StopRequest) -> None:
        self.comm, self.state, self.feed, self.stop = comm, state, feed, stop
        self.lr = {p: learning_rate(state.config, p, state.progress) for p in "GD"}
        self.latents_G: Batch | None = None
        self.stopping = False

    def play(self) -> bool:
        """Train whom the schedule says; return whether to stop.  Collective."""
        state = self.state
        if state.config.schedule == "balance":
            self.train_the_worse()
        else:
            for player in state.config.turn:
                self.train_D() if player == "D" else self.train_G()
        state.window.add({f"last_{name}": loss for name, loss in state.losses.items()})
        state.progress.step += 1
        return self.stopping

    def train_D(self) -> None:
        """Train D on the next reals and latents.  Collective."""
        real, latents = self.feed.next_real(), self.feed.next_latents()
        figures = self._update_D(real, self.state.game.fakes(latents))
        self._note(self._with_loss_D(figures))

    def train_G(self) -> None:
        """Train G on the next latents, or on those of this turn's first update.  Collective."""
        if self.latents_G is None or self.state.config.g_latents == "fresh":
            self.latents_G = self.feed.next_latents()
        self._note(self._update_G(self.latents_G))

    def train_the_worse(self) -> None:
        """Measure both losses, and train by the balance rule on the same batch.  Collective."""
        state = self.state
        real, latents = self.feed.next_real(), self.feed.next_latents()
        fake = state.game.fakes(latents)
        measured = self._with_loss_D(measure(self.comm, state.game, real, fake))
        if state.balance.choose(measured["loss_D"], measured["loss_G"]) == "D":
            self._update_D(real, fake)
        else:
            self._update_G(latents)
        self._note(measured)

    def _with_loss_D(self, figures: dict[str, float]) -> dict[str, float]:
        terms = figures["loss_real"], figures["loss_fake"]
        return {**figures, "loss_D": self.state.game.loss.discriminator(*terms)}

    def _update_D(self, real: Batch, fake: Batch) -> dict[str, float]:
        if self.state.config.d_update == "joint":
            return self._step_D(real, fake)
        return self._step_D(None, fake) | self._step_D(real, None)

    def _step_D(self, real: Batch | None, fake: Batch | None) -> dict[str, float]:
        averages = discriminator_step(self.comm, self.state.game, real, fake, self.stop.requested)
        self.state.progress.updates_D += 1
        return self.finish_update("D", averages)

    def _update_G(self, latents: Batch) -> dict[str, float]:
        averages = generator_step(self.comm, self.state.game, latents, self.stop.requested)
        self.state.progress.updates_G += 1
        return self.finish_update("G", averages)

    def finish_update(self, name: str, averages: Averages) -> dict[str, float]:
        """Update a player, G or D, by the averages just taken; return the mean figures."""
        player = self.state.game.G if name == "G" else self.state.game.D
        for key, value in averages.means.items():
            if key.startswith("loss"):
                check_finite(name, value, self.state.progress.step + 1)
        norm = torch.linalg.vector_norm(player.bucket.gradients).item()
        player.update(self.lr[name])
        self.stopping |= averages.stop
        self.state.window.updates[name] += 1
        self.state.window.add({f"gradient_{name}": norm})
        return averages.means

    def _note(self, figures: dict[str, float]) -> None:
        """Count the figures of an update in the status line, and keep its losses."""
        self.state.window.add(figures)
        losses = {k: v for k, v in figures.items() if k.startswith("loss")}
        self.state.losses |= losses


def check_finite(player: str, loss: float, step: int) -> None:
    """Raise UserError, on all ranks since the loss is global, if it is not finite."""
    if math.isfinite(loss):
        return
    raise UserError(
        f"diverged: the loss of {player} is {loss} in step {step}. The last "
        f"checkpoint is kept; a lower --{player.lower()}-lr may help.",
        exit_code=DIVERGED,
        on_all_ranks=True,
    )


def learning_rate(config: TrainConfig, player: str, progress: Progress) -> float:
    """Return the learning rate of a player, G or D, in the step that begins now."""
    settings: OptimizerConfig = getattr(config, player)
    # Where only G is trained no real images are seen, and its fakes are counted.
    a_step = config.images_per_step or config.g_steps * config.batch
    warmup = 1000 * settings.warmup
    ramp = min(1.0, (progress.step + 1) * a_step / warmup) if warmup else 1.0
    decay = schedule_factor(settings.lr_schedule, progress.step / config.steps)
    return settings.settings["lr"] * decay * ramp
