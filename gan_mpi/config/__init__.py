"""What can be asked for, and what contradicts."""

from gan_mpi.config.optimizer import OPTIMIZERS, RATES, OptimizerConfig
from gan_mpi.config.original import DATASETS, NETWORKS, WITHOUT_TARGETS, OriginalConfig
from gan_mpi.config.running import RunConfig, grid_size
from gan_mpi.config.sites import RANK, block_momentum, round_length
from gan_mpi.config.training import TrainConfig, interval

__all__ = [
    "DATASETS",
    "NETWORKS",
    "OPTIMIZERS",
    "RANK",
    "RATES",
    "WITHOUT_TARGETS",
    "OptimizerConfig",
    "OriginalConfig",
    "RunConfig",
    "TrainConfig",
    "block_momentum",
    "grid_size",
    "interval",
    "round_length",
]
