"""gan-mpi presets."""

import textwrap
from dataclasses import asdict, fields
from typing import Any

import click

from gan_mpi.config.presets import PRESETS, Preset
from gan_mpi.config.resolve import new_config, run_config
from gan_mpi.config.training import BEYOND, SITES, TrainConfig
from gan_mpi.runs.log import say

WIDTH = 88
TRIED = "Tried on MNIST, in floors of the Frechet distance (1 is what real images have)"


@click.command(short_help="List the systems that can be trained, or describe one.")
@click.argument("name", required=False, type=click.Choice(list(PRESETS)))
def presets(name: str | None) -> int:
    """List the systems that can be trained, or describe the one of NAME.

    Its page holds the whole configuration, the layers of both networks, the original's command
    beside ours, and what is odd about it.
    """
    if name is None:
        column = max(map(len, PRESETS))
        for known, preset in PRESETS.items():
            say(f"{known:{column}}  {preset.summary}")
        return 0
    say(page(name))
    return 0


def page(name: str) -> str:
    """Return all that is to be known of a preset."""
    preset, config = PRESETS[name], new_config({"preset": name})
    sections = {
        "The original": preset.original,
        "Here": f"mpiexec -n 4 gan-mpi train --preset {name}",
        "Length": _length(preset, config),
        "Configuration": _configuration(name, config),
        "Layers": _layers(config),
        "Odd, and kept or mended": "\n".join(
            textwrap.fill(text, WIDTH - 2, initial_indent="- ", subsequent_indent="  ")
            for text in preset.oddities
        ),
    }
    if preset.tried:
        sections[TRIED] = _tried(preset)
    if preset.measured_by:
        sections["These figures are made by"] = preset.measured_by
    body = "\n\n".join(
        f"{heading}:\n{textwrap.indent(text, '  ')}" for heading, text in sections.items()
    )
    return f"{name}: {preset.summary}\n\n{body}"


def _tried(preset: Preset) -> str:
    width = max(len(row[0]) for row in preset.tried)
    rows = [("", "steps", "seed 0", "seed 1"), *preset.tried]
    return "\n".join(
        f"{what:{width}}{steps:>7}{one:>9}{other:>9}" for what, steps, one, other in rows
    )


def _length(preset: Preset, config: TrainConfig) -> str:
    return (
        f"--fast {preset.fast_steps} steps, --full {preset.full_steps}; "
        f"{config.images_per_step} real images a step"
    )


def _configuration(name: str, config: TrainConfig) -> str:
    values: dict[str, Any] = asdict(config)
    for player in ("G", "D"):
        inner = values.pop(player)
        text = ", ".join(f"{k} {v}" for k, v in inner.items() if v is not None)
        values[player] = text
    off = {f.name for f in fields(TrainConfig) if f.metadata.get("group") in (SITES, BEYOND)}
    values = {
        key: value
        for key, value in values.items()
        if key not in off or value != getattr(TrainConfig, key)
    }
    if config.network != "modern":
        del values["width"], values["blocks"]
    where = run_config(config, {}, {})
    grid = where.grid or ("6x6" if config.conditional == "no" else "a row a class, 10 of each")
    values |= {"checkpoint_every": where.checkpoint_every, "grid": grid}
    return "\n".join(f"{key:16} {value}" for key, value in values.items())


def _layers(config: TrainConfig) -> str:
    from gan_mpi.datasets.find import SHAPES
    from gan_mpi.networks.build import build_discriminator, build_generator
    from gan_mpi.networks.describe import layer_table

    shape = SHAPES[config.dataset]
    lines = []
    for title, network, inputs in (
        ("generator", build_generator(config, shape), (config.latent_dim,)),
        ("discriminator", build_discriminator(config, shape), shape),
    ):
        rows = layer_table(network, inputs)  # type: ignore[arg-type]
        total = sum(parameters for _, _, parameters in rows)
        start = "x".join(map(str, inputs))
        lines += [
            f"{title}: {start} to {rows[-1][1]}, {total:,} parameters",
            *(f"  {layer:46} {out:>10} {n:>12,}" for layer, out, n in rows),
        ]
    return "\n".join(lines)
