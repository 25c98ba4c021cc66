"""Everything that decides the future of a run, and so everything that a checkpoint holds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gan_mpi import __version__
from gan_mpi.config import TrainConfig
from gan_mpi.game.balance import Balance
from gan_mpi.game.players import Game
from gan_mpi.mpi.comm import Communicator
from gan_mpi.training.progress import Progress, Window


@dataclass
class RunState:
    """A run at the end of a step: what was asked for, the data, the game and the counters.

    `data` describes the data set: name, source, datadir, glyphs, count, shape, sha256,
    `label_counts` by class if the networks are given labels, `sites` if each has its own, and
    `transfer`, where the networks came from, if from elsewhere. `losses` are the last ones, by the
    names of step.py, and loss_D.  `more` is what else stats.jsonl should say of the last steps.
    """

    config: TrainConfig
    data: dict[str, Any]
    game: Game
    progress: Progress = field(default_factory=Progress)
    window: Window = field(default_factory=Window)
    losses: dict[str, float] = field(default_factory=dict)
    balance: Balance = field(default_factory=Balance)
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def shows_reals(self) -> bool:
        """Whether a picture of the data may be drawn: not of those that are a site's own."""
        return True

    @property
    def before(self) -> int:
        """The step after which the last turn, or the last round, began."""
        return self.progress.step - 1

    def to_dict(self) -> dict[str, Any]:
        """Return the state as tensors, numbers and strings."""
        average = self.game.average
        of_average = {} if average is None else {"G_ema": average.to_dict()}
        return {
            **of_average,
            "version": __version__,
            "config": asdict(self.config),
            "data": self.data,
            "progress": asdict(self.progress),
            "window": asdict(self.window),
            "losses": dict(self.losses),
            "balance": asdict(self.balance),
            "G": self.game.G.network.state_dict(),
            "D": self.game.D.network.state_dict(),
            "G_optimizer": self.game.G.optimizer.state_dict(),
            "D_optimizer": self.game.D.optimizer.state_dict(),
        }

    def gather(self, comm: Communicator) -> dict[str, Any]:
        """Return, on root, what a checkpoint holds besides `to_dict`.  Collective."""
        replay = self.game.replay
        return {} if replay is None else {"replay": replay.gather(comm)}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Continue from what `to_dict` and `gather` returned."""
        self.progress = Progress(**saved["progress"])
        self.window = Window(**saved["window"])
        self.losses = dict(saved["losses"])
        self.balance = Balance(**saved["balance"])
        for name, player in (("G", self.game.G), ("D", self.game.D)):
            player.network.load_state_dict(saved[name])
            player.optimizer.load_state_dict(saved[f"{name}_optimizer"])
        if self.game.average is not None:
            self.game.average.load(saved["G_ema"])
        if self.game.replay is not None:
            device = next(self.game.G.network.parameters()).device
            self.game.replay.load(saved["replay"], device)
