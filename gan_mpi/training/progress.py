"""How far a run is, and the means since its last status line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self, cast

from gan_mpi.runs.checkpoint import SavedProgress, SavedTurn, SavedWindow


@dataclass
class Window:
    """Sums of global means since the last status line.  Part of the checkpoint."""

    totals: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    updates: dict[str, int] = field(default_factory=lambda: {"D": 0, "G": 0})

    def add(self, figures: Mapping[str, float]) -> None:
        """Add means over a global batch, by name."""
        for name, mean in figures.items():
            self.totals[name] = self.totals.get(name, 0.0) + mean
            self.counts[name] = self.counts.get(name, 0) + 1

    def count_updates(self, player: str, updates: int = 1) -> None:
        """Count updates of a player, G or D."""
        self.updates[player] += updates

    def clear(self) -> None:
        """Begin anew, after a status line."""
        self.totals, self.counts, self.updates = {}, {}, {"D": 0, "G": 0}

    def to_dict(self) -> SavedWindow:
        """Return what a checkpoint holds of it."""
        return {
            "totals": dict(self.totals),
            "counts": dict(self.counts),
            "updates": {"D": self.updates["D"], "G": self.updates["G"]},
        }

    @classmethod
    def from_dict(cls, saved: SavedWindow) -> Self:
        """Return what `to_dict` returned as a window."""
        updates = {"D": saved["updates"]["D"], "G": saved["updates"]["G"]}
        return cls(dict(saved["totals"]), dict(saved["counts"]), updates)

    def means(self) -> dict[str, float]:
        """Return the mean of each figure over the updates that it was taken in."""
        return {name: total / self.counts[name] for name, total in self.totals.items()}

    def since(self, before: SavedWindow) -> "Window":
        """Return what was added since `to_dict` returned `before`."""
        counts = {name: n - before["counts"].get(name, 0) for name, n in self.counts.items()}
        added = {name: n for name, n in counts.items() if n}
        totals = {name: self.totals[name] - before["totals"].get(name, 0.0) for name in added}
        updates = {"D": self.updates["D"], "G": self.updates["G"]}
        return Window(totals, added, {p: updates[p] - before["updates"][p] for p in ("D", "G")})


def passed(before: int, after: int, every: int) -> bool:
    """Return whether a multiple of `every` is among the steps before+1 .. after."""
    return after // every > before // every


@dataclass
class Progress:
    """How far a run is, the same on all ranks; every stream's position follows from it.

    That of a site counts what it would be if the others did as much.
    """

    step: int = 0
    updates_G: int = 0
    updates_D: int = 0
    images: int = 0  # real images consumed, over all ranks
    latents: int = 0  # latents drawn, over all ranks

    def advance(
        self,
        step: int = 0,
        updates_G: int = 0,
        updates_D: int = 0,
        images: int = 0,
        latents: int = 0,
    ) -> None:
        """Go on by so much."""
        self.step += step
        self.updates_G += updates_G
        self.updates_D += updates_D
        self.images += images
        self.latents += latents

    def to_dict(self) -> SavedProgress:
        """Return what a checkpoint holds of it."""
        return cast(SavedProgress, dict(vars(self)))

    def updates_of(self, player: str) -> int:
        """Return the updates of a player, G or D."""
        return self.updates_G if player == "G" else self.updates_D


@dataclass
class Begun:
    """What of the turn under way is done.  Fields are those of SavedTurn."""

    is_recorded: bool = True
    players: int = 0
    latents_G: int | None = None
    of_fakes: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> SavedTurn:
        """Return what a run goes on with."""
        return cast(SavedTurn, {**vars(self), "of_fakes": dict(self.of_fakes)})
