"""gan-mpi train."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from gan_mpi.cluster.nvidia import show_own_card
from gan_mpi.cluster.time_left import seconds_of
from gan_mpi.config import values
from gan_mpi.config.given import Given, text_of
from gan_mpi.config.presets import PRESETS
from gan_mpi.config.resolve import new_config
from gan_mpi.config.running import RunConfig
from gan_mpi.config.training import TrainConfig
from gan_mpi.errors import flag
from gan_mpi.options.begin import begin, importing
from gan_mpi.options.fields import GroupedCommand, GroupedOption, config_options
from gan_mpi.options.params import FiniteRange, require_digits
from gan_mpi.runs.log import say

# Options that are written in a way of their own, and what understands them.
WRITTEN: dict[str, Callable[[str], object]] = {
    **values.WRITTEN,
    "grid": values.grid_size,
    "inject": values.fault,
    "time_limit": seconds_of,
}
EXCLUSIVE = (
    ("steps", "kimg"),
    ("fast", "steps"),
    ("fast", "kimg"),
    ("datadir", "glyphs"),
    ("run_dir", "resume"),
    ("transfer", "resume"),
)


class TrainCommand(GroupedCommand):
    """A command that says what words may have meant that stand beside its options."""

    allow_extra_args = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse what is left over: click.UsageError."""
        dashed_n = "-n" in args
        rest = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            raise click.UsageError(_of_word(rest[0], dashed_n), ctx)
        return rest


def _of_word(word: str, after_n: bool) -> str:
    said = f"Got unexpected extra argument ({word})"
    if after_n and word.isdecimal():
        return (
            f"{said}: -n is --dry-run here; ranks are the launcher's, as in 'mpiexec -n {word} "
            "gan-mpi train'."
        )
    if word in PRESETS:
        return f"{said}: a preset is named with its option, --preset {word}."
    if Path(word).exists():
        return f"{said}: data are named with --datadir, a run to go on with --resume."
    return f"{said}: train has options only."


@click.command(cls=TrainCommand, short_help="Train a generator and a discriminator on all ranks.")
@config_options(RunConfig, TrainConfig)
@click.option(
    "--fast/--full",
    "fast",
    cls=GroupedOption,
    group="Everyday",
    default=None,
    help="The preset's short length or its original's: 300 or 40000 steps of basic."
    "  [default: fast]",
)
@click.option(
    "--kimg",
    cls=GroupedOption,
    group="Everyday",
    type=FiniteRange(min=0, min_open=True, max=1e12),
    help="Length in thousands of real images, instead of --steps.",
)
@click.option(
    "-n",
    "--dry-run",
    cls=GroupedOption,
    group="Everyday",
    is_flag=True,
    help="Say what would run: data, ranks, device, shares, length, saves and configuration.",
)
def train(dry_run: bool, **options: Any) -> int:
    """Train a generator and a discriminator on all ranks of mpiexec.

    Without --datadir it looks where 'gan-mpi data download' puts the preset's data; where MNIST
    is not there, it draws digits. What it makes goes to a run directory: checkpoints, sample
    grids, curves and a log.

    \b
    Exit codes: 0 done, 1 could not, 2 asked wrongly, 64 the launcher belongs to another
    MPI, 75 stopped early with a checkpoint (the same run can go on), 76 diverged or collapsed,
    77 a rank hung.
    """
    given = {name: value for name, value in options.items() if value is not None}
    check(given)
    if dry_run:
        return _show(given)

    cuda_aware = bool(given.get("cuda_aware"))
    if cuda_aware and given.get("device", "auto") in ("auto", "cuda"):
        show_own_card()
    comm, stop, phases, end = begin(text_of(given, "time_limit"), cuda_aware)
    with importing():
        from gan_mpi.programs.train import train as run_training
    return run_training(comm, given, stop, phases, end)


def parse(words: Sequence[str], parent: click.Context | None = None) -> Given:
    """Return the options that a command line of train gives, checked.  Raises click.UsageError."""
    parsed = train.make_context("train", list(words), parent=parent)
    given = {name: value for name, value in parsed.params.items() if value is not None}
    if given.pop("dry_run"):
        raise click.UsageError("--dry-run trains nothing; leave it out here.")
    check(given)
    return given


def parse_after_dashes(words: Sequence[str], ctx: click.Context) -> Given:
    """Return the options of train that follow -- in another command, checked as parse() does."""
    try:
        return parse(words, ctx)
    except click.UsageError as error:
        said = f"of the options of train: {error.format_message()}"
        raise click.UsageError(said, ctx) from None


def check(given: Given) -> None:
    """Refuse what can be seen to be wrong without a file: click.UsageError, UserError."""
    for first, second in EXCLUSIVE:
        if first in given and second in given:
            name = "--full" if given[first] is False else flag(first)
            raise click.UsageError(f"{name} and {flag(second)} exclude each other; give one.")
    require_digits(text_of(given, "dataset"), "glyphs" in given)
    device = text_of(given, "device")
    if device is not None and not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise click.BadParameter(
            f"{device!r} is not auto, cpu, cuda or cuda:N.", param_hint="'--device'"
        )
    for name, understand in WRITTEN.items():
        if (text := text_of(given, name)) is not None:
            try:
                understand(text)
            except ValueError as error:
                raise click.BadParameter(str(error), param_hint=f"'{flag(name)}'") from None
    if not given.keys() & {"run_dir", "resume"}:
        new_config(given)


def _show(given: Given) -> int:
    from gan_mpi.mpi import launcher

    if launcher.speaks_first():
        with importing():
            from gan_mpi.programs.plan import plan

        say("\n".join([*plan(given), "Dry run; nothing was written."]))
    return 0
