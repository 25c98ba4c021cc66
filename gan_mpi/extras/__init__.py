"""What a step can do besides, each handed to step.py as a function; off unless asked for."""

from collections.abc import Iterator

from gan_mpi.comm import Communicator
from gan_mpi.config import TrainConfig
from gan_mpi.extras.average import Average
from gan_mpi.extras.clipping import Clipping
from gan_mpi.extras.labels import class_loss
from gan_mpi.extras.noise import InstanceNoise
from gan_mpi.extras.penalties import R1, GradientPenalty
from gan_mpi.extras.replay import Replay
from gan_mpi.extras.targets import Targets
from gan_mpi.step import Game, Penalty


def count_figures(config: TrainConfig) -> int:
    """Return how many sums they add to those of an update of D."""
    of_classes = 2 if config.conditional == "auxiliary" else 0
    return len(list(_penalties(config))) + of_classes


def add_extras(comm: Communicator, config: TrainConfig, game: Game) -> None:
    """Give a game all that its configuration asks for beyond the originals."""
    if config.instance_noise:
        game.see = InstanceNoise(config)
    if config.told:
        game.target = Targets(config)
    if config.replay:
        game.replay = Replay(comm, config)
        game.recall = game.replay.exchange
    if config.conditional == "auxiliary":
        game.class_loss = class_loss
    game.penalties = tuple(_penalties(config))
    if config.clip:
        game.D.after_update.append(Clipping(game.D.network, config.clip))
    if config.ema:
        game.average = Average(game.G.network, config.ema, config.batch)
        game.G.after_update.append(game.average.update)


def _penalties(config: TrainConfig) -> Iterator[Penalty]:
    if config.gradient_penalty:
        yield GradientPenalty(config.gradient_penalty, config.seed)
    if config.r1:
        yield R1(config.r1)


__all__ = ["add_extras", "count_figures"]
