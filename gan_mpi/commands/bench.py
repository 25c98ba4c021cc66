"""gan-mpi bench."""

from pathlib import Path

import click

from gan_mpi.options.params import FiniteRange, require_ending

NOT_HERE = (  # options of train about a run, or about what is said of it
    *("run_dir", "resume", "outdir", "time_limit", "checkpoint_every", "keep", "evaluate_every"),
    *("samples", "classifier", "grid", "stop_on_collapse", "tensorboard", "log_format", "quiet"),
    *("explain", "on_failure"),
)

WRITABLE = click.Path(dir_okay=False, writable=True, path_type=Path)


class BeforeOptionsOfTrain(click.Command):
    """A command that says where an option of train belongs."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            said = f"No such option '{error.option_name}'; options of train follow --."
            raise click.UsageError(said, ctx) from None


@click.command(
    cls=BeforeOptionsOfTrain, short_help="Time training steps, on these ranks and on fewer."
)
@click.option("--sweep", is_flag=True, help="Time 1, 2, 4 ... ranks too: strong and weak scaling.")
@click.option(
    "--seconds",
    type=FiniteRange(min=0, min_open=True, max=86_400),
    default=10.0,
    show_default=True,
    help="How long each line of the table is timed; at least 10 steps.",
)
@click.option("--oversubscribe", is_flag=True, help="Time more threads than cores, and say so.")
@click.option("--json", "as_json", type=WRITABLE, help="Write all figures.")
@click.option("--csv", "as_csv", type=WRITABLE, help="Write a row a line.")
@click.option("--plot", type=WRITABLE, help="Draw the efficiency by ranks as a PNG; with --sweep.")
@click.argument("options", metavar="[-- OPTIONS OF TRAIN]", nargs=-1)
@click.pass_context
def bench(
    ctx: click.Context,
    sweep: bool,
    seconds: float,
    oversubscribe: bool,
    as_json: Path | None,
    as_csv: Path | None,
    plot: Path | None,
    options: tuple[str, ...],
) -> int:
    """Time training steps: how long one is, what of it is what, and what more ranks give.

    'mpiexec -n 4 gan-mpi bench --sweep -- --preset dcgan' times 1, 2 and 4 ranks with one batch and
    with one share a rank, the phases of a step, its arithmetic beside what the processor does with
    nothing else to do, and sums over the ranks by size. No run is made.
    """
    from gan_mpi.commands.train import parse_after_dashes
    from gan_mpi.files import write_output
    from gan_mpi.options.begin import importing, start_mpi
    from gan_mpi.runs.log import say

    if plot is not None and not sweep:
        raise click.UsageError("--plot draws what several numbers of ranks do; give --sweep too.")
    if plot is not None:
        require_ending(plot, (".png",), option="--plot")
    every = {"--json": as_json, "--csv": as_csv, "--plot": plot}
    files = {option: path for option, path in every.items() if path is not None}
    _require_apart(files)
    given = parse_after_dashes(options, ctx)
    if wrong := given.keys() & set(NOT_HERE):
        flag = "--" + min(wrong).replace("_", "-")
        raise click.UsageError(f"{flag} does not go with bench, which makes no run.")
    comm = start_mpi()
    comm.on_root(lambda: _make_places(files))
    with importing():
        from gan_mpi.bench import report
        from gan_mpi.programs.bench import bench as run
    found = run(comm, given, sweep, seconds, oversubscribe)

    kinds = {"--json": report.as_json, "--csv": report.as_csv, "--plot": report.as_plot}

    def write() -> None:
        say("\n".join(report.report_lines(found)))
        for option, path in files.items():
            write_output(path, kinds[option](found), option)

    comm.on_root(write)
    return 0


def _require_apart(files: dict[str, Path]) -> None:
    """Refuse one file for two kinds of figures."""
    options = list(files)
    for place, option in enumerate(options):
        for other in options[:place]:
            if files[other].resolve() == files[option].resolve():
                said = f"{other} and {option} name one file, {files[option]}; give two."
                raise click.UsageError(said)


def _make_places(files: dict[str, Path]) -> None:
    """Find out what cannot be written before minutes are spent on what is to be in it."""
    from gan_mpi.files import make_place

    for option, path in files.items():
        make_place(path, option)
