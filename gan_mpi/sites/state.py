"""The state of sites: a run of their own for each, and what all of them have in common."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from gan_mpi.config.training import TrainConfig
from gan_mpi.datasets.dataset import Dataset
from gan_mpi.game.balance import Balance
from gan_mpi.game.players import Game
from gan_mpi.mpi.comm import Communicator
from gan_mpi.networks.generator import Generator
from gan_mpi.runs.checkpoint import Checkpoint, SavedSite, on_cpu
from gan_mpi.runs.record import DataRecord
from gan_mpi.sites.average import WeightAverage
from gan_mpi.training.progress import Progress, Window
from gan_mpi.training.state import RunState


@dataclass
class SitesState:
    """A run of sites at the end of a round: their common networks, and the means of their figures.

    `local` is what this rank trains: the same game, with the rank's own data, position, optimizers
    and figures.  It trains `turns` steps of the `length` of a round, and sits out the rest.
    """

    config: TrainConfig
    rank: int  # of this site
    data: DataRecord  # of all sites together
    local: RunState
    alone: Communicator  # this rank only
    average: WeightAverage
    test: Dataset | None  # images to validate on
    own_data: bool
    length: int
    turns: int
    progress: Progress = field(default_factory=Progress)
    window: Window = field(default_factory=Window)
    losses: dict[str, float] = field(default_factory=dict)
    round_figures: Mapping[str, object] = field(default_factory=dict)

    @property
    def game(self) -> Game:
        """The common networks, with this rank's optimizers."""
        return self.local.game

    @property
    def sampler(self) -> Generator:
        return self.local.sampler

    @property
    def networks(self) -> dict[str, nn.Module]:
        return self.local.networks

    @property
    def shows_reals(self) -> bool:
        return not self.own_data

    @property
    def previous_step(self) -> int:
        return (self.progress.step - 1) // self.length * self.length

    def begin_window(self) -> None:
        """Begin to count figures anew, after a status line."""
        self.window.clear()

    def settle(self) -> None:
        """Do nothing: a site's figures are settled at the end of a round."""

    def gather(self, comm: Communicator) -> Checkpoint:
        """Return, on root, the common state and that of every site, by rank.  Collective."""
        local = self.local.gather(self.alone)
        sites = comm.gather(_of_this_site(local, self.local))
        block = self.average.block
        content: Checkpoint = {
            "version": local["version"],
            "config": local["config"],
            "data": self.data.to_dict(),
            "progress": self.progress.to_dict(),
            "window": self.window.to_dict(),
            "losses": dict(self.losses),
            "balance": Balance().to_dict(),  # each site has its own
            "G": local["G"],
            "D": local["D"],
            "sites": sites,
            "block_momentum": None if block is None else block.to_dict(),
        }
        if "G_ema" in local:
            content["G_ema"] = local["G_ema"]
        if "kernels" in local:
            content["kernels"] = local["kernels"]
        return content

    def load(self, saved: Checkpoint) -> None:
        """Continue from what `gather` returned, this site with its own part."""
        self.local.load(of_site(saved, self.rank))
        self.progress = Progress(**saved["progress"])
        self.window = Window.from_dict(saved["window"])
        self.losses = dict(saved["losses"])
        block, momentum = self.average.block, saved["block_momentum"]
        if block is not None and momentum is not None:
            block.load(momentum)


def _of_this_site(local: Checkpoint, state: RunState) -> SavedSite:
    """Return what a checkpoint holds of this site alone, on the CPU whatever its device."""
    mine: SavedSite = {
        "progress": local["progress"],
        "window": local["window"],
        "losses": local["losses"],
        "balance": local["balance"],
        "G_optimizer": on_cpu(local["G_optimizer"]),
        "D_optimizer": on_cpu(local["D_optimizer"]),
    }
    if "replay" in local:
        mine["replay"] = on_cpu(local["replay"])
    if state.ema is not None:
        mine["G_ema_updates"] = state.ema.updates
    return mine


def of_site(saved: Checkpoint, rank: int) -> Checkpoint:
    """Return the state of one site in a checkpoint, as that of a run by itself."""
    mine = saved["sites"][rank]
    data = DataRecord.from_dict(saved["data"]).of_site(rank)
    content: Checkpoint = {**saved, **mine, "data": data.to_dict()}  # type: ignore[typeddict-item]
    if "G_ema" in saved:
        content["G_ema"] = {**saved["G_ema"], "updates": mine["G_ema_updates"]}
    return content
