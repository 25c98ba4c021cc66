"""Everything that decides the future of a run, and so everything that a checkpoint holds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from gan_mpi import __version__
from gan_mpi.cluster.processors import MKL, ONEDNN
from gan_mpi.config.training import TrainConfig
from gan_mpi.extras.augment import Adaptation
from gan_mpi.extras.ema import GeneratorEMA
from gan_mpi.extras.replay import Replay
from gan_mpi.game.balance import Balance
from gan_mpi.game.host import Host
from gan_mpi.game.optimizers import load_optimizer
from gan_mpi.game.players import Game
from gan_mpi.mpi.comm import Communicator
from gan_mpi.networks.generator import Generator
from gan_mpi.runs.checkpoint import (
    Checkpoint,
    SavedBalance,
    SavedProgress,
    SavedTurn,
    SavedWindow,
    on_cpu,
)
from gan_mpi.runs.record import DataRecord
from gan_mpi.streams import seed_after
from gan_mpi.training.books import Books
from gan_mpi.training.progress import Begun, Progress, Window


class State(Protocol):
    """A run at the end of a step, or of a round, to those who write, draw and measure it.

    `losses` are the last ones, by the names of game/updates.py, and loss_D.  `round_figures` are
    what stats.jsonl says of the last round, empty without rounds.
    """

    @property
    def config(self) -> TrainConfig: ...

    @property
    def data(self) -> DataRecord: ...

    @property
    def game(self) -> Game: ...

    @property
    def progress(self) -> Progress: ...

    @property
    def window(self) -> Window: ...

    @property
    def losses(self) -> dict[str, float]: ...

    @property
    def round_figures(self) -> Mapping[str, object]: ...

    @property
    def sampler(self) -> Generator:
        """The generator that samples are drawn from."""

    @property
    def networks(self) -> dict[str, nn.Module]:
        """All networks that must be alike on all ranks, by name."""

    @property
    def shows_reals(self) -> bool:
        """Whether a picture of the data may be drawn: not of those that are a site's own."""

    @property
    def previous_step(self) -> int:
        """The step after which the last turn, or the last round, began."""

    def begin_window(self) -> None:
        """Begin to count figures anew, after a status line."""

    def settle(self) -> None:
        """Wait for what a device has yet to compute.  Raises UserError if it is not finite."""

    def gather(self, comm: Communicator) -> Checkpoint:
        """Return what a checkpoint holds, whole on root.  Collective."""

    def load(self, saved: Checkpoint) -> None:
        """Continue from what `gather` returned."""


class Mark(NamedTuple):
    """The small part of a state where an update began, or the records of a step.

    Until the update ends, its networks and optimizers are as they were, but for these buffers.
    What the records change, the window and the losses, is there where they began.
    """

    progress: SavedProgress
    begun: SavedTurn
    balance: SavedBalance
    buffers: list[Tensor]
    window: SavedWindow | None
    losses: dict[str, float] | None


@dataclass
class RunState:
    """The state of replicas: what was asked for, the data, the game, the counters."""

    config: TrainConfig
    data: DataRecord
    game: Game
    ema: GeneratorEMA | None = None
    replay: Replay | None = None
    adaptation: Adaptation | None = None
    progress: Progress = field(default_factory=Progress)
    host: Host = field(default_factory=Host)
    noted: Window = field(default_factory=Window)  # without what waits in the books
    noted_losses: dict[str, float] = field(default_factory=dict)
    balance: Balance = field(default_factory=Balance)
    round_figures: Mapping[str, object] = field(default_factory=dict)
    linear: str = MKL  # the library that computes linear layers
    rollbacks: int = 0  # how often the run went back to a checkpoint
    begun: Begun = field(default_factory=Begun)
    keeps_marks: bool = False  # since ranks may be lost, and the others go on
    last_mark: Mark | None = None
    marks: int = 0  # in this start

    def __post_init__(self) -> None:
        self.books = Books(self.host)

    @property
    def draws(self) -> TrainConfig:
        """The configuration with the seed that streams have after the rollbacks."""
        return replace(self.config, seed=seed_after(self.config.seed, self.rollbacks))

    @property
    def is_steady(self) -> bool:
        """Whether the next turn computes with numbers as this one does, and with nothing else."""
        return self.replay is None or self.replay.is_full

    @property
    def sampler(self) -> Generator:
        return self.game.G.network if self.ema is None else self.ema.network

    @property
    def networks(self) -> dict[str, nn.Module]:
        networks = {"G": self.game.G.network, "D": self.game.D.network}
        return networks if self.ema is None else {**networks, "G_ema": self.ema.network}

    @property
    def shows_reals(self) -> bool:
        return True

    @property
    def previous_step(self) -> int:
        return self.progress.step - 1

    def settle(self) -> None:
        """Note the figures that wait on a device.  Raises UserError if one is not finite."""
        self.books.settle()

    @property
    def window(self) -> Window:
        """The means since the last status line.  Raises UserError if one is not finite."""
        self.books.settle()
        return self.noted

    @property
    def losses(self) -> dict[str, float]:
        """The last losses.  Raises UserError if one is not finite."""
        self.books.settle()
        return self.noted_losses

    def note(self, figures: Mapping[str, float]) -> None:
        """Count the mean figures of an update in the window, and keep its losses."""
        self.noted.add(figures)
        if self.adaptation is not None and "error_real" in figures:
            self.noted.add({"augmentation": self.adaptation.probability})
            self.adaptation.note(figures["error_real"])
        self.noted_losses |= {k: v for k, v in figures.items() if k.startswith("loss")}

    def note_step(self) -> None:
        """Count the losses that a step ends with."""
        self.noted.add({f"last_{name}": loss for name, loss in self.noted_losses.items()})

    def begin_window(self) -> None:
        """Begin to count figures anew, after a status line or a round."""
        self.window.clear()

    def mark(self, records: bool = False) -> None:
        """Keep what an update, or the `records` of a step, change before they are done."""
        if not self.keeps_marks:
            return
        self.marks += 1
        self.last_mark = Mark(
            self.progress.to_dict(),
            self.begun.to_dict(),
            self.balance.to_dict(),
            [buffer.clone() for buffer in self._buffers],
            self.window.to_dict() if records else None,
            dict(self.losses) if records else None,
        )

    def gather_marked(self, comm: Communicator) -> Checkpoint:
        """Return to the last mark, after which no update was done, and gather what was then."""
        assert self.last_mark is not None, "a step has begun"
        mark = self.last_mark
        self.progress, self.begun = Progress(**mark.progress), Begun(**mark.begun)
        self.balance = Balance(**mark.balance)
        if mark.window is not None and mark.losses is not None:
            self.noted, self.noted_losses = Window.from_dict(mark.window), dict(mark.losses)
        for buffer, kept in zip(self._buffers, mark.buffers, strict=True):
            buffer.copy_(kept)
        content: Checkpoint = {**self.gather(comm), "begun": mark.begun}
        return on_cpu(content)

    @cached_property
    def _buffers(self) -> list[Tensor]:
        return [*self.game.G.network.buffers(), *self.game.D.network.buffers()]

    def stand_after(self, step: int) -> None:
        """Stand after `step` steps: a site sits out those that it has no images for."""
        self.progress.step = step

    def gather(self, comm: Communicator) -> Checkpoint:
        content: Checkpoint = {
            "version": __version__,
            "config": asdict(self.config),
            "data": self.data.to_dict(),
            "progress": self.progress.to_dict(),
            "window": self.window.to_dict(),
            "losses": dict(self.losses),
            "balance": self.balance.to_dict(),
            "G": self.game.G.network.state_dict(),
            "D": self.game.D.network.state_dict(),
            "G_optimizer": self.game.G.optimizer.state_dict(),
            "D_optimizer": self.game.D.optimizer.state_dict(),
        }
        if self.ema is not None:
            content["G_ema"] = self.ema.to_dict()
        if self.replay is not None:
            content["replay"] = self.replay.gather(comm)
        if self.adaptation is not None:
            content["adaptation"] = self.adaptation.to_dict()
        if self.rollbacks:
            content["rollbacks"] = self.rollbacks
        if self.linear == ONEDNN:
            content["kernels"] = {"linear": "onednn"}
        return content

    def load(self, saved: Checkpoint) -> None:
        self.progress = Progress(**saved["progress"])
        self.noted = Window.from_dict(saved["window"])
        self.noted_losses = dict(saved["losses"])
        self.balance = Balance(**saved["balance"])
        self.begun = Begun(**saved["begun"]) if "begun" in saved else Begun()
        G, D = self.game.G, self.game.D
        G.network.load_state_dict(dict(saved["G"]))  # copied, whatever torch has noted in them
        D.network.load_state_dict(dict(saved["D"]))
        load_optimizer(G.optimizer, saved["G_optimizer"])
        load_optimizer(D.optimizer, saved["D_optimizer"])
        if self.ema is not None:
            self.ema.load(saved["G_ema"])
        if self.replay is not None:
            device = next(G.network.parameters()).device
            self.replay.load(saved["replay"], device)
        if self.adaptation is not None:
            self.adaptation.load(saved["adaptation"])
