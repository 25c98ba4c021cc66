"""The generator of a checkpoint."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gan_mpi.config.resolve import config_from_dict
from gan_mpi.config.training import TrainConfig
from gan_mpi.drawing.pictures import made_by
from gan_mpi.game.precision import DTYPES
from gan_mpi.networks.build import make_generator
from gan_mpi.networks.generator import Generator
from gan_mpi.runs import checkpoint
from gan_mpi.runs.find import newest_trained
from gan_mpi.runs.log import warn
from gan_mpi.runs.record import DataRecord


@dataclass(frozen=True)
class SavedGenerator:
    """What a checkpoint holds of a generator, and what it was trained as."""

    path: Path
    config: TrainConfig
    data: DataRecord
    step: int
    images: int  # real images that it has seen, over all ranks
    version: str  # of gan-mpi
    weights: dict[str, Tensor]

    @property
    def facts(self) -> dict[str, object]:
        """What made a picture that it draws."""
        return made_by(self.config, self.data.name, self.step, self.version)

    def build(self) -> Generator:
        """Return the network, on the CPU.  Raises UserError if the weights are not for it."""
        try:
            with torch.device("meta"):  # where tensors have shapes only, whatever settings say
                network = make_generator(self.config, self.data.shape, self.data.label_counts)
            weights = dict(self.weights)  # torch notes in its own class that they are assigned
            network.load_state_dict(weights, assign=True)
        except (RuntimeError, TypeError, OverflowError):  # the last two of sizes beyond 2**63
            raise checkpoint.unusable(self.path, self.version, checkpoint.OTHER_NETWORKS) from None
        return network.to(DTYPES[self.config.precision])


def read_generator(path: Path, saved: checkpoint.Checkpoint, ema: bool) -> SavedGenerator:
    """Return the generator in a checkpoint: its averaged copy, if there is one and it is wanted."""
    checkpoint.require_known(path, saved, checkpoint.TO_DRAW)
    weights = saved["G_ema"]["network"] if ema and "G_ema" in saved else saved["G"]
    progress = saved["progress"]
    return SavedGenerator(
        path,
        config_from_dict(saved["config"]),
        DataRecord.from_dict(saved["data"]),
        progress["step"],
        progress["images"],
        saved["version"],
        weights,
    )


def find_generator(source: Path | None, step: int | None, ema: bool = True) -> SavedGenerator:
    """Return the generator of a checkpoint file, or of a run's checkpoint, the newest by default.

    Without a source it is that of the newest run in 'runs'.  Warns on stderr of newer checkpoints
    that cannot be read.  Raises UserError.
    """
    checkpoint_of_step = checkpoint.find_checkpoint(source or newest_trained(), step, warn)
    return read_generator(*checkpoint_of_step, ema)
