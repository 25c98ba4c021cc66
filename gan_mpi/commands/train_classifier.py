"""gan-mpi train-classifier."""

from dataclasses import replace
from pathlib import Path

import click

from gan_mpi.config.running import RunConfig
from gan_mpi.config.training import TrainConfig
from gan_mpi.options.fields import GroupedCommand, some_options
from gan_mpi.options.params import number_option, out_option, require_digits


@click.command(
    "train-classifier",
    cls=GroupedCommand,
    short_help="Train the classifier that evaluate looks through.",
)
@some_options(
    ("datadir", "glyphs", "resolution", "dataset"),
    RunConfig,
    TrainConfig,
    dataset=TrainConfig.dataset,
)
@number_option(
    "--seed",
    "Seed of the initial weights and of the order of the images.",
    minimum=0,
    maximum=2**63 - 1,
    default=0,
    metavar=None,
)
@number_option("--epochs", "Passes over the training images.", minimum=1, default=5, metavar=None)
@out_option(
    "File to write.  [default: the user's cache, where 'evaluate' looks]",
    endings=(".safetensors",),
)
def train_classifier(
    datadir: str | None,
    glyphs: int | None,
    resolution: int | None,
    dataset: str | None,
    seed: int,
    epochs: int,
    out: Path | None,
) -> int:
    """Train the classifier whose features 'gan-mpi evaluate' compares images by.

    MNIST's comes with gan-mpi. For other data with labels and test images this makes one, on all
    ranks of mpiexec, in half a minute or so.
    """
    require_digits(dataset, glyphs is not None)
    from gan_mpi.options.begin import importing, start_mpi

    comm = start_mpi()
    with importing():
        from gan_mpi.datasets.find import find_source
        from gan_mpi.programs.train_classifier import train_classifier as run

    kind = dataset or TrainConfig.dataset
    source = comm.on_root(lambda: find_source(kind, datadir, glyphs, RunConfig.glyphs))
    source = replace(source, resolution=resolution or RunConfig.resolution)
    return run(comm, source, seed, epochs, out)
