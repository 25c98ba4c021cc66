"""gan-mpi evaluate."""

from pathlib import Path

import click

from gan_mpi.config.running import RunConfig
from gan_mpi.options.fields import GroupedCommand, some_options
from gan_mpi.options.params import checkpoint_option, checkpoint_step, no_ema_option, run_argument


@click.command(cls=GroupedCommand, short_help="Say how good a generator is, beside real images.")
@run_argument
@checkpoint_option
@no_ema_option
@some_options(
    ("datadir", "samples", "classifier"),
    RunConfig,
    datadir="the data that the run was trained on",
)
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def evaluate(
    run_or_checkpoint: Path | None,
    checkpoint: str,
    no_ema: bool,
    datadir: str | None,
    samples: int | None,
    classifier: str | None,
    as_json: bool,
) -> int:
    """Say how good the generator of a run, or of one checkpoint file, is.

    Its samples are compared with the test images of the data that it was trained on, and beside
    each figure stands the floor: the same figure of training images in the place of samples. A
    distance of 2 floors is twice that of real images; it is quoted with the number of training
    images, which that of the samples must be, and that of test images. The
    record is appended to metrics.jsonl beside the checkpoint, with a picture of the samples that
    are nearest to training images. Any number of ranks gets the same figures.
    """
    step = checkpoint_step(checkpoint)
    from gan_mpi.mpi.world import world
    from gan_mpi.options.begin import importing

    comm = world()
    with importing():
        from gan_mpi.programs.evaluate import evaluate as run

    return run(
        comm,
        run_or_checkpoint,
        step,
        datadir,
        samples,
        classifier,
        as_json,
        not no_ema,
    )
