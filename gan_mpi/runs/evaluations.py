"""The evaluations of a run: in metrics.jsonl, and as lines for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, cast

from gan_mpi.files import write_aside
from gan_mpi.runs.records import read_records, to_line

METRICS_FILE = "metrics.jsonl"
Conditions = tuple[str, str, int]  # data, SHA-256 of the extractor, samples


class Identity(TypedDict):
    """The extractor of an evaluation."""

    name: str
    sha256: str
    accuracy: float | None  # of a classifier, on the test images


class Figures(TypedDict, total=False):
    """What an evaluation measures, of samples or, as the floor, of training images."""

    frechet: float
    kernel: float
    precision: float
    recall: float
    density: float
    coverage: float
    score: float
    kl_uniform: float
    nearest: float
    memorised: float  # share
    histogram: list[float]  # shares, by class
    missing: list[int]
    agreement: list[float]  # shares, by class asked for


class Evaluation(TypedDict, total=False):
    """A line of metrics.jsonl."""

    step: int
    kimg: float
    data: str
    samples: int
    real: int  # test images
    floor_samples: int
    extractor: Identity
    figures: Figures
    floor: Figures
    seconds: float
    time: float  # since 1970
    alarms: dict[str, str]


KEYS = "step", "kimg", "data", "samples", "extractor", "figures", "floor"
# Name, legend and format of each figure; those of the nearest images have another floor.
FIGURES = (
    ("frechet", "Frechet distance", ".4f"),
    ("kernel", "kernel distance", ".6f"),
    ("precision", "precision", ".4f"),
    ("recall", "recall", ".4f"),
    ("density", "density", ".4f"),
    ("coverage", "coverage", ".4f"),
    ("score", "classifier score", ".4f"),
    ("kl_uniform", "KL of classes to uniform", ".4f"),
    ("nearest", "nearest training image*", ".4f"),
    ("memorised", "nearer than 1 % of test images*", ".2%"),
)


def read_evaluations(run_dir: Path) -> list[Evaluation]:
    """Return the evaluations of metrics.jsonl, the oldest first; of one step done again, the last.

    Raises UserError.
    """
    newest: dict[tuple[int, Conditions], Evaluation] = {}
    for record in read_records(run_dir / METRICS_FILE, Evaluation, KEYS):
        if not all("frechet" in record[name] for name in ("figures", "floor")):  # type: ignore[literal-required]
            continue
        key = record["step"], conditions(record)
        newest.pop(key, None)
        newest[key] = record
    return list(newest.values())


def conditions(evaluation: Evaluation) -> Conditions:
    """Return the data, the extractor's SHA-256 and the number of samples: only alike compare."""
    return evaluation["data"], evaluation["extractor"]["sha256"], evaluation["samples"]


def comparable(
    evaluations: Sequence[Evaluation], like: Conditions | None = None
) -> list[Evaluation]:
    """Return the evaluations under these conditions, by default those of the last one."""
    wanted = like or (conditions(evaluations[-1]) if evaluations else None)
    return [each for each in evaluations if conditions(each) == wanted]


def best_evaluation(
    evaluations: Sequence[Evaluation], like: Conditions | None = None
) -> Evaluation | None:
    """Return the evaluation with the smallest distance of those that compare."""
    alike = comparable(evaluations, like)
    return min(alike, key=lambda evaluation: evaluation["figures"]["frechet"], default=None)


def forget_evaluations_after(run_dir: Path, step: int) -> None:
    """Drop the evaluations of steps that a resumed run is going to do again."""
    if (run_dir / METRICS_FILE).exists():
        kept = [each for each in read_evaluations(run_dir) if each["step"] <= step]
        text = "".join(to_line(evaluation) + "\n" for evaluation in kept)
        write_aside(run_dir / METRICS_FILE, text.encode())


def by_name(figures: Figures) -> Mapping[str, float]:
    """Return the figures that are numbers as a mapping, where names are not written out."""
    return cast(Mapping[str, float], figures)


def floors(evaluation: Evaluation) -> float:
    """Return the Frechet distance of an evaluation in floors."""
    return evaluation["figures"]["frechet"] / evaluation["floor"]["frechet"]


def evaluation_lines(evaluation: Evaluation) -> list[str]:
    """Return a table of the figures of one evaluation, each beside its floor."""
    figures, floor, extractor = evaluation["figures"], evaluation["floor"], evaluation["extractor"]
    right = extractor["accuracy"]
    how_good = "" if right is None else f", {right:.2%} of the test images right"
    against = f"{evaluation['real']} test images of {evaluation['data']}"
    lines = [
        f"step {evaluation['step']}: {evaluation['samples']} samples against {against}, "
        + f"{evaluation['seconds']:.1f} s",
        f"features: {extractor['name']}{how_good}, SHA-256 {extractor['sha256'][:16]}",
        f"{'':34}{'samples':>12}{'floor':>12}",
    ]
    of_samples, of_floor = by_name(figures), by_name(floor)
    for name, legend, form in FIGURES:
        if name in figures:
            cells = f"{of_samples[name]:>12{form}}{of_floor[name]:>12{form}}"
            ratio = f"  ({floors(evaluation):.2f} floors)" if name == "frechet" else ""
            lines.append(f"{legend:34}{cells}{ratio}")
    if "histogram" in figures:
        for name, each in (("samples", figures), ("floor", floor)):
            shares = " ".join(f"{share:5.1%}" for share in each["histogram"])
            lines.append(f"{'classes of the ' + name:34}{shares}")
        missing = ", ".join(map(str, figures["missing"])) or "none"
        lines.append(f"missing classes: {missing}")
    if "agreement" in figures:
        shares = " ".join(f"{share:5.1%}" for share in figures["agreement"])
        lines.append(f"{'judged to be of the class asked':34}{shares}")
    drawn = evaluation["floor_samples"]
    lines.append(f"floor: the same of {drawn} training images")
    lines.append("*root mean square of a pixel's difference; the floor is that of test images")
    return lines


def evaluation_line(evaluation: Evaluation) -> str:
    """Return one line about an evaluation, for the log of a run."""
    figures = evaluation["figures"]
    parts = [f"Frechet {figures['frechet']:.4f} ({floors(evaluation):.2f} floors)"]
    parts += [f"precision {figures['precision']:.3f}", f"recall {figures['recall']:.3f}"]
    if "missing" in figures:
        missing = ", ".join(map(str, figures["missing"])) or "none"
        parts += [f"score {figures['score']:.3f}", f"missing classes {missing}"]
    if "agreement" in figures:
        parts.append(f"of the class asked {min(figures['agreement']):.1%} or more")
    return f"evaluation of step {evaluation['step']}: {'  '.join(parts)}"
