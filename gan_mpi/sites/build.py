"""What a run of sites starts from."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from gan_mpi.config.training import TrainConfig
from gan_mpi.config.values import block_momentum, round_length
from gan_mpi.datasets.dataset import Dataset
from gan_mpi.errors import UserError, invalid_value
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.batch_norm import batch_norms
from gan_mpi.parallel.replicas import broadcast_network
from gan_mpi.runs.record import DataRecord, SiteRecord
from gan_mpi.sites.average import WeightAverage
from gan_mpi.sites.data import share_tests
from gan_mpi.sites.state import SitesState, of_site
from gan_mpi.streams import shard
from gan_mpi.training.build import (
    build_with_labels,
    count_labels,
    require_fit,
    require_same_data,
    require_statistics,
)
from gan_mpi.training.start import Start
from gan_mpi.training.state import RunState


def build_sites(
    comm: Communicator, start: Start, dataset: Dataset, device: torch.device
) -> SitesState:
    """Return the state that a run of sites starts from, new or saved.  Collective.

    Raises UserError if a resumed run would go on with other data.
    """
    config, alone = start.config, comm.alone()
    lo, hi = shard(config.batch, comm.rank, comm.world_size)
    images = len(dataset.images)
    sites = comm.allgather(SiteRecord(dataset.source, images, dataset.sha256))
    own_data = len({site.sha256 for site in sites}) > 1
    labels, known = _labels(comm, config, dataset, own_data)
    local = comm.agree(lambda: build_with_labels(alone, start, dataset, device, labels, known))
    if start.saved is None:
        share = config.batch // comm.world_size
        comm.alike(lambda: require_statistics(local, share, "or start fewer sites"))
    for network in local.networks.values():
        broadcast_network(comm, network)
        for layer in batch_norms(network):
            layer.native = False  # sites compute to the last bit what replicas do
    batch = hi - lo if own_data else config.batch
    turns = comm.alike(lambda: turns_of_a_round(config, images, batch))
    state = SitesState(
        config,
        comm.rank,
        _of_all(local.data, sites, own_data, known),
        local,
        alone,
        _average(comm, local, images if own_data else hi - lo),
        share_tests(comm, start.source, dataset),
        own_data,
        length=max(comm.allgather(turns)),
        turns=turns,
    )
    saved = start.saved
    if saved is not None:
        mine = of_site(saved, comm.rank)
        comm.agree(lambda: require_same_data(mine, dataset))
        comm.agree(lambda: require_fit(start, mine, local))
        state.load(saved)
    return state


def require_same_count(start: Start, sites: int) -> None:
    """Raise UserError for more sites than images in a batch, or another number than before."""
    batch = start.config.batch
    if batch < sites:
        raise invalid_value(
            "batch",
            f"{batch} leaves some of {sites} sites without images; give at least as many as "
            "there are sites",
        )
    before = len(start.saved["sites"]) if start.saved else sites
    if before != sites:
        raise UserError(
            f"--resume: {start.run_dir} was trained by {before} site(s), each with optimizers "
            f"and a position of its own, and these are {sites} rank(s); start {before}.",
            exit_code=2,
        )


def _labels(
    comm: Communicator, config: TrainConfig, dataset: Dataset, own_data: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the labels of this site and of all sites, counted by class.  Collective."""
    largest = -1 if dataset.labels is None else int(dataset.labels.max())
    classes = max(comm.allgather(largest)) + 1
    mine = comm.agree(lambda: count_labels(config, dataset, classes))
    if not own_data:
        return mine, mine
    return mine, tuple(sum(each) for each in zip(*comm.allgather(mine), strict=True))


def _average(comm: Communicator, local: RunState, size: int) -> WeightAverage:
    """Return what averages sites by their sizes.  Collective."""
    momentum, config = None, local.config
    if config.block_momentum != "no":
        momentum = block_momentum(config.block_momentum, comm.world_size)
    weight = size / sum(comm.allgather(size))
    players = local.game.G, local.game.D
    return WeightAverage(comm, local.networks, players, weight, config.optimizer_state, momentum)


def _of_all(
    local: DataRecord, sites: Sequence[SiteRecord], own_data: bool, known: tuple[int, ...]
) -> DataRecord:
    """Return the record of the data of all sites together."""
    if not own_data:
        return replace(local, sites=tuple(sites))
    digests = "".join(site.sha256 for site in sites)
    return replace(
        local,
        sites=tuple(sites),
        name=f"{len(sites)}-sites",
        source=str(local.datadir),
        count=sum(site.count for site in sites),
        sha256=hashlib.sha256(digests.encode()).hexdigest(),
        label_counts=known,
    )


def turns_of_a_round(config: TrainConfig, images: int, batch: int) -> int:
    """Return the steps of a round of a site with so many images, `batch` of them an update.

    Raises UserError if there are no epochs.
    """
    length, in_epochs = round_length(config.every)
    if not in_epochs:
        return int(length)
    a_step = config.images_per_step // config.batch * batch
    if not a_step:
        raise invalid_value(
            "every",
            f"{config.every}, but --train generator consumes no real images; give a number of "
            "steps",
        )
    return math.ceil(length * images / a_step)
