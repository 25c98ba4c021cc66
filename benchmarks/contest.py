"""Contestants that train the same thing, run in turn, and what comes of it."""

import datetime
import functools
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from gan_mpi import __version__

MPIEXEC = shlex.split(os.environ.get("MPIEXEC", str(Path(sys.executable).parent / "mpiexec")))


@dataclass
class Contestant:
    """A program that trains so many steps and says how long a step took, in seconds (median)."""

    name: str
    run: Callable[[int], float]
    seconds: list[float] = field(default_factory=list)  # a step, of each run


@dataclass(frozen=True)
class Terms:
    """What is trained in a contest, and how long."""

    preset: str
    batch: int
    count: int  # ranks
    datadir: str | None
    pairs: int
    steps: int
    seconds: float
    as_file: str | None


def contest_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of every contest, as its first argument, the Terms."""
    names = [each.name for each in fields(Terms)]

    @functools.wraps(command)
    def with_terms(**given: Any) -> None:
        command(Terms(**{name: given.pop(name) for name in names}), **given)

    for option in (
        click.option("--json", "as_file", type=click.Path(), help="Write all figures to a file."),
        click.option("--seconds", default=20.0, show_default=True, help="Least of a run."),
        click.option("--steps", default=60, show_default=True, help="Least of a run."),
        click.option("--pairs", default=5, show_default=True),
        click.option("--datadir", help="MNIST; without it 2,000 drawn digits."),
        click.option("--ranks", "count", default=2, show_default=True),
        click.option("--batch", default=128, show_default=True, help="Images over all ranks."),
        click.option("--preset", default="basic", show_default=True),
    ):
        with_terms = option(with_terms)
    return with_terms


def processor() -> str:
    """Return the processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def call(command: list[str], **variables: str) -> str:
    """Run a command with one thread a process; return what it prints.  Raises RuntimeError."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def ranks(count: int) -> list[str]:
    """Return how so many ranks are started."""
    return [*MPIEXEC, "-n", str(count)]


def hold(terms: Terms, contestants: list[Contestant], about: str) -> None:
    """Let them compete; print what it was about and the table, and write the figures if asked."""
    compete(contestants, terms.pairs, terms.steps, terms.seconds)
    print(f"{terms.preset}, batch {terms.batch}, {about}, {processor()}")
    print("\n".join(table(contestants)))
    if terms.as_file:
        Path(terms.as_file).write_text(as_json(contestants, terms))


def compete(contestants: list[Contestant], pairs: int, steps: int, seconds: float) -> None:
    """Let each run `pairs` times in turn, the first one last every other time.

    A run has at least so many steps, and takes so many seconds by a short trial of its own; of 0
    seconds there is no trial.
    """
    lengths = dict.fromkeys((each.name for each in contestants), steps)
    for each in contestants if seconds else ():
        trial = each.run(max(10, steps // 4))
        lengths[each.name] = max(steps, int(seconds / trial) + 1)
    for number in range(pairs):
        for each in contestants if number % 2 == 0 else contestants[::-1]:
            each.seconds.append(each.run(lengths[each.name]))
            print(f"  {each.name}: {1000 * each.seconds[-1]:.1f} ms a step", file=sys.stderr)


def ratios(each: Contestant, first: Contestant) -> list[float]:
    """Return how many times as long a step took as the first one's, pair by pair."""
    return [a / b for a, b in zip(each.seconds, first.seconds, strict=True)]


def table(contestants: list[Contestant]) -> list[str]:
    """Return lines of medians and extremes in ms a step, and ratios to the first, pair by pair."""
    first = contestants[0]
    lines = [f"{'ms a step':28} {'median':>8} {'least':>8} {'most':>8}  times {first.name}"]
    for each in contestants:
        ms, times = [1000 * second for second in each.seconds], ratios(each, first)
        lines.append(
            f"{each.name:28} {statistics.median(ms):8.1f} {min(ms):8.1f} {max(ms):8.1f}"
            f"  {statistics.median(times):.3f} ({min(times):.3f} to {max(times):.3f})"
        )
    return lines


def as_json(contestants: list[Contestant], terms: Terms) -> str:
    """Return the figures of all runs, with what they are about."""
    about: dict[str, object] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "versions": {
            "gan-mpi": __version__,
            **{name: version(name) for name in ("torch", "numpy", "mpi4py")},
        },
        "preset": terms.preset,
        "batch": terms.batch,
        "ranks": terms.count,
        "datadir": terms.datadir,
    }
    found = {}
    for each in contestants:
        times = ratios(each, contestants[0])
        found[each.name] = {
            "seconds_per_step": each.seconds,
            "median": statistics.median(each.seconds),
            "least": min(each.seconds),
            "most": max(each.seconds),
            "times_the_first": times,
            "median_times_the_first": statistics.median(times),
        }
    return json.dumps({**about, "contestants": found}, indent=2)
