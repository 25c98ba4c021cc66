"""A configuration in a few lines: what is trained, and how, on so many ranks."""

from dataclasses import fields

from gan_mpi import __version__
from gan_mpi.config.optimizer import OptimizerConfig
from gan_mpi.config.training import BEYOND, TrainConfig
from gan_mpi.errors import flag
from gan_mpi.streams import shard


def config_lines(config: TrainConfig, world_size: int) -> list[str]:
    """Return what is trained, and how, on so many ranks."""
    return [
        f"gan-mpi {__version__}, preset {config.preset}, seed {config.seed}, {config.precision}",
        f"networks: {config.network}{_sizes(config)}, {_model(config)}",
        f"{shares(config.batch, world_size)}; {_turn(config)}",
        f"G: {_describe(config.G)}",
        f"D: {_describe(config.D)}",
        *_beyond(config),
    ]


def shares(batch: int, world_size: int) -> str:
    """Say how a global batch is divided among the ranks."""
    sizes = [hi - lo for lo, hi in (shard(batch, rank, world_size) for rank in range(world_size))]
    if min(sizes) == max(sizes):
        each = "" if world_size == 1 else " on each rank"
        return f"batch {batch}: {sizes[0]} images{each} in every update"
    if world_size <= 8:
        return f"batch {batch}: {' + '.join(map(str, sizes))} images on ranks 0 to {world_size - 1}"
    return f"batch {batch}: {min(sizes)} or {max(sizes)} images on each rank in every update"


def _sizes(config: TrainConfig) -> str:
    if config.network != "modern":
        return ""
    return f" of width {config.width} and {config.blocks} block(s) a size"


def _model(config: TrainConfig) -> str:
    latents = f"{config.latent_dim} {config.latents} latents"
    return f"images {config.range}, {latents}, loss {config.loss}"


def _beyond(config: TrainConfig) -> list[str]:
    """Return a line of what is on that no original had, as options, if anything is."""
    every = [each for each in fields(config) if each.metadata.get("group") == BEYOND]
    on = [each.name for each in every if getattr(config, each.name) != each.default]
    said = [f"{flag(name)} {_short(getattr(config, name))}" for name in on]
    return [f"with {' '.join(said)}"] if said else []


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _turn(config: TrainConfig) -> str:
    if config.schedule == "balance":
        return "each step trains the player with the larger loss"
    return f"each step trains {', '.join(config.turn)}"


def _describe(optimizer: OptimizerConfig) -> str:
    settings = ", ".join(f"{name} {_short(value)}" for name, value in optimizer.settings.items())
    warmup = f", warmup {optimizer.warmup:g} kimg" if optimizer.warmup else ""
    return f"{optimizer.optimizer}, {settings}, {optimizer.lr_schedule}{warmup}"
