"""The training loop, from the first step to the last, whatever the number of ranks."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from gan_mpi.comm import Communicator
from gan_mpi.config import OptimizerConfig, TrainConfig
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
    run_config,
    share_dataset,
)
from gan_mpi.signals import StopRequest
from gan_mpi.state import RunState
from gan_mpi.step import D_SUMS, G_SUMS, discriminator_step, generator_step
from gan_mpi.streams import DataOrder, Purpose, shard, uniform_latents

DONE, STOPPED, DIVERGED = 0, 75, 76


def train(comm: Communicator, given: Mapping[str, Any], stop: StopRequest) -> int:
    """Train by the options given, by parameter name; return the exit code.  Collective.

    0 is done and 75 stopped early, both with a checkpoint.  Raises UserError, with exit code 76
    if the losses diverge.
    """
    run = run_config(given)
    log = Log(comm.is_root, run.quiet)
    start = comm.on_root(lambda: find_start(given))
    for warning in start.warnings:
        log.warning(warning)
    if start.finished is not None:
        log.line(start.finished)
        return DONE
    placement = place(comm, run.device)
    dataset, shared = share_dataset(comm, start.datadir, start.glyphs)
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
    """Do one turn, D's updates and then G's; return whether to stop.  Collective."""
    config, game, progress = state.config, state.game, state.progress
    lr_G = learning_rate(config, config.G, progress.images)
    lr_D = learning_rate(config, config.D, progress.images)
    stopping = False
    for _ in range(config.d_steps):
        real, latents = feed.next_real(), feed.next_latents()
        averages = discriminator_step(comm, game, real, latents, stop.requested)
        note_loss(state, "D", averages.means[0])
        game.D.update(lr_D)
        progress.updates_D += 1
        state.window.add("D", D_SUMS, averages.means)
        stopping |= averages.stop
    averages = generator_step(comm, game, feed.next_latents(), stop.requested)
    note_loss(state, "G", averages.means[0])
    game.G.update(lr_G)
    progress.updates_G += 1
    state.window.add("G", G_SUMS, averages.means)
    progress.step += 1
    return stopping or averages.stop


def note_loss(state: RunState, player: str, loss: float) -> None:
    """Keep a loss; raise UserError, on all ranks since it is global, if it is not finite."""
    state.losses[player] = loss
    if math.isfinite(loss):
        return
    raise UserError(
        f"diverged: the loss of {player} is {loss} in step {state.progress.step + 1}. The last "
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
        """Return this rank's share of the next real batch, (n, C, H, W) in -1..1."""
        at = self.state.progress.images
        pixels = self.real[self.order.indices(at + self.lo, at + self.hi)]
        self.state.progress.images += self.state.config.batch
        return to_range(torch.from_numpy(pixels).to(self.device), self.dtype)

    def next_latents(self) -> torch.Tensor:
        """Return this rank's share of the next latents, (n, latent_dim)."""
        config, at = self.state.config, self.state.progress.latents
        latents = uniform_latents(
            config.seed, Purpose.LATENTS, at + self.lo, at + self.hi, config.latent_dim
        )
        self.state.progress.latents += config.batch
        return torch.from_numpy(latents).to(self.dtype).to(self.device)


def learning_rate(config: TrainConfig, player: OptimizerConfig, images: int) -> float:
    """Return a player's learning rate in the step that begins after `images` real images."""
    a_step = config.d_steps * config.batch
    warmup = 1000 * player.warmup
    ramp = min(1.0, (images + a_step) / warmup) if warmup else 1.0
    decay = schedule_factor(player.lr_schedule, images / (config.steps * a_step))
    return player.settings["lr"] * decay * ramp
