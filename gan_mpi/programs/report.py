"""Runs as one HTML page that needs nothing else: no torch, no MPI, no network."""

import base64
import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypedDict

from gan_mpi import __version__
from gan_mpi.errors import UserError
from gan_mpi.runs.directory import list_numbered, read_description, read_warnings
from gan_mpi.runs.evaluations import (
    FIGURES,
    Evaluation,
    best_evaluation,
    class_name,
    comparable,
    conditions,
    distance_text,
    missing_classes,
    read_evaluations,
    short_distance,
)
from gan_mpi.runs.segments import Segment, read_segments
from gan_mpi.runs.stats import StatsRecord, read_stats

PICTURES = 60  # grids of a run on its page, evenly spread over its steps
COLOURS = 10  # of the style sheet


class Picture(TypedDict):
    """A grid of samples."""

    step: int
    text: str
    uri: str  # that holds it


class Line(TypedDict):
    """A line of a chart."""

    label: str
    colour: int  # of the style sheet
    mark: str  # of its run, at the line's end, if there are several
    dashed: bool
    points: list[tuple[float, float]]


class Chart(TypedDict):
    """What report.js draws."""

    title: str
    x: str
    log: bool
    series: list[Line]


@dataclass
class Run:
    """What the files of a run say."""

    name: str
    folder: Path
    config: dict[str, Any]
    data: dict[str, Any]
    records: list[StatsRecord]
    evaluations: list[Evaluation]
    segments: list[Segment]
    warnings: list[str]

    @property
    def best(self) -> Evaluation | None:
        """The evaluation with the smallest distance."""
        return best_evaluation(self.evaluations)

    @property
    def comparable(self) -> list[Evaluation]:
        """The evaluations that compare with the last one of what samples are drawn from."""
        return comparable(self.evaluations)

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration and the data, flat, by names such as G.lr."""
        flat: dict[str, Any] = {}
        for name, value in {**self.config, "data": self.data}.items():
            inner = value if isinstance(value, dict) else {"": value}
            for key, each in inner.items():
                flat[f"{name}.{key}" if key else name] = each
        return flat

    def pictures(self) -> list[Picture]:
        """Return the grids of samples by step, each a data URI with its evaluation, if any."""
        grids = list_numbered(self.folder, "fakes", "png")
        last = len(grids) - 1
        kept = sorted({round(i * last / (PICTURES - 1)) for i in range(PICTURES)})
        chosen = grids if len(grids) <= PICTURES else [grids[i] for i in kept]
        figures = {each["step"]: each for each in self.comparable}
        pictures: list[Picture] = []
        for step, path in chosen:
            text = f"step {step}"
            if step in figures:
                text += f", {distance_text(figures[step])}"
            pictures.append({"step": step, "text": text, "uri": data_uri(path)})
        return pictures

    @property
    def reals(self) -> str | None:
        """The picture of real images as a data URI, if there is one."""
        path = self.folder / "reals.png"
        return data_uri(path) if path.exists() else None

    @property
    def augmented(self) -> str | None:
        """The picture of real images as the discriminator sees them, if it sees others."""
        path = self.folder / "augmented.png"
        return data_uri(path) if path.exists() else None

    @property
    def nearest(self) -> str | None:
        """The last picture of samples above training images as a data URI, if there is one."""
        grids = list_numbered(self.folder, "nearest", "png")
        return data_uri(grids[-1][1]) if grids else None


def data_uri(path: Path) -> str:
    """Return a PNG file as a URI that holds it."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def read_run(folder: Path) -> Run:
    """Return what the files of a run directory say.  Raises UserError."""
    return Run(
        **read_description(folder),
        name=folder.resolve().name,
        folder=folder,
        records=read_stats(folder),
        evaluations=read_evaluations(folder),
        segments=read_segments(folder),
        warnings=read_warnings(folder),
    )


def page(folders: Sequence[Path]) -> str:
    """Return the HTML page of one or several runs.  Raises UserError."""
    import jinja2

    runs = [read_run(folder) for folder in folders]
    if not any(run.records for run in runs):
        raise UserError(
            f"{', '.join(str(folder) for folder in folders)}: nothing is recorded yet; wait for "
            "the first status line."
        )
    files = resources.files("gan_mpi") / "pages"
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((files / "report.html").read_text())
    return template.render(
        runs=runs,
        charts=charts(runs),
        differences=differences(runs),
        figures=FIGURES,
        short_distance=short_distance,
        class_name=class_name,
        missing_classes=missing_classes,
        style=(files / "report.css").read_text(),
        script=(files / "report.js").read_text(),
        version=__version__,
        date=datetime.datetime.now(datetime.UTC).isoformat(" ", "minutes"),
    )


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Return the settings in which runs differ, each with its value in every run."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    values = {name: [run.settings.get(name) for run in runs] for name in names}
    return {name: each for name, each in values.items() if any(v != each[0] for v in each)}


Read = Callable[[Mapping[str, Any]], float | None]
Curves = dict[str, Read]


def _of(name: str) -> Read:
    return lambda record: record.get(name)


def _figure(name: str, kind: str = "figures") -> Read:
    return lambda record: record[kind].get(name)


# Title, whether the axis is logarithmic, and the curves over the records of stats.jsonl ...
OF_RECORDS: tuple[tuple[str, bool, Curves], ...] = (
    ("Losses", False, {"G": _of("loss_G"), "D": _of("loss_D")}),
    (
        "Mean scores of the discriminator",
        False,
        {"D(x), reals": _of("D_real"), "D(G(z)), fakes": _of("D_fake")},
    ),
    ("Spread of samples, of that of real images", False, {"spread": _of("spread")}),
    ("Images per second", False, {"images/s": _of("images_per_second")}),
    ("Share of the time spent communicating", False, {"share": _of("communication")}),
)
# ... and over those of metrics.jsonl.
OF_EVALUATIONS: tuple[tuple[str, bool, Curves], ...] = (
    (
        "Frechet distance",
        True,
        {"samples": _figure("frechet"), "floor": _figure("frechet", "floor")},
    ),
    (
        "Precision and recall",
        False,
        {"precision": _figure("precision"), "recall": _figure("recall")},
    ),
)


def charts(runs: Sequence[Run]) -> list[Chart]:
    """Return what report.js draws: charts of lines over the real images that were seen.

    Evaluations by different extractors, or of other data, are in charts of their own.
    """
    by_kimg = all(any(record["kimg"] for record in run.records) for run in runs)
    along = "kimg" if by_kimg else "step"
    Rows = Sequence[Sequence[Mapping[str, Any]]]
    sets: list[tuple[str, Rows, Sequence[tuple[str, bool, Curves]]]] = [
        ("", [run.records for run in runs], OF_RECORDS)
    ]
    evaluated = [run.comparable for run in runs]
    kinds = dict.fromkeys(conditions(each[-1]) for each in evaluated if each)
    for kind in kinds:
        data, sha256, samples, own = kind
        alike = [each if each and conditions(each[-1]) == kind else [] for each in evaluated]
        about = f", {samples} samples for {data} by {sha256[:8]}" + ", own weights" * own
        sets.append((about if len(kinds) > 1 else "", alike, OF_EVALUATIONS))
    drawn: list[Chart] = []
    for about, records, plans in sets:
        for title, log, curves in plans:
            series = _series(runs, records, curves, along)
            if series:
                x = "thousand real images" if by_kimg else "step"
                title = title + about
                drawn.append({"title": title, "x": x, "log": log, "series": series})
    return drawn


def _series(
    runs: Sequence[Run],
    records: Sequence[Sequence[Mapping[str, Any]]],
    curves: Curves,
    along: str,
) -> list[Line]:
    """Return the lines of a chart; of several runs, each has a colour."""
    alone = len(runs) == 1
    lines: list[Line] = []
    for number, (run, rows) in enumerate(zip(runs, records, strict=True)):
        for turn, (label, curve) in enumerate(curves.items()):
            both = [(row.get(along), curve(row)) for row in rows]
            points = [(x, y) for x, y in both if x is not None and y is not None]
            line: Line = {
                "label": label if alone else f"{number + 1}. {run.name}: {label}",
                "colour": (turn if alone else number) % COLOURS,
                "mark": "" if alone else str(number + 1),
                "dashed": turn > 0,
                "points": sorted(points),
            }
            lines += [line] if points else []
    return lines
