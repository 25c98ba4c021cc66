"""What is said and recorded of a start of a run before its first step."""

import datetime
import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from gan_mpi import __version__
from gan_mpi.cluster.device import Placement
from gan_mpi.config import OptimizerConfig, TrainConfig
from gan_mpi.datasets.dataset import Dataset
from gan_mpi.lifecycle.phases import Phases
from gan_mpi.mpi.comm import Communicator
from gan_mpi.mpi.world import library_name
from gan_mpi.sites.state import SitesState
from gan_mpi.streams import shard
from gan_mpi.training.state import RunState


def shares(batch: int, world_size: int) -> str:
    """Say how a global batch is divided among the ranks."""
    sizes = [hi - lo for lo, hi in (shard(batch, rank, world_size) for rank in range(world_size))]
    if min(sizes) == max(sizes):
        each = "" if world_size == 1 else " on each rank"
        return f"batch {batch}: {sizes[0]} images{each} in every update"
    if world_size <= 8:
        return f"batch {batch}: {' + '.join(map(str, sizes))} images on ranks 0 to {world_size - 1}"
    return f"batch {batch}: {min(sizes)} or {max(sizes)} images on each rank in every update"


def opening_lines(
    comm: Communicator, state: RunState, dataset: Dataset, placement: Placement
) -> list[str]:
    """Return what is said before the first step.  Collective."""
    config = state.config
    hosts = list(dict.fromkeys(comm.allgather(platform.node())))
    what = "images" if len(dataset.shape) == 3 else "points"
    shape = "x".join(map(str, dataset.shape))
    lines = []
    if dataset.name == "glyphs":
        lines.append(
            "These are drawn glyphs, not MNIST: digits in Pillow's own font. To train on MNIST, "
            "give the folder with its files: --datadir DIR."
        )
    if isinstance(state, SitesState):
        lines += _of_sites(state)
    elif config.batch_norm == "local" and comm.world_size > 1:
        lines.append(
            "batch norm is local: the result depends on the number of ranks, here "
            f"{comm.world_size}."
        )
    named = ", ".join(hosts[:4]) + (", ..." if len(hosts) > 4 else "")
    return [
        *lines,
        f"gan-mpi {__version__}, preset {config.preset}, seed {config.seed}, {config.precision}",
        f"data: {state.data['count']} {what} of {shape} from {state.data['source']}",
        f"ranks: {comm.world_size} on {len(hosts)} host(s) ({named}), {library_name()}",
        f"networks: {config.network}, {_model(config)}",
        f"device: {placement.device}, {placement.threads} thread(s) a rank",
        f"{shares(config.batch, comm.world_size)}; {_turn(config)}",
        *(f"{player}: {_describe(getattr(config, player))}" for player in ("G", "D")),
    ]


def _of_sites(state: SitesState) -> list[str]:
    every, sites = state.config.every, state.data["sites"]
    each = [
        f"site {rank}: {site['count']} images from {site['source']}"
        for rank, site in enumerate(sites)
    ]
    what = "each trains by itself, on data of its own" if state.own_data else "all share the data"
    return [
        (
            f"weights are averaged after rounds of {state.length} steps (--every {every}): the "
            f"result depends on the number of sites, here {len(sites)}; {what}."
        ),
        *(each if state.own_data else []),
    ]


def _model(config: TrainConfig) -> str:
    latents = f"{config.latent_dim} {config.latents} latents"
    return f"images {config.range}, {latents}, loss {config.loss}"


def _turn(config: TrainConfig) -> str:
    if config.schedule == "balance":
        return "each step trains the player with the larger loss"
    return f"each step trains {', '.join(config.turn)}"


def _describe(optimizer: OptimizerConfig) -> str:
    settings = ", ".join(f"{name} {value:.6g}" for name, value in optimizer.settings.items())
    warmup = f", warmup {optimizer.warmup:g} kimg" if optimizer.warmup else ""
    return f"{optimizer.optimizer}, {settings}, {optimizer.lr_schedule}{warmup}"


def segment(comm: Communicator, step: int, placement: Placement) -> dict[str, Any]:
    """Return the line of segments.jsonl for this start of a run.  Collective."""
    hosts = comm.allgather((platform.node(), str(placement.device), placement.threads))
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "first_step": step + 1,
        "ranks": comm.world_size,
        "hosts": sorted({host for host, _, _ in hosts}),
        "devices": sorted({device for _, device, _ in hosts}),
        "threads": [threads for _, _, threads in hosts],
        "versions": {
            "gan-mpi": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "mpi": library_name(),
        },
    }


def slowest(comm: Communicator, phases: Phases) -> dict[str, float]:
    """Return the seconds of each phase on the rank that took longest over it.  Collective."""
    _, longest = comm.extremes(np.array(list(phases.seconds.values())))
    return dict(zip(phases.seconds, longest.tolist(), strict=True))


def started_line(seconds: Mapping[str, float]) -> str:
    """Say how long a start took, phase by phase."""
    each = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    return f"started in {sum(seconds.values()):.1f} s: {each} (each on the slowest rank)"
