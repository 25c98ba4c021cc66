"""The training loop, from the first step to the last, whatever the number of ranks."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from gan_mpi.comm import Communicator
from gan_mpi.config import OptimizerConfig, TrainConfig, run_config
from gan_mpi.device import place
from gan_mpi.errors import UserError
from gan_mpi.images import to_range
from gan_mpi.journal import Journal, open_run_dir
from gan_mpi.log import Log
from gan_mpi.opening import opening_lines, segment
from gan_mpi.optimizers import schedule_factor
from gan_mpi.prepare import (
    DTYPES,
    build_state,
    find_start,
    share_dataset,
)
from gan_mpi.signals import StopRequest
from gan_mpi.state import Progress, RunState
from gan_mpi.step import Outcome, discriminator_step, generator_step, measure
from gan_mpi.streams import DataOrder, Purpose, draw_latents, shard

DONE, STOPPED, DIVERGED = 0, 75, 76


def train(comm: Communicator, given: Mapping[str, Any], stop: StopRequest) -> int:
    """Train by the options given, by parameter name; return the exit code.  Collective.

    0 is done and 75 stopped early, both with a checkpoint.  Raises UserError, with exit code 76
    if the losses diverge.
    """
    start = comm.on_root(lambda: find_start(given))
    run = run_config(start.config.preset, given)
    log = Log(comm.is_root, run.quiet)
    for warning in start.warnings:
        log.warning(warning)
    if start.finished is not None:
        log.line(start.finished)
        return DONE
    placement = place(comm, run.device)
    dataset, shared = share_dataset(comm, start)
    state = build_state(comm, start, dataset, placement.device)
    for line in opening_lines(comm, state.config, dataset, placement):
        log.line(line)
    if not shared:
        log.line("no room in shared memory: each rank keeps its own copy of the data")
    for warning in placement.warnings:
        log.warning(warning)
    about = segment(comm, state.progress.step, placement)
    run_dir = comm.on_root(lambda: open_run_dir(run, state, start, about, log))
    journal = Journal(comm, state, run, log, run_dir)
    if start.saved is None:
        journal.save()
        journal.show_reals(dataset.images)
    feed = Feed(comm, state, dataset.images, placement.device)
    stopping = False
    with log.progress(state.progress.step, state.config.steps) as bar:
        while state.progress.step < state.config.steps and not stopping:
            stopping = take_step(comm, state, feed, stop)
            journal.report()
            bar.advance_to(state.progress.step)
            if state.progress.step % run.checkpoint_every == 0:
                journal.save()
    journal.finish()
    comm.close()
    return DONE if state.progress.step == state.config.steps else STOPPED


def take_step(
    comm: Communicator, state: RunState, feed: "Feed", stop: StopRequest
) -> bool:
    """Do one turn of the schedule; return whether to stop.  Collective."""
    turn = Turn(comm, state, feed, stop)
    if state.config.schedule == "balance":
        turn.train_the_worse()
    else:
        for player in state.config.turn:
            turn.train_D() if player == "D" else turn.train_G()
    state.window.add({f"last_{name}": loss for name, loss in state.losses.items()})
    state.progress.step += 1
    return turn.stopping


class Turn:
    """The updates of one step."""

    def __init__(
        self, comm: Communicator, state: RunState, feed: "Feed", stop: StopRequest
    ) -> None:
        self.comm, self.state, self.feed, self.stop = comm, state, feed, stop
        self.lr = {p: learning_rate(state.config, p, state.progress) for p in "GD"}
        self.latents_G: torch.Tensor | None = None
        self.stopping = False

    def train_D(self) -> None:
        """Train D on the next reals and latents.  Collective."""
        figures = self._update_D(self.feed.next_real(), self.feed.next_latents())
        self._note(figures)

    def train_G(self) -> None:
        """Train G on the next latents, or on those of this turn's first update.  Collective."""
        if self.latents_G is None or self.state.config.g_latents == "fresh":
            self.latents_G = self.feed.next_latents()
        self._note(self._update_G(self.latents_G))

    def train_the_worse(self) -> None:
        """Measure both losses, and train by the balance rule on the same batch.  Collective."""
        state = self.state
        real, latents = self.feed.next_real(), self.feed.next_latents()
        measured = measure(self.comm, state.game, real, latents)
        loss = state.game.loss.discriminator(
            measured["loss_real"], measured["loss_fake"]
        )
        if state.balance.choose(loss, measured["loss_G"]) == "D":
            self._update_D(real, latents)
        else:
            self._update_G(latents)
        self._note(measured)

    def _update_D(self, real: torch.Tensor, latents: torch.Tensor) -> dict[str, float]:
        if self.state.config.d_update == "joint":
            return self._step_D(real, latents)
        return self._step_D(None, latents) | self._step_D(real, None)

    def _step_D(
        self, real: torch.Tensor | None, latents: torch.Tensor | None
    ) -> dict[str, float]:
        outcome = discriminator_step(
            self.comm, self.state.game, real, latents, self.stop.requested
        )
        self.state.progress.updates_D += 1
        return self._apply("D", outcome)

    def _update_G(self, latents: torch.Tensor) -> dict[str, float]:
        outcome = generator_step(
            self.comm, self.state.game, latents, self.stop.requested
        )
        self.state.progress.updates_G += 1
        return self._apply("G", outcome)

    def _apply(self, name: str, outcome: Outcome) -> dict[str, float]:
        player = self.state.game.G if name == "G" else self.state.game.D
        for key, value in outcome.figures.items():
            if key.startswith("loss"):
                check_finite(name, value, self.state.progress.step + 1)
        player.update(self.lr[name])
        self.stopping |= outcome.stop
        self.state.window.updates[name] += 1
        return outcome.figures

    def _note(self, figures: dict[str, float]) -> None:
        """Count the figures of an update in the status line, and keep its losses."""
        if "loss_real" in figures:
            terms = figures["loss_real"], figures["loss_fake"]
            figures["loss_D"] = self.state.game.loss.discriminator(*terms)
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


class Feed:
    """This rank's share of the endless streams of real images and latents."""

    def __init__(
        self,
        comm: Communicator,
        state: RunState,
        real: np.ndarray,
        device: torch.device,
    ) -> None:
        self.state, self.real, self.device = state, real, device
        self.dtype = DTYPES[state.config.precision]
        self.order = DataOrder(state.config.seed, len(real))
        self.lo, self.hi = shard(state.config.batch, comm.rank, comm.world_size)

    def next_real(self) -> torch.Tensor:
        """Return this rank's share of the next reals, (n, *shape), in the range of the run."""
        at = self.state.progress.images
        pixels = self.real[self.order.indices(at + self.lo, at + self.hi)]
        config = self.state.config
        self.state.progress.images += config.batch
        on_device = torch.from_numpy(pixels).to(self.device)
        return to_range(on_device, self.dtype, config.range)

    def next_latents(self) -> torch.Tensor:
        """Return this rank's share of the next latents, (n, latent_dim)."""
        config, at = self.state.config, self.state.progress.latents
        latents = draw_latents(
            config.latents,
            config.seed,
            Purpose.LATENTS,
            at + self.lo,
            at + self.hi,
            config.latent_dim,
        )
        self.state.progress.latents += config.batch
        return torch.from_numpy(latents).to(self.dtype).to(self.device)


def learning_rate(config: TrainConfig, player: str, progress: Progress) -> float:
    """Return the learning rate of a player, G or D, in the step that begins now."""
    settings: OptimizerConfig = getattr(config, player)
    # Where only G is trained no real images are seen, and its fakes are counted.
    a_step = config.images_per_step or config.g_steps * config.batch
    warmup = 1000 * settings.warmup
    ramp = min(1.0, (progress.step + 1) * a_step / warmup) if warmup else 1.0
    decay = schedule_factor(settings.lr_schedule, progress.step / config.steps)
    return settings.settings["lr"] * decay * ramp
