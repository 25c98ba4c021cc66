"""gan-mpi data."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from gan_mpi.config.running import RunConfig
from gan_mpi.config.training import DATASETS
from gan_mpi.options.fields import some_options
from gan_mpi.options.params import FiniteRange, GridSize, choice_option, number_option, out_option
from gan_mpi.runs.log import note, say

LAYOUTS = ("idx", "ctf", "npz")  # whose files are made in memory
LISTED = 12  # names of files
NAMES = tuple(name for name in DATASETS if name != "uniform")


@click.group()
def data() -> None:
    """Get data sets, and look at what a folder holds."""


@data.command(short_help="Get a data set from a public mirror, and check it.")
@click.argument("name", type=click.Choice(NAMES))
@click.option(
    "--datadir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder to put it in.  [default: where train looks for it]",
)
@click.option(
    "--mirror",
    multiple=True,
    metavar="URL",
    help="Address of the folder that holds the files, instead of the public ones; may be given "
    "several times.",
)
def download(name: str, datadir: Path | None, mirror: tuple[str, ...]) -> int:
    """Get a data set from a public mirror, check it, and put it where train looks for it.

    What is there is kept, and a download that was cut off goes on.
    """
    for url in mirror:
        if not url.startswith(("http://", "https://", "ftp://")):
            raise click.BadParameter(
                f"{url} is no address; one begins with https:// or http://.",
                param_hint="'--mirror'",
            )

    from gan_mpi.datasets.download import download as get
    from gan_mpi.datasets.find import FOLDERS

    with _progress() as report:
        files = get(name, datadir or Path(FOLDERS[name][0]), mirror or None, report)
    for file in files:
        say(str(file))
    return 0


@contextmanager
def _progress() -> Iterator[Any]:
    """Yield what draws a bar a file, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda file, done, total: None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

    with Progress(
        *Progress.get_default_columns(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(stderr=True),
    ) as bar:
        tasks: dict[str, Any] = {}

        def report(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bar.add_task(file)
            bar.update(tasks[file], completed=done, total=total)

        yield report


@data.command(short_help="Say what the data in a folder are, and draw some.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--grid",
    type=GridSize(),
    metavar="WxH",
    help="Also write the first images as a picture.",
)
@out_option("The picture's file.", "contact-sheet.png", endings=(".png",))
@some_options(("resolution",), RunConfig)
def info(folder: Path, grid: tuple[int, int] | None, out: Path, resolution: int | None) -> int:
    """Say what the training data in FOLDER are: counts, shape, brightness, labels."""
    from gan_mpi.datasets.find import load_dataset

    dataset = load_dataset(_source(folder, resolution))
    count, channels, height, width = dataset.images.shape
    say(f"{dataset.source}")
    say(f"{count} images of {channels}x{height}x{width}, SHA-256 {dataset.sha256}")
    low, high, mean, deviation = _brightness(dataset.images)
    say(f"pixels {low}..{high}, mean {mean:.2f}, standard deviation {deviation:.2f}")
    say("labels: " + _histogram(dataset.labels))
    if dataset.classes:
        named = enumerate(dataset.classes)
        say("classes: " + ", ".join(f"{label} {name}" for label, name in named))
    for line in dataset.notes:
        say(line)
    where = Path(dataset.source)
    beside = (where if where.is_dir() else where.parent).iterdir()
    names = sorted(path.name for path in beside)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    say(f"files: {', '.join(names[:LISTED])}{more}")
    if grid:
        from gan_mpi.drawing.pictures import grid as arrange
        from gan_mpi.drawing.pictures import png
        from gan_mpi.files import write_output

        first = dataset.images[: grid[0] * grid[1]]
        write_output(out, png(arrange(first, *grid), {"data": dataset.source}), "--out")
        say(f"{out}: the first {len(first)} images")
    return 0


@data.command(short_help="Write data in another layout.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@choice_option(
    "--to",
    (*LAYOUTS, "packed"),
    "MNIST's IDX files, CNTK's text format, NumPy archives, or arrays that ranks map into memory, "
    "of any size.",
    name="layout",
    required=True,
)
@some_options(("resolution",), RunConfig)
def convert(folder: Path, out: Path, layout: str, resolution: int | None) -> int:
    """Write the data in FOLDER, training and test, to the folder OUT in another layout.

    What is there is not overwritten.
    """
    from gan_mpi.datasets.convert import convert as run

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was begun is removed
    try:
        for file in run(_source(folder, resolution), out, layout, note):
            say(str(file))
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


@data.command(short_help="Divide data among sites.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@number_option("--sites", "Number of sites.", minimum=1, required=True)
@click.option(
    "--skew",
    type=FiniteRange(0, 1),
    default=0.0,
    show_default=True,
    metavar="A",
    help="Share of each class that one site has alone: with 0 all sites have the same classes, "
    "with 1 and two sites one has the digits 0-4 and the other 5-9.",
)
@number_option(
    "--seed", "Seed of which sample goes where.", minimum=0, maximum=2**63 - 1, default=0
)
@choice_option("--to", LAYOUTS, "Layout of the files.", name="layout", default="npz")
@some_options(("resolution",), RunConfig)
def split(
    folder: Path,
    out: Path,
    sites: int,
    skew: float,
    seed: int,
    layout: str,
    resolution: int | None,
) -> int:
    """Divide the data in FOLDER, training and test, among sites: OUT/site-0, OUT/site-1 ...

    They are to try training with data that are not shared:
    mpiexec -n N gan-mpi train --preset federated --datadir 'OUT/site-{rank}'
    """
    from gan_mpi.sites.split import split as run

    written = run(_source(folder, resolution), out, sites, skew, seed, layout, note)
    for path, counts in written.items():
        each = ", ".join(f"{count} {name}" for name, count in counts.items())
        say(f"{path}: {each} images")
    return 0


def _source(folder: Path, resolution: int | None) -> Any:
    from gan_mpi.datasets.dataset import Source

    side = resolution or RunConfig.resolution
    return Source(str(folder), named_by="FOLDER", resolution=side)


def _brightness(images: Any) -> tuple[int, int, float, float]:
    """Return the least, largest, mean and standard deviation of all pixels, uint8."""
    import numpy as np

    counts, flat = np.zeros(256, np.int64), images.reshape(-1)
    for first in range(0, flat.size, 1 << 24):  # bincount takes eight bytes a pixel
        counts += np.bincount(flat[first : first + (1 << 24)], minlength=256)
    values, known = np.arange(256), np.flatnonzero(counts)
    mean = float(values @ counts / flat.size)
    variance = float((values - mean) ** 2 @ counts / flat.size)
    return int(known[0]), int(known[-1]), mean, variance**0.5


def _histogram(labels: Any) -> str:
    if labels is None:
        return "none"
    import numpy as np

    values, counts = np.unique(labels, return_counts=True)
    return ", ".join(f"{v}: {n}" for v, n in zip(values, counts, strict=True))
