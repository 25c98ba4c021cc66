"""Who is trained next when the two players are balanced by their losses."""

from dataclasses import dataclass
from typing import Literal

from gan_mpi.runs.checkpoint import SavedBalance

MAX_RUNNING = 5


@dataclass
class Balance:
    """The balance rule of PaddlePaddle's demo/gan, and its state.  Part of the checkpoint.

    The player with the larger loss is trained, but none more than five times running.
    Source: gan_trainer.py, MAX_strike.
    """

    player: Literal["D", "G"] = "D"
    running: int = 0

    def choose(self, loss_D: float, loss_G: float) -> Literal["D", "G"]:
        """Return who is trained now, "D" or "G", from losses that are the same on all ranks."""
        tired = self.player if self.running == MAX_RUNNING else None
        chosen: Literal["D", "G"] = (
            "D" if tired != "D" and (tired == "G" or loss_D > loss_G) else "G"
        )
        self.running = self.running + 1 if chosen == self.player else 1
        self.player = chosen
        return chosen

    def to_dict(self) -> SavedBalance:
        """Return what a checkpoint holds of it."""
        return {"player": self.player, "running": self.running}
