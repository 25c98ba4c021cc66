"""Kinds of values and options that commands share."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from gan_mpi.config.values import composed, grid_size
from gan_mpi.errors import UserError
from gan_mpi.runs.find import named_run

LAST_SEED = 2**48
MOST_SEEDS = 1_000_000


class FiniteRange(click.FloatRange):
    """A number in a range, neither infinite nor NaN."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class RampRange(FiniteRange):
    """A number in a range, or two, what it is at first and at last, such as 0.05:0.005."""

    def convert(  # type: ignore[override]
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | str:
        ends = value.split(":") if isinstance(value, str) else [value]
        if len(ends) > 2 or (len(ends) == 2 and "" in ends):
            self.fail(f"{value!r} is neither a number nor two like 0.05:0.005.", param, ctx)
        numbers = [super(RampRange, self).convert(end, param, ctx) for end in ends]
        if numbers[0] == numbers[-1]:
            return numbers[0]
        return ":".join(map(repr, numbers))


class WholeRange(click.IntRange):
    """A whole number in a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            int(value)
        except ValueError:
            self.fail(f"{value!r} is not a whole number, such as 1000.", param, ctx)
        return int(super().convert(value, param, ctx))


class WordOrRange(WholeRange):
    """A whole number in a range, or a word that stands for one."""

    def __init__(self, word: str, **limits: Any) -> None:
        super().__init__(**limits)
        self.word = word

    def convert(  # type: ignore[override]
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        if value == self.word:
            return self.word
        try:
            int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a whole number nor {self.word}.", param, ctx)
        return super().convert(value, param, ctx)


class SeedRange(click.ParamType):
    """Seeds as numbers and inclusive ranges, such as 0,1,4-6."""

    name = "seeds"

    def convert(
        self,
        value: str | list[int],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> list[int]:
        if isinstance(value, list):
            return value
        seeds: list[int] = []
        for part in value.split(","):
            first, dash, last = part.strip().partition("-")
            if not first.isdecimal() or (dash and not last.isdecimal()):
                self.fail(f"{value!r} is not like 0,1,4-6.", param, ctx)
            stop = int(last) if dash else int(first)
            if not int(first) <= stop < LAST_SEED:
                self.fail(f"{part!r} ends before it begins, or beyond 2**48.", param, ctx)
            if len(seeds) + stop - int(first) >= MOST_SEEDS:
                self.fail(f"{value!r} is more than {MOST_SEEDS} seeds.", param, ctx)
            seeds.extend(range(int(first), stop + 1))
        return seeds


class ClassList(click.ParamType):
    """Classes by name, number or range of numbers, such as dog,3,5-7; what they are, a run says."""

    name = "classes"

    def convert(
        self,
        value: str | list[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> list[str]:
        if isinstance(value, list):
            return value
        asked = [part.strip() for part in composed(value).split(",")]
        if not all(asked):
            self.fail(f"{value!r} is not like dog or 3 or 0-4,7.", param, ctx)
        return asked


class TwoSeeds(click.ParamType):
    """Two seeds, such as 0:7."""

    name = "seeds"

    def convert(
        self,
        value: str | tuple[int, int],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        first, colon, last = value.partition(":")
        if not (colon and first.isdecimal() and last.isdecimal()):
            self.fail(f"{value!r} is not like 0:7.", param, ctx)
        if max(int(first), int(last)) >= LAST_SEED:
            self.fail(f"{value!r} goes beyond 2**48.", param, ctx)
        return int(first), int(last)


class RunPath(click.Path):
    """A run directory, or a run in 'runs' by its number."""

    def __init__(self, path_type: type = Path) -> None:
        super().__init__(path_type=path_type)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(named_run(os.fspath(value)), param, ctx)
        except UserError as error:
            self.fail(str(error), param, ctx)


class GridSize(click.ParamType):
    """A grid as columns x rows, such as 6x6."""

    name = "grid"

    def convert(
        self,
        value: str | tuple[int, int],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        try:
            return grid_size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


Option = Callable[[Any], Any]


def number_option(
    flag: str,
    help: str,
    *,
    minimum: int,
    maximum: int | None = None,
    default: int | None = None,
    metavar: str | None = "N",
    **more: Any,
) -> Option:
    """Return an option that is a whole number; a default is shown unless `more` says otherwise."""
    kind = WholeRange(min=minimum, max=maximum)
    shown = {"show_default": default is not None, **more}
    return click.option(flag, type=kind, default=default, metavar=metavar, help=help, **shown)


def choice_option(
    flag: str, values: Sequence[str], help: str, *, default: str | None = None, **more: Any
) -> Option:
    """Return an option that is one of some words, `name` in the function that takes it."""
    names = [flag, *([more.pop("name")] if "name" in more else [])]
    kind = click.Choice(values)
    shown = default is not None
    return click.option(*names, type=kind, default=default, show_default=shown, help=help, **more)


def out_option(
    help: str,
    default: str | None = None,
    *,
    endings: Sequence[str] = (),
    may_be_folder: bool = False,
) -> Option:
    """Return --out, a file to write, whose name has one of some endings, if there are any."""

    def check(ctx: click.Context, param: click.Parameter, out: Path | None) -> Path | None:
        if endings and out is not None:
            require_ending(out, endings)
        return out

    kind = click.Path(path_type=Path, dir_okay=may_be_folder)
    shown = default is not None
    return click.option(
        "--out", type=kind, default=default, show_default=shown, help=help, callback=check
    )


def require_ending(out: Path, endings: Sequence[str], why: str = "", option: str = "--out") -> None:
    """Raise click.BadParameter unless a file to write has one of some endings, such as .png."""
    if out.suffix.lower() not in endings:
        raise click.BadParameter(
            f"{out} should end in {' or '.join(endings)}{why}.", param_hint=f"'{option}'"
        )


def require_digits(dataset: str | None, drawn: bool) -> None:
    """Raise click.UsageError if digits are to be drawn in the place of other data."""
    if drawn and dataset not in (None, "mnist"):
        raise click.UsageError(f"--dataset {dataset} and --glyphs exclude each other; give one.")


def format_of(asked: str | None, out: Path | None, endings: Mapping[str, str], default: str) -> str:
    """Return the format of a file to write: what is asked for, else what its ending says.

    `endings` are those of the formats; one without is a folder.  Raises click.BadParameter if the
    ending is none of them, or that of another format.
    """
    if out is None:
        return asked or default
    known = {ending: form for form, ending in endings.items()}
    if asked is None:
        require_ending(out, [ending for ending in known if ending])
        return known[out.suffix.lower()]
    if endings[asked]:
        require_ending(out, [endings[asked]], f" with --format {asked}")
    elif out.suffix.lower() in known:
        raise click.BadParameter(
            f"{out} is the name of a file, and --format {asked} fills a folder.",
            param_hint="'--out'",
        )
    return asked


checkpoint_option = click.option(
    "--checkpoint",
    metavar="STEP|last",
    default="last",
    show_default=True,
    help="Checkpoint of a run, by its step.",
)


def checkpoint_step(text: str) -> int | None:
    """Return the step that --checkpoint names, None for the last.  Raises click.BadParameter."""
    if text != "last" and not text.isdecimal():
        raise click.BadParameter(
            f"{text!r} is neither a step nor 'last'.", param_hint="'--checkpoint'"
        )
    return None if text == "last" else int(text)


run_argument = click.argument(
    "run_or_checkpoint", metavar="[RUN|NUMBER|CHECKPOINT]", required=False, type=RunPath()
)

no_ema_option = click.option(
    "--no-ema",
    is_flag=True,
    help="Take G's own weights where 'train --ema' kept an average of them, too.",
)
