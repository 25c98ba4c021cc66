"""The two players and the state that a run starts from."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gan_mpi.config import TrainConfig
from gan_mpi.datasets.dataset import Dataset
from gan_mpi.errors import UserError
from gan_mpi.extras.clipping import Clipping
from gan_mpi.extras.ema import Average
from gan_mpi.extras.labels import class_loss
from gan_mpi.extras.noise import InstanceNoise
from gan_mpi.extras.penalties import R1, GradientPenalty
from gan_mpi.extras.replay import Replay
from gan_mpi.extras.targets import Targets
from gan_mpi.game.losses import LOSSES
from gan_mpi.game.players import Game, Penalty, make_player
from gan_mpi.game.precision import DTYPES
from gan_mpi.mpi.comm import Communicator
from gan_mpi.networks.build import build_discriminator, build_generator
from gan_mpi.parallel.batch_norm import batch_norms, connect_batch_norm
from gan_mpi.parallel.replicas import broadcast_network
from gan_mpi.training.start import Start
from gan_mpi.training.state import RunState


def build_state(
    comm: Communicator,
    start: Start,
    dataset: Dataset,
    device: torch.device,
    classes: int = 0,
) -> RunState:
    """Return the state that a run starts from, new or saved, the same on all ranks.  Collective.

    There are at least so many classes, if the networks are given labels.  Raises UserError if a
    resumed run would go on with other data.
    """
    datadir = start.source.datadir
    data: dict[str, Any] = {
        "name": dataset.name,
        "source": dataset.source,
        "datadir": None if datadir is None else str(Path(datadir).resolve()),
        "glyphs": start.source.glyphs,
        "resolution": start.source.resolution,
        "count": len(dataset.images),
        "shape": list(dataset.shape),
        "sha256": dataset.sha256,
    }
    if start.config.conditional != "no":
        data["label_counts"] = _label_counts(dataset, classes)
    game = build_game(comm, start.config, dataset.shape, device, data.get("label_counts", ()))
    state = RunState(start.config, data, game)
    if start.transferred is not None:
        _transfer(start.transferred, state)
    if start.saved is None:
        return state
    before = start.saved["data"]
    if before["sha256"] != dataset.sha256:
        raise UserError(
            f"--datadir: {dataset.source} is not the data that this run was trained on, "
            f"{before['source']}; a resumed run keeps its data.",
            exit_code=2,
            on_all_ranks=True,
        )
    state.load(start.saved)
    if "transfer" in before:
        data["transfer"] = before["transfer"]
    return state


def _label_counts(dataset: Dataset, classes: int) -> list[int]:
    """Return how many samples of each class there are.  Raises UserError if there are no labels."""
    if dataset.labels is None:
        raise UserError(
            f"--conditional: {dataset.source} has no labels beside it; leave the option out, or "
            "give data with labels.",
            on_all_ranks=True,
        )
    return np.bincount(dataset.labels, minlength=classes).tolist()


def _transfer(saved: Mapping[str, Any], state: RunState) -> None:
    """Begin with the networks of another run.  Raises UserError if they are others."""
    for name, player in (("G", state.game.G), ("D", state.game.D)):
        shapes = {key: value.shape for key, value in saved[name].items()}
        mine = {key: value.shape for key, value in player.network.state_dict().items()}
        if shapes != mine:
            raise UserError(
                f"--transfer: {name} of {saved['path']} is not the network of this run, "
                f"{state.config.network} for {'x'.join(map(str, state.data['shape']))}.",
                exit_code=2,
                on_all_ranks=True,
            )
        player.network.load_state_dict(saved[name])
    if state.game.average is not None:
        state.game.average.restart()
    state.data["transfer"] = saved["path"]


def build_game(
    comm: Communicator,
    config: TrainConfig,
    shape: tuple[int, ...],
    device: torch.device,
    label_counts: Sequence[int] = (),
) -> Game:
    """Return the two players with the same initial weights on all ranks.  Collective.

    `label_counts`, by class, are those of the data if the networks are given labels.  Raises
    UserError if batch norm should be local, and cannot be.
    """
    dtype = DTYPES[config.precision]
    generator = build_generator(config, shape, label_counts).to(device, dtype)
    classes = len(label_counts)
    discriminator = build_discriminator(config, shape, classes).to(device, dtype)
    local = config.batch_norm == "local"
    if local:
        _check_local(comm, config, [generator, discriminator])
    for network in (generator, discriminator):
        connect_batch_norm(comm, network, local)
        broadcast_network(comm, network)
    game = Game(
        G=make_player(generator, config.G, config.batch),
        D=make_player(discriminator, config.D, config.batch, count_figures(config)),
        loss=LOSSES[config.loss],
    )
    add_extras(comm, config, game)
    return game


def _check_local(comm: Communicator, config: TrainConfig, networks: list[nn.Module]) -> None:
    wrong = None
    if not any(list(batch_norms(network)) for network in networks):
        wrong = f"--network {config.network} has no batch normalisation"
    elif config.batch < comm.world_size:
        wrong = (
            f"a batch of {config.batch} leaves some of {comm.world_size} ranks without images, "
            "and so without statistics"
        )
    if wrong:
        raise UserError(
            f"Invalid value for '--batch-norm': local, but {wrong}; leave it out.",
            exit_code=2,
            on_all_ranks=True,
        )


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
