"""The two players and the state that a run starts from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gan_mpi.config.training import TrainConfig
from gan_mpi.datasets.dataset import Dataset
from gan_mpi.errors import UserError, invalid_value
from gan_mpi.extras.augment import Adaptation, Augmentation
from gan_mpi.extras.clipping import Clipping
from gan_mpi.extras.ema import GeneratorEMA
from gan_mpi.extras.labels import class_loss
from gan_mpi.extras.noise import InstanceNoise
from gan_mpi.extras.penalties import GradientPenalty, SlopePenalty
from gan_mpi.extras.replay import Replay
from gan_mpi.extras.targets import Targets
from gan_mpi.game.batch import Draw
from gan_mpi.game.losses import LOSSES
from gan_mpi.game.players import Game, make_player
from gan_mpi.game.precision import COMPUTE, DTYPES
from gan_mpi.mpi.comm import Communicator
from gan_mpi.networks.build import build_discriminator, build_generator
from gan_mpi.parallel.batch_norm import BatchNorm, batch_norms, connect_batch_norm
from gan_mpi.parallel.linear import compute_linear
from gan_mpi.parallel.replicas import broadcast_network
from gan_mpi.runs.checkpoint import OTHER_NETWORKS, Checkpoint, unusable
from gan_mpi.runs.record import DataRecord
from gan_mpi.streams import seed_after
from gan_mpi.training.fit import fits_state, listed, transfer
from gan_mpi.training.start import Start
from gan_mpi.training.state import RunState


def build_state(
    comm: Communicator, start: Start, dataset: Dataset, device: torch.device
) -> RunState:
    """Return the state that replicas start from, new or saved, the same on all ranks.  Collective.

    Raises UserError if a resumed run would go on with other data, or the networks do not fit.
    """
    labels = count_labels(start.config, dataset)
    state = build_with_labels(comm, start, dataset, device, labels, labels)
    if start.config.batch_norm == "local" and comm.world_size > 1:
        require_statistics(state, start.config.batch // comm.world_size, "or start fewer ranks")
    elif start.saved is None:
        require_statistics(state, start.config.batch)
    if start.saved is not None:
        require_same_data(start.saved, dataset)
        require_fit(start, start.saved, state)
        state.load(start.saved)
    return state


def build_with_labels(
    comm: Communicator,
    start: Start,
    dataset: Dataset,
    device: torch.device,
    labels: tuple[int, ...],
    known: tuple[int, ...],
) -> RunState:
    """Return the state of a new run, with `labels` of the data by class.  Collective.

    `known` are those that samples are drawn by, of all sites.  Raises UserError if the networks do
    not fit.
    """
    config = start.config
    data = _describe(start, dataset, labels)
    drawn = replace(config, seed=seed_after(config.seed, start.rollbacks))
    built = build_game(comm, drawn, dataset.shape, device, known)
    state = RunState(config, data, built.game, built.ema, built.replay, linear=start.linear)
    state.adaptation, state.rollbacks = built.adaptation, start.rollbacks
    compute_linear([state.game.G.network, state.game.D.network], start.linear)
    if start.micro_batch is not None:
        _require_no_statistics(built.game)
    if start.transferred is not None:
        transfer(start.transferred, state)
    return state


def _require_no_statistics(game: Game) -> None:
    """Raise UserError if a batch in parts would have other statistics than the whole."""
    networks = {"G": game.G.network, "D": game.D.network}
    found = [player for player, network in networks.items() if any(batch_norms(network))]
    if found:
        has = "has" if len(found) == 1 else "have"
        others = " ".join(f"--{player.lower()}-norm instance" for player in found)
        raise invalid_value(
            "micro_batch",
            f"{' and '.join(found)} {has} batch normalisation, whose statistics are those of the "
            f"whole batch; leave --micro-batch out, or give {others}",
        )


def _describe(start: Start, dataset: Dataset, labels: tuple[int, ...]) -> DataRecord:
    """Return the record of the data that a run is trained on."""
    datadir = start.source.datadir
    began_with = None if start.saved is None else start.saved["data"].get("transfer")
    if start.transferred is not None:
        began_with = str(start.transferred.path.resolve())
    return DataRecord(
        name=dataset.name,
        source=dataset.source,
        datadir=None if datadir is None else str(Path(datadir).resolve()),
        glyphs=start.source.glyphs,
        resolution=start.source.resolution,
        count=len(dataset.images),
        shape=dataset.shape,
        sha256=dataset.sha256,
        label_counts=labels,
        class_names=dataset.classes,
        transfer=began_with,
    )


def require_fit(start: Start, saved: Checkpoint, state: RunState) -> None:
    """Raise UserError if a checkpoint holds other networks than its settings make."""
    if not fits_state(saved, state):
        assert start.saved_at is not None, "something was saved"
        raise unusable(start.saved_at, saved["version"], OTHER_NETWORKS)


def require_same_data(saved: Checkpoint, dataset: Dataset) -> None:
    """Raise UserError unless a run goes on with the data that it was trained on."""
    before = saved["data"]
    names = DataRecord.from_dict(before).class_names or dataset.classes  # 0.5 knew none
    if before["sha256"] == dataset.sha256 and names != dataset.classes:
        raise UserError(
            f"--datadir: the classes of {dataset.source} are {listed(dataset.classes)}, and this "
            f"run was trained on {listed(names)}; a resumed run keeps its data.",
            exit_code=2,
        )
    if before["sha256"] != dataset.sha256:
        raise UserError(
            f"--datadir: {dataset.source} is not the data that this run was trained on, "
            f"{before['source']}; a resumed run keeps its data.",
            exit_code=2,
        )


def count_labels(config: TrainConfig, dataset: Dataset, classes: int = 0) -> tuple[int, ...]:
    """Return how many samples of each class, of at least so many, there are.

    There are none if the networks are not told of labels.  Raises UserError if the data have none.
    """
    if config.conditional == "no":
        return ()
    if dataset.labels is None:
        raise UserError(
            f"--conditional: {dataset.source} has no labels beside it; give --conditional no, or "
            "data with labels."
        )
    most = max(classes, len(dataset.classes))
    return tuple(np.bincount(dataset.labels, minlength=most).tolist())


@dataclass(frozen=True)
class Built:
    """A game, and what of its extras has a state of its own."""

    game: Game
    ema: GeneratorEMA | None
    replay: Replay | None
    adaptation: Adaptation | None = None


def build_game(
    comm: Communicator,
    config: TrainConfig,
    shape: tuple[int, ...],
    device: torch.device,
    label_counts: Sequence[int] = (),
) -> Built:
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
        compute=COMPUTE[config.precision],
    )
    return add_extras(comm, config, game, shape)


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
        raise invalid_value("batch_norm", f"local, but {wrong}; leave it out")


def require_statistics(state: RunState, fewest: int, otherwise: str = "") -> None:
    """Raise UserError if features are to be normalised over a batch of one, their own mean.

    Maps are normalised over their pixels too.  `fewest` is the smallest such batch, and `otherwise`
    what makes it larger besides --batch.
    """
    found = [
        player
        for player, network in (("G", state.game.G.network), ("D", state.game.D.network))
        for one, next_one in pairwise(network.modules())
        if isinstance(one, nn.Linear) and isinstance(next_one, BatchNorm)
    ]
    if found and fewest < 2:
        norms = " ".join(f"--{player.lower()}-norm instance" for player in dict.fromkeys(found))
        raise invalid_value(
            "batch",
            "batch norm would have one image to normalise over, and make the same of all; give a "
            f"larger batch, {otherwise or f'or {norms}'}",
        )


def count_figures(config: TrainConfig) -> int:
    """Return how many sums they add to those of an update of D."""
    of_classes = 2 if config.conditional == "auxiliary" else 0
    return len(list(_penalties(config))) + of_classes


def add_extras(
    comm: Communicator, config: TrainConfig, game: Game, shape: tuple[int, ...]
) -> Built:
    """Give a game, of samples of a shape, all that is asked for beyond the originals."""
    ema, replay, adaptation = None, None, None
    draws: list[Draw] = []
    if config.instance_noise:
        game.see = noise = InstanceNoise(config, shape)
        draws.append(noise.draw)
    if config.augment != "no":
        game.augment = augmentation = _augmentation(config, shape)
        adaptation = augmentation.adaptation
        draws.append(augmentation.draw)
    if config.told:
        game.target = targets = Targets(config)
        draws.append(targets.draw)
    if config.replay:
        replay = Replay(comm, config)
        game.recall = replay.exchange
        draws.append(replay.draw)
        game.D.after_update.append(replay.commit)
    if config.conditional == "auxiliary":
        game.class_loss = class_loss
    game.penalties = penalties = tuple(_penalties(config))
    draws += [each.draw for each in penalties]
    game.draws = draws
    if config.clip:
        game.D.after_update.append(Clipping(game.D.network, config.clip))
    if config.ema:
        ramp = config.ramp_steps * max(1, config.turn.count("G"))
        ema = GeneratorEMA(game.G.network, config.ema, config.batch, ramp)
        game.G.after_update.append(ema.update)
    return Built(game, ema, replay, adaptation)


def _augmentation(config: TrainConfig, shape: tuple[int, ...]) -> Augmentation:
    """Return what changes images; raises UserError if samples are points."""
    if len(shape) != 3:
        raise invalid_value("augment", f"{config.augment}, but the data are points; leave it out")
    return Augmentation(config)


def _penalties(config: TrainConfig) -> Iterator[GradientPenalty | SlopePenalty]:
    if config.gradient_penalty:
        yield GradientPenalty(config)
    if config.r1:
        yield SlopePenalty("r1", "real", config)
    if config.r2:
        yield SlopePenalty("r2", "fake", config)
