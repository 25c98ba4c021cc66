"""How a run begins: its configuration and checkpoint, the data on every node, the two players."""

import datetime
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gan_mpi import __version__, checkpoint
from gan_mpi.comm import Communicator, library_name
from gan_mpi.config import (
    RunConfig,
    TrainConfig,
    config_from_dict,
    new_config,
    resumed_config,
)
from gan_mpi.datasets import Dataset, default_datadir, load_dataset
from gan_mpi.device import Placement
from gan_mpi.errors import UserError
from gan_mpi.losses import CntkLoss
from gan_mpi.networks import build_discriminator, build_generator
from gan_mpi.parallel import broadcast_network, synchronise_batch_norm
from gan_mpi.state import RunState
from gan_mpi.step import D_SUMS, G_SUMS, Game, make_player
from gan_mpi.streams import shard

DTYPES = {"fp32": torch.float32, "fp64": torch.float64}


@dataclass
class Start:
    """What the options and the file system say of a run; found by root."""

    config: TrainConfig
    datadir: str | None
    glyphs: int
    run_dir: Path | None = None
    saved: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)

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


def run_config(given: Mapping[str, Any]) -> RunConfig:
    """Return where and how to run, by the options given."""
    return RunConfig(
        **{f.name: given[f.name] for f in fields(RunConfig) if f.name in given}
    )


def find_start(given: Mapping[str, Any]) -> Start:
    """Return how the options given start a run: anew, or from the newest checkpoint.

    Raises UserError if they contradict the checkpoint, or if there should be one and is none.
    """
    run = run_config(given)
    named = run.resume or run.run_dir
    run_dir = None if named is None else Path(named)
    if run.resume and not Path(run.resume).is_dir():
        raise UserError(f"--resume: {run.resume} is not a run directory.", exit_code=2)
    if run_dir is None or not (run.resume or checkpoint.list_checkpoints(run_dir)):
        datadir = run.datadir
        if datadir is None and "glyphs" not in given:
            datadir = default_datadir()
        return Start(new_config(given), datadir, run.glyphs, run_dir)
    warnings: list[str] = []
    _, saved = checkpoint.newest_valid(run_dir, warnings.append)
    source = saved["data"]
    if "datadir" in given or "glyphs" in given:
        source = {"datadir": run.datadir, "glyphs": run.glyphs}
    config = resumed_config(config_from_dict(saved["config"]), given)
    return Start(config, source["datadir"], source["glyphs"], run_dir, saved, warnings)


def share_dataset(
    comm: Communicator, datadir: str | None, glyphs: int
) -> tuple[Dataset, bool]:
    """Read the data once a node and give all its ranks one copy.  Collective.

    Also returns whether it is one copy.  Raises UserError if it cannot be read, or if two
    nodes read different data.
    """
    mine = comm.on_each_node(lambda: load_dataset(datadir, glyphs))
    about = (
        None if mine is None else (mine.name, mine.source, mine.sha256, platform.node())
    )
    read = [found for found in comm.allgather(about) if found is not None]
    name, source, sha256, first = read[0]
    for _, _, other, host in read:
        if other != sha256:
            error = UserError(
                f"--datadir: {host} reads other data than {first} from {source}."
            )
            error.on_all_ranks = True
            raise error
    images, shared = comm.share_on_node(None if mine is None else mine.images)
    no_labels = np.empty(0, dtype=np.uint8)
    given = mine.labels if mine is not None and mine.labels is not None else no_labels
    labels, _ = comm.share_on_node(given if mine is not None else None)
    return Dataset(
        name, source, images, labels if len(labels) else None, sha256
    ), shared


def build_state(
    comm: Communicator, start: Start, dataset: Dataset, device: torch.device
) -> RunState:
    """Return the state that a run starts from, new or saved, the same on all ranks.  Collective.

    Raises UserError if a resumed run would go on with other data.
    """
    data = {
        "name": dataset.name,
        "source": dataset.source,
        "datadir": None
        if start.datadir is None
        else str(Path(start.datadir).resolve()),
        "glyphs": start.glyphs,
        "count": len(dataset.images),
        "image_shape": list(dataset.image_shape),
        "sha256": dataset.sha256,
    }
    game = build_game(comm, start.config, dataset.image_shape, device)
    state = RunState(start.config, data, game)
    if start.saved is None:
        return state
    before = start.saved["data"]
    if before["sha256"] != dataset.sha256:
        error = UserError(
            f"--datadir: {dataset.source} is not the data that this run was trained on, "
            f"{before['source']}; a resumed run keeps its data.",
            exit_code=2,
        )
        error.on_all_ranks = True
        raise error
    state.load(start.saved)
    return state


def build_game(
    comm: Communicator,
    config: TrainConfig,
    image_shape: tuple[int, int, int],
    device: torch.device,
) -> Game:
    """Return the two players with the same initial weights on all ranks.  Collective."""
    dtype = DTYPES[config.precision]
    generator = build_generator(config.latent_dim, image_shape, config.seed).to(
        device, dtype
    )
    discriminator = build_discriminator(image_shape, config.seed).to(device, dtype)
    for network in (generator, discriminator):
        synchronise_batch_norm(comm, network)
        broadcast_network(comm, network)
    return Game(
        G=make_player(generator, config.G, config.batch, G_SUMS),
        D=make_player(discriminator, config.D, config.batch, D_SUMS),
        loss=CntkLoss(),
    )


def shares(batch: int, world_size: int) -> str:
    """Say how a global batch is divided among the ranks."""
    sizes = [
        hi - lo
        for lo, hi in (shard(batch, rank, world_size) for rank in range(world_size))
    ]
    if min(sizes) == max(sizes):
        each = "" if world_size == 1 else " on each rank"
        return f"batch {batch}: {sizes[0]} images{each} in every update"
    if world_size <= 8:
        return f"batch {batch}: {' + '.join(map(str, sizes))} images on ranks 0 to {world_size - 1}"
    return f"batch {batch}: {min(sizes)} or {max(sizes)} images on each rank in every update"


def opening_lines(
    comm: Communicator, config: TrainConfig, dataset: Dataset, placement: Placement
) -> list[str]:
    """Return what is said before the first step.  Collective."""
    hosts = list(dict.fromkeys(comm.allgather(platform.node())))
    channels, height, width = dataset.image_shape
    lines = []
    if dataset.name == "glyphs":
        lines.append(
            "These are drawn glyphs, not MNIST: digits in Pillow's own font. To train on MNIST, "
            "give the folder with its files: --datadir DIR."
        )
    named = ", ".join(hosts[:4]) + (", ..." if len(hosts) > 4 else "")
    return [
        *lines,
        f"gan-mpi {__version__}, preset {config.preset}, seed {config.seed}, {config.precision}",
        f"data: {len(dataset.images)} images of {channels}x{height}x{width} from {dataset.source}",
        f"ranks: {comm.world_size} on {len(hosts)} host(s) ({named}), {library_name()}",
        f"device: {placement.device}, {placement.threads} thread(s) a rank",
        f"{shares(config.batch, comm.world_size)}; {config.d_steps} D and 1 G updates a step",
        *(f"{player}: {_describe(getattr(config, player))}" for player in ("G", "D")),
    ]


def _describe(optimizer: Any) -> str:
    settings = ", ".join(
        f"{name} {value:.6g}" for name, value in optimizer.settings.items()
    )
    warmup = f", warmup {optimizer.warmup:g} kimg" if optimizer.warmup else ""
    return f"{optimizer.optimizer}, {settings}, {optimizer.lr_schedule}{warmup}"


def segment(comm: Communicator, step: int, placement: Placement) -> str:
    """Return the line of segments.jsonl for this start of a run.  Collective."""
    hosts = comm.allgather((platform.node(), str(placement.device), placement.threads))
    about = {
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
    return json.dumps(about)


def describe_start(start: Start) -> dict[str, Any]:
    """Return the resolved configuration, for people."""
    data = (
        {"glyphs": start.glyphs}
        if start.datadir is None
        else {"datadir": start.datadir}
    )
    return {
        "config": asdict(start.config),
        "data": data,
        "resumes": start.saved is not None,
    }
