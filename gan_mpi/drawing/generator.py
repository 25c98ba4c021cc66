"""The generator of a checkpoint."""

from typing import Any

from torch import nn

from gan_mpi.config.resolve import config_from_dict
from gan_mpi.game.precision import DTYPES
from gan_mpi.networks.build import build_generator


def load_generator(state: dict[str, Any], averaged: bool = True) -> nn.Module:
    """Return the generator of a checkpoint's state, on the CPU: its average, if there is one."""
    config, data = config_from_dict(state["config"]), state["data"]
    counts = data.get("label_counts", ())
    generator = build_generator(config, tuple(data["shape"]), counts)
    average = state.get("G_ema") if averaged else None
    weights = state["G"] if average is None else average["network"]
    generator.to(DTYPES[config.precision]).load_state_dict(weights)
    return generator
