"""How a run begins: its configuration and checkpoint, the data on every node, the two players."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gan_mpi import checkpoint, rundir
from gan_mpi.comm import Communicator
from gan_mpi.config import RunConfig, TrainConfig
from gan_mpi.configure import config_from_dict, new_config, resumed_config
from gan_mpi.contradictions import check_sites
from gan_mpi.datasets import Dataset, Source, find_source, load_dataset
from gan_mpi.errors import UserError
from gan_mpi.extras import add_extras, count_figures
from gan_mpi.losses import LOSSES
from gan_mpi.networks import build_discriminator, build_generator
from gan_mpi.parallel import batch_norms, broadcast_network, connect_batch_norm
from gan_mpi.state import RunState
from gan_mpi.step import Game, make_player

DTYPES = {"fp32": torch.float32, "fp64": torch.float64}


@dataclass
class Start:
    """What the options and the file system say of a run; found by root."""

    config: TrainConfig
    source: Source
    run_dir: Path | None = None
    saved: dict[str, Any] | None = None
    transferred: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)
    # Options of earlier starts, by parameter name.
    remembered: dict[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> str | None:
        """Say so if the run has all its steps, None if there is something to do."""
        step = self.saved["progress"]["step"] if self.saved else 0
        if step < self.config.steps:
            return None
        return (
            f"{self.run_dir} is finished: it has {step} of {self.config.steps} steps. Train "
            f"longer: gan-mpi train --resume {self.run_dir} --steps {2 * step}"
        )


def find_start(given: Mapping[str, Any]) -> Start:
    """Return how the options given start a run: anew, or from the newest checkpoint.

    Raises UserError if they contradict the checkpoint, or if there should be one and is none.
    """
    named = given.get("resume") or given.get("run_dir")
    run_dir = None if named is None else Path(named)
    if given.get("resume") and not Path(given["resume"]).is_dir():
        raise UserError(
            f"--resume: {given['resume']} is not a run directory.", exit_code=2
        )
    if run_dir is None or not (given.get("resume") or rundir.list_checkpoints(run_dir)):
        return _new_start(given, run_dir)
    warnings: list[str] = []
    _, saved = checkpoint.newest_valid(run_dir, warnings.append)
    source = saved_source(saved["data"])
    if "datadir" in given or "glyphs" in given:
        source = replace(
            source, datadir=given.get("datadir"), glyphs=given.get("glyphs")
        )
    if "resolution" in given:
        source = replace(source, resolution=given["resolution"])
    if "transfer" in given:
        _check_transfer(Path(given["transfer"]), saved["data"].get("transfer"), run_dir)
    config = resumed_config(config_from_dict(saved["config"]), given)
    check_sites(config, {**given, "datadir": source.datadir})
    before = rundir.read_evaluation_options(run_dir)
    return Start(config, source, run_dir, saved, warnings=warnings, remembered=before)


def saved_source(data: Mapping[str, Any]) -> Source:
    """Return where the data of a checkpoint were read from, by its record of them."""
    resolution = data.get("resolution", RunConfig.resolution)
    return Source(data["datadir"], data["glyphs"], resolution=resolution)


def _check_transfer(asked: Path, before: str | None, run_dir: Path) -> None:
    """Refuse to go on as if a run had begun from another one than it did."""
    known = [] if before is None else [Path(before), Path(before).parent]
    if asked.resolve() not in [path.resolve() for path in known]:
        raise UserError(
            f"--transfer: {run_dir} goes on, and it began "
            f"{'with new networks' if before is None else f'from {before}'}, not from {asked}; leave "
            "the option out, or start a new run.",
            exit_code=2,
        )


def _new_start(given: Mapping[str, Any], run_dir: Path | None) -> Start:
    config = new_config(given)
    source = find_source(
        config.dataset, given.get("datadir"), given.get("glyphs"), RunConfig.glyphs
    )
    resolution = given.get("resolution", RunConfig.resolution)
    source = replace(source, resolution=resolution)
    start = Start(config, source, run_dir)
    if "transfer" in given:
        path, start.transferred = checkpoint.find_checkpoint(
            Path(given["transfer"]), None, start.warnings.append
        )
        start.transferred["path"] = str(path)
    elif config.train != "both":
        idle = "discriminator" if config.train == "generator" else "generator"
        start.warnings.append(
            f"the {idle} is untrained and stays so; --transfer RUN brings one that is trained"
        )
    return start


def share_dataset(
    comm: Communicator, source: Source, split: str = "train"
) -> tuple[Dataset, bool]:
    """Read the data, train or test, once a node and give all its ranks one copy.  Collective.

    Also returns whether it is one copy.  Raises UserError if it cannot be read, or if two
    nodes read different data.
    """
    mine = comm.on_each_node(lambda: load_dataset(source, split))
    about = []
    if mine is not None:
        about = [(mine.name, mine.source, mine.sha256, platform.node())]
    read = [found for node in comm.allgather(about) for found in node]
    name, origin, sha256, first = read[0]
    for _, _, other, host in read:
        if other != sha256:
            raise UserError(
                f"--datadir: {host} reads other data than {first} from {origin}.",
                on_all_ranks=True,
            )
    images, shared = comm.share_on_node(None if mine is None else mine.images)
    no_labels = np.empty(0, dtype=np.uint8)
    given = mine.labels if mine is not None and mine.labels is not None else no_labels
    shared_labels, _ = comm.share_on_node(given if mine is not None else None)
    labels = shared_labels if len(shared_labels) else None
    return Dataset(name, origin, images, labels, sha256), shared


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
    game = build_game(
        comm, start.config, dataset.shape, device, data.get("label_counts", ())
    )
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
            f"--conditional: {dataset.source} has no labels beside it; leave the option out, or give "
            "data with labels.",
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


def _check_local(
    comm: Communicator, config: TrainConfig, networks: list[nn.Module]
) -> None:
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


def load_generator(state: dict[str, Any], averaged: bool = True) -> nn.Module:
    """Return the generator of a checkpoint's state, on the CPU: its average, if there is one."""
    config, data = config_from_dict(state["config"]), state["data"]
    counts = data.get("label_counts", ())
    generator = build_generator(config, tuple(data["shape"]), counts)
    average = state.get("G_ema") if averaged else None
    weights = state["G"] if average is None else average["network"]
    generator.to(DTYPES[config.precision]).load_state_dict(weights)
    return generator


def describe_start(start: Start) -> dict[str, Any]:
    """Return the resolved configuration, for people."""
    return {
        "config": asdict(start.config),
        "data": {k: v for k, v in asdict(start.source).items() if v is not None},
        "resumes": start.saved is not None,
    }
