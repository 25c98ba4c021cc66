"""gan-mpi sample."""

from pathlib import Path

import click

from gan_mpi.options.params import (
    ClassList,
    GridSize,
    SeedRange,
    TwoSeeds,
    checkpoint_option,
    checkpoint_step,
    choice_option,
    format_of,
    no_ema_option,
    number_option,
    out_option,
    require_ending,
    run_argument,
)

ENDINGS = {"png": ".png", "npz": ".npz", "pngs": ""}


@click.command(short_help="Draw images, the way between two, or a timelapse.")
@run_argument
@checkpoint_option
@no_ema_option
@click.option(
    "--class",
    "classes",
    type=ClassList(),
    metavar="LIST",
    help="Classes to draw, one a row, of a run with labels, by name or number, such as dog or "
    "0-4,7.  [default: all]",
)
@click.option(
    "--seeds",
    type=SeedRange(),
    metavar="LIST",
    help="Such as 0,1,4-6.  [default: fill the grid]",
)
@click.option(
    "--grid",
    type=GridSize(),
    metavar="WxH",
    help="Columns and rows of the picture.  [default: 6x6, or ten of each class a row; or what "
    "holds the seeds]",
)
@choice_option(
    "--format",
    tuple(ENDINGS),
    "One picture; an array 'images', uint8 (N, H, W) or (N, H, W, 3); or a file a seed.  "
    "[default: as --out ends, else png]",
    name="picture_format",
)
@out_option(
    "File to write, or folder of pngs.  [default: samples.png, samples.npz or samples, "
    "interpolation.gif, timelapse.gif]",
    may_be_folder=True,
)
@click.option(
    "--interpolate",
    "ends",
    type=TwoSeeds(),
    metavar="A:B",
    help="The way from the image of one seed to that of another: a GIF, or a strip if --out is "
    "a .png.",
)
@number_option(
    "--frames",
    "Images on that way.  [default: 60, of a strip 10]",
    minimum=2,
    maximum=1000,
    metavar=None,
)
@click.option(
    "--timelapse",
    is_flag=True,
    help="A GIF of the same samples by every checkpoint of a run; 'train --keep all' keeps them.",
)
def sample(
    run_or_checkpoint: Path | None,
    checkpoint: str,
    no_ema: bool,
    classes: list[str] | None,
    seeds: list[int] | None,
    grid: tuple[int, int] | None,
    picture_format: str | None,
    out: Path | None,
    ends: tuple[int, int] | None,
    frames: int | None,
    timelapse: bool,
) -> int:
    """Draw images from the generator of a run, or of one checkpoint file.

    Without an argument it is the newest run in 'runs'. One seed (and class) gives the same image
    whatever else is drawn, on any number of ranks.
    """
    step = checkpoint_step(checkpoint)
    if seeds and grid and len(seeds) > grid[0] * grid[1]:
        raise click.BadParameter(
            f"{len(seeds)} seeds do not fit into {grid[0]}x{grid[1]}.",
            param_hint="'--grid'",
        )
    _check_moving(ends, frames, timelapse)
    if ends is not None and classes and len(classes) > 1:
        raise click.UsageError("--interpolate draws one --class; give one.")
    form = "gif"
    if out is not None and ends is not None:
        require_ending(out, (".gif", ".png"), " with --interpolate")
    elif out is not None and timelapse:
        require_ending(out, (".gif",), " with --timelapse")
    elif ends is None:
        form = format_of(picture_format, out, ENDINGS, "png")
    from gan_mpi.mpi.world import world
    from gan_mpi.options.begin import importing

    comm = world()
    with importing():
        from gan_mpi.programs.animate import interpolate
        from gan_mpi.programs.animate import timelapse as draw_all
        from gan_mpi.programs.sample import sample as draw

    if ends is not None:
        target = out or Path("interpolation.gif")
        one = classes[0] if classes else None
        count = frames or (10 if target.suffix.lower() == ".png" else 60)
        way = (comm, run_or_checkpoint, step, ends, count, target)
        return interpolate(*way, one, not no_ema)
    if timelapse:
        target = out or Path("timelapse.gif")
        return draw_all(comm, run_or_checkpoint, grid, target, not no_ema)
    how = (seeds, grid, form, out, classes)
    return draw(comm, run_or_checkpoint, step, *how, not no_ema)


def _check_moving(ends: tuple[int, int] | None, frames: int | None, timelapse: bool) -> None:
    """Refuse options of moving pictures that would do nothing.  Raises click.UsageError."""
    if frames is not None and ends is None:
        raise click.UsageError("--frames is for --interpolate A:B; give both.")
    given = click.get_current_context().get_parameter_source
    for name, is_chosen in (
        ("--interpolate", ends is not None),
        ("--timelapse", timelapse),
    ):
        unused = ["seeds", "picture_format"]
        unused += ["grid"] if name == "--interpolate" else ["ends", "checkpoint", "classes"]
        for other in unused if is_chosen else ():
            if given(other) == click.core.ParameterSource.COMMANDLINE:
                option = {
                    "picture_format": "--format",
                    "ends": "--interpolate",
                    "classes": "--class",
                }
                raise click.UsageError(
                    f"{name} does not go with {option.get(other, '--' + other)}; give one."
                )
