"""What is reported of a run: means since the last status line, the line, and stats.jsonl."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict, cast

from gan_mpi.files import write_aside
from gan_mpi.runs.records import Amount, Count, read_records, to_line

STATS_FILE = "stats.jsonl"
# What is shown of a record: its key, what it is called, and its format.
FIGURES = (
    ("loss_G", "G", ".4f"),
    ("loss_D", "D", ".4f"),
    ("D_real", "D(x)", ".2f"),
    ("D_fake", "D(G(z))", ".2f"),
)
NEEDED = "step", "epoch", "kimg", "seconds_per_step", "images_per_second", "time"
TAIL = 1 << 16  # bytes, many times the longest line
Figures = Mapping[str, float]  # some of a record, by names that are not written out


class StatsRecord(TypedDict, total=False):
    """A line of stats.jsonl: global means since the line before, by the names of game/updates.py.

    Those of a player that was not trained are absent, and `kimg` is 0 where no reals are seen.
    """

    step: Count
    epoch: Amount
    kimg: Amount  # thousand real images, over all ranks
    updates: dict[str, int]  # by player
    loss_G: float
    loss_D: float
    loss_real: float
    loss_fake: float
    D_real: float  # mean scores, 0..1, or heights of a critic
    D_fake: float
    error_real: float  # shares
    error_fake: float
    error_G: float
    logit_real: float
    logit_fake: float
    gradient_G: float  # norms
    gradient_D: float
    augmentation: float  # how often images were changed, where that adapts
    lr_G: float
    lr_D: float
    images_per_second: Amount
    seconds_per_step: Amount
    communication: float  # share of the time
    hidden: float  # share of it in which gradients were summed while ranks computed
    time: Amount  # seconds since 1970
    spread: float  # of samples, in that of real images
    mean: list[float]  # of points
    std: list[float]
    alarms: dict[str, str]
    round: int  # of sites, and what follows
    bytes_of_a_round: int
    sites: list[dict[str, float]]
    all_sites: dict[str, float]


def figures_of(record: StatsRecord) -> Figures:
    """Return a record as a mapping of names to numbers, where names are not written out."""
    return cast(Figures, record)


def figure_texts(record: StatsRecord, kind: str = "") -> list[str]:
    """Return losses and scores as they are called wherever a run is spoken of, those there are.

    `kind` is what their keys begin with.
    """
    figures = figures_of(record)
    known = [each for each in FIGURES if each[0] in figures and each[0].startswith(kind)]
    return [f"{name} {figures[key]:{form}}" for key, name, form in known]


def read_stats(run_dir: Path) -> list[StatsRecord]:
    """Return the records of a run's stats.jsonl, without a last line cut off by a crash."""
    return read_records(run_dir / STATS_FILE, StatsRecord, NEEDED)


def last_stats(run_dir: Path) -> list[StatsRecord]:
    """Return the last two records at most, reading the end of the file alone."""
    return read_records(run_dir / STATS_FILE, StatsRecord, NEEDED, TAIL)[-2:]


def forget_stats_after(run_dir: Path, step: int) -> None:
    """Drop the records of steps that a resumed run is going to do again."""
    kept = [record for record in read_stats(run_dir) if record["step"] <= step]
    text = "".join(to_line(record) + "\n" for record in kept)
    write_aside(run_dir / STATS_FILE, text.encode())


def duration(seconds: float) -> str:
    """Return seconds as 0:07, 12:34 or 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
