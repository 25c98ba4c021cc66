"""Ranks as sites: data of their own, a run of their own, and what all of them have in common."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from gan_mpi.config import TrainConfig, block_momentum, round_length
from gan_mpi.datasets.dataset import Dataset
from gan_mpi.errors import UserError
from gan_mpi.game.players import Game
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.replicas import broadcast_network
from gan_mpi.sites.average import WeightAverage
from gan_mpi.sites.data import share_tests
from gan_mpi.streams import shard
from gan_mpi.training.build import build_state
from gan_mpi.training.progress import Progress, Window
from gan_mpi.training.start import Start
from gan_mpi.training.state import RunState


@dataclass
class SitesState(RunState):
    """A run of sites at the end of a round: their common networks, and the means of their figures.

    `local` is what this rank trains: the same game, with the rank's own data, position, optimizers
    and figures.  It trains `turns` steps of the `length` of a round, and sits out the rest.
    """

    alone: Communicator = field(kw_only=True)  # this rank only
    local: RunState = field(kw_only=True)
    average: WeightAverage = field(kw_only=True)
    test: Dataset | None = field(kw_only=True)  # images to validate on
    own_data: bool = field(kw_only=True)
    length: int = field(kw_only=True)
    turns: int = field(kw_only=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the common state; the optimizers are the sites' own."""
        common = super().to_dict()
        return {k: v for k, v in common.items() if not k.endswith("_optimizer")}

    def gather(self, comm: Communicator) -> dict[str, Any]:
        """Return, on root, the state of every site, by rank.  Collective."""
        local = self.local
        mine = {
            **{k: v for k, v in local.to_dict().items() if k in OF_A_SITE},
            **local.gather(self.alone),
        }
        mine = on_cpu(mine)
        if local.game.average is not None:
            mine["G_ema_updates"] = local.game.average.updates
        block = self.average.block
        return {
            "sites": comm.gather(mine),
            "block_momentum": None if block is None else block.to_dict(),
        }

    def load_common(self, saved: Mapping[str, Any]) -> None:
        """Continue from what `to_dict` and `gather` returned, `local` having done so."""
        self.progress = Progress(**saved["progress"])
        self.window = Window(**saved["window"])
        self.losses = dict(saved["losses"])
        if self.average.block is not None:
            self.average.block.load(saved["block_momentum"])

    @property
    def shows_reals(self) -> bool:
        return not self.own_data

    @property
    def before(self) -> int:
        return (self.progress.step - 1) // self.length * self.length


def on_cpu(value: Any) -> Any:
    """Return nested dicts and lists with their tensors on the CPU, whatever device a site has."""
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: on_cpu(each) for key, each in value.items()}
    if isinstance(value, list):
        return [on_cpu(each) for each in value]
    return value


OF_A_SITE = {"progress", "window", "losses", "balance", "G_optimizer", "D_optimizer"}


def of_site(saved: Mapping[str, Any], rank: int) -> dict[str, Any]:
    """Return the state of one site in a checkpoint, as that of a run by itself."""
    mine = saved["sites"][rank]
    found = {**saved, **mine, "data": {**saved["data"], **saved["data"]["sites"][rank]}}
    if "G_ema" in saved:
        found["G_ema"] = {**saved["G_ema"], "updates": mine["G_ema_updates"]}
    return found


def build_sites(
    comm: Communicator, start: Start, dataset: Dataset, device: torch.device
) -> SitesState:
    """Return the state that a run of sites starts from, new or saved.  Collective.

    Raises UserError if a resumed run would go on with other data.
    """
    config, alone = start.config, comm.alone()
    lo, hi = shard(config.batch, comm.rank, comm.world_size)
    images = len(dataset.images)
    about = {"source": dataset.source, "count": images, "sha256": dataset.sha256}
    sites = comm.allgather(about)
    own_data = len({site["sha256"] for site in sites}) > 1
    largest = -1 if dataset.labels is None else int(dataset.labels.max())
    classes = max(comm.allgather(largest)) + 1
    mine = start
    if start.saved is not None:
        mine = replace(start, saved=of_site(start.saved, comm.rank))
    local = comm.agree(lambda: build_state(alone, mine, dataset, device, classes))
    for network in local.game.networks.values():
        broadcast_network(comm, network)
    turns = turns_of_a_round(config, images, hi - lo if own_data else config.batch)
    state = SitesState(
        config,
        _common_data(comm, local.data, sites, own_data),
        local.game,
        alone=alone,
        local=local,
        test=share_tests(comm, start.source, dataset),
        average=_average(comm, config, local.game, images if own_data else hi - lo),
        own_data=own_data,
        length=max(comm.allgather(turns)),
        turns=turns,
    )
    _draw_labels_of_all(state)
    if start.saved is not None:
        state.load_common(start.saved)
    return state


def check_count(comm: Communicator, start: Start) -> None:
    """Raise UserError for more sites than images in a batch, or another number than before."""
    batch, sites = start.config.batch, comm.world_size
    if batch < sites:
        raise UserError(
            f"Invalid value for '--batch': {batch} leaves some of {sites} sites without images; "
            "give at least as many as there are sites.",
            exit_code=2,
            on_all_ranks=True,
        )
    before = len(start.saved["sites"]) if start.saved else sites
    if before != sites:
        raise UserError(
            f"--resume: {start.run_dir} was trained by {before} site(s), each with optimizers and "
            f"a position of its own, and these are {sites} rank(s); start {before}.",
            exit_code=2,
            on_all_ranks=True,
        )


def _average(comm: Communicator, config: TrainConfig, game: Game, size: int) -> WeightAverage:
    """Return what averages sites by their sizes.  Collective."""
    momentum = None
    if config.block_momentum != "no":
        momentum = block_momentum(config.block_momentum, comm.world_size)
    weight = size / sum(comm.allgather(size))
    return WeightAverage(comm, game, weight, config.optimizer_state, momentum)


def _draw_labels_of_all(state: SitesState) -> None:
    """Let samples have labels as often as all sites together, and not as often as this one."""
    if "label_counts" in state.data:
        generators: list[Any] = [state.game.G.network, state.game.sampler]
        for generator in generators:
            generator.label_counts = tuple(state.data["label_counts"])


def _common_data(
    comm: Communicator, local: dict[str, Any], sites: list[dict[str, Any]], own: bool
) -> dict[str, Any]:
    """Return what the data of all sites are together, as RunState.data.  Collective."""
    data = {**local, "sites": sites}
    counts = comm.allgather(local.get("label_counts", []))
    if not own:
        return data
    data |= {
        "name": f"{len(sites)}-sites",
        "source": local["datadir"],
        "count": sum(site["count"] for site in sites),
        "sha256": hashlib.sha256("".join(site["sha256"] for site in sites).encode()).hexdigest(),
    }
    if "label_counts" in local:
        data["label_counts"] = [sum(each) for each in zip(*counts, strict=True)]
    return data


def turns_of_a_round(config: TrainConfig, images: int, batch: int) -> int:
    """Return the steps of a round of a site with so many images, `batch` of them an update.

    Raises UserError, on all ranks, if there are no epochs.
    """
    length, in_epochs = round_length(config.every)
    if not in_epochs:
        return int(length)
    a_step = config.images_per_step // config.batch * batch
    if not a_step:
        raise UserError(
            f"Invalid value for '--every': {config.every}, but --train generator consumes no real "
            "images; give a number of steps.",
            exit_code=2,
            on_all_ranks=True,
        )
    return math.ceil(length * images / a_step)
