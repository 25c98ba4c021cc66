"""The evaluations of a run: in metrics.jsonl, and as lines for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict, cast

from gan_mpi.files import write_aside
from gan_mpi.runs.records import Amount, Count, Positive, read_records, to_line

METRICS_FILE = "metrics.jsonl"
FEWEST = 256  # images for a Frechet distance: twice as many as there are features
Conditions = tuple[str, str, int, bool]  # data, SHA-256 of the extractor, samples, own weights


class Identity(TypedDict):
    """The extractor of an evaluation."""

    name: str
    sha256: str
    accuracy: float | None  # of a classifier, on the test images


class Figures(TypedDict, total=False):
    """What an evaluation measures, of samples or, as the floor, of training images."""

    frechet: float  # absent below FEWEST images
    kernel: float
    kernel_error: float  # half of its interval of 95 %
    precision: float
    recall: float
    density: float
    coverage: float
    score: float
    kl_uniform: float
    nearest: float
    memorised: float  # share
    histogram: list[float]  # shares, by class
    missing: list[Count]
    agreement: list[float | None]  # shares, by class asked for; None where none was


class Evaluation(TypedDict, total=False):
    """A line of metrics.jsonl."""

    step: Count
    kimg: Amount
    data: str
    samples: Positive
    real: Positive  # test images
    floor_samples: Positive  # training images that the floor is of
    extractor: Identity
    own_weights: bool  # of G, where the run draws samples from an average of them
    class_names: list[str]  # where they are known
    figures: Figures
    floor: Figures
    seconds: Amount
    time: Amount  # since 1970
    alarms: dict[str, str]


NAME = 12  # letters of a class, in a table
COUNTS = "step", "kimg", "samples", "real", "floor_samples", "seconds"
KEYS = *COUNTS, "data", "extractor", "figures", "floor"
BY_CLASS: tuple[Literal["histogram", "agreement"], ...] = ("histogram", "agreement")
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
    for record in read_records(run_dir / METRICS_FILE, Evaluation, KEYS, agrees=_agrees):
        if "kernel" not in record["figures"]:
            continue
        key = record["step"], conditions(record)
        newest.pop(key, None)
        newest[key] = record
    return list(newest.values())


def _agrees(evaluation: Evaluation) -> bool:
    """Return whether figures by class speak of the same classes, and the floor of the same."""
    both = evaluation["figures"], evaluation["floor"]
    shares = [each[name] for each in both for name in BY_CLASS if name in each]
    classes = {len(each) for each in shares}
    missing = evaluation["figures"].get("missing", [])
    return len(classes) < 2 and all(label < max(classes, default=0) for label in missing)


def conditions(evaluation: Evaluation) -> Conditions:
    """Return data, the extractor's SHA-256, samples, whether of own weights: only alike compare."""
    alike = evaluation["data"], evaluation["extractor"]["sha256"], evaluation["samples"]
    return *alike, evaluation.get("own_weights", False)


def comparable(
    evaluations: Sequence[Evaluation], like: Conditions | None = None
) -> list[Evaluation]:
    """Return the evaluations under these conditions.

    By default they are those of the last one of what the run draws samples from, if there is one.
    """
    drawn = [each for each in evaluations if not each.get("own_weights")] or evaluations
    wanted = like or (conditions(drawn[-1]) if drawn else None)
    return [each for each in evaluations if conditions(each) == wanted]


def best_evaluation(
    evaluations: Sequence[Evaluation], like: Conditions | None = None
) -> Evaluation | None:
    """Return the evaluation with the smallest distance of those that compare.

    It is the Frechet distance, or the kernel distance where there is none.
    """
    alike = comparable(evaluations, like)
    name = distance(alike)
    return min(alike, key=lambda each: by_name(each["figures"])[name], default=None)


def distance(evaluations: Sequence[Evaluation]) -> str:
    """Return the name of the distance that all of these have."""
    return "frechet" if all("frechet" in each["figures"] for each in evaluations) else "kernel"


def forget_evaluations_after(run_dir: Path, step: int) -> None:
    """Drop the evaluations of steps that a resumed run is going to do again."""
    if (run_dir / METRICS_FILE).exists():
        kept = [each for each in read_evaluations(run_dir) if each["step"] <= step]
        text = "".join(to_line(evaluation) + "\n" for evaluation in kept)
        write_aside(run_dir / METRICS_FILE, text.encode())


def class_name(evaluation: Evaluation, label: int) -> str:
    """Return how a class is called: by its name, or its label where that is all there is."""
    names = evaluation.get("class_names", ())
    return names[label] if label < len(names) else str(label)


def missing_classes(evaluation: Evaluation) -> str:
    """Return the classes that are hardly drawn as a list for people."""
    missing = evaluation["figures"].get("missing", ())
    return ", ".join(class_name(evaluation, label) for label in missing) or "none"


def by_name(figures: Figures) -> Mapping[str, float]:
    """Return the figures that are numbers as a mapping, where names are not written out."""
    return cast(Mapping[str, float], figures)


def in_floors(evaluation: Evaluation) -> float | None:
    """Return the Frechet distance in floors, None where it cannot be measured by them.

    A floor is the distance of N training images to all N' test images.  The bias of a distance
    falls with the number of images, so that only N samples are measured by it.
    """
    of_samples, of_floor = evaluation["figures"].get("frechet"), evaluation["floor"].get("frechet")
    alike = evaluation["samples"] == evaluation.get("floor_samples")
    return of_samples / of_floor if of_samples is not None and of_floor and alike else None


def floors(evaluation: Evaluation) -> str:
    """Return the Frechet distance as people quote it, "1.85 floors (10000, 10000)", or nothing."""
    ratio = in_floors(evaluation)
    if ratio is None:
        return ""
    return f"{ratio:.2f} floors ({evaluation['floor_samples']}, {evaluation['real']})"


def short_distance(evaluation: Evaluation) -> str:
    """Return the distance of an evaluation as a number, in floors if it can be."""
    figures, quoted = evaluation["figures"], floors(evaluation)
    if "frechet" not in figures:
        return f"kernel {figures['kernel']:.6f}"
    return f"{figures['frechet']:.4f}{quoted and f', {quoted},'}"


def distance_text(evaluation: Evaluation) -> str:
    """Return the distance of an evaluation as a few words."""
    figures, quoted = evaluation["figures"], floors(evaluation)
    kernel = f"kernel distance {figures['kernel']:.6f}"
    if "kernel_error" in figures:
        kernel += f" ± {figures['kernel_error']:.6f}"
    if "frechet" not in figures:
        return kernel
    return f"Frechet {figures['frechet']:.4f}{quoted and f', {quoted}'}  {kernel}"


def evaluation_lines(evaluation: Evaluation) -> list[str]:
    """Return a table of the figures of one evaluation, each beside its floor."""
    figures, floor, extractor = evaluation["figures"], evaluation["floor"], evaluation["extractor"]
    right = extractor["accuracy"]
    how_good = "" if right is None else f", {right:.2%} of the test images right"
    against = f"{evaluation['real']} test images of {evaluation['data']}"
    whose = " by G's own weights" if evaluation.get("own_weights") else ""
    lines = [
        f"step {evaluation['step']}: {evaluation['samples']} samples{whose} against {against}, "
        + f"{evaluation['seconds']:.1f} s",
        f"features: {extractor['name']}{how_good}, SHA-256 {extractor['sha256'][:16]}",
        f"{'':34}{'samples':>12}{'floor':>12}",
    ]
    of_samples, of_floor = by_name(figures), by_name(floor)
    quoted = floors(evaluation)
    notes = {"frechet": quoted and f"  {quoted}"}
    if "kernel_error" in figures:
        notes["kernel"] = f"  ± {figures['kernel_error']:.6f}, 95 %"
    for name, legend, form in FIGURES:
        if name in figures:
            cell = f"{of_floor[name]:>12{form}}" if name in of_floor else f"{'-':>12}"
            lines.append(f"{legend:34}{of_samples[name]:>12{form}}{cell}{notes.get(name, '')}")
    if "histogram" in figures:
        names = [class_name(evaluation, label) for label in range(len(figures["histogram"]))]
        width = min(NAME, max(6, *map(len, names)))
        lines.append(f"{'class':34}" + " ".join(f"{name[:width]:>{width}}" for name in names))
        for title, shares in (
            ("share of the samples", figures["histogram"]),
            ("of the floor", floor.get("histogram")),
            ("judged to be of the class asked", figures.get("agreement")),
        ):
            if shares:
                cells = ("-" if share is None else f"{share:.1%}" for share in shares)
                lines.append(f"{title:34}" + " ".join(f"{cell:>{width}}" for cell in cells))
        lines.append(f"missing classes: {missing_classes(evaluation)}")
    lines.append(_about_floor(evaluation))
    lines.append("*root mean square of a pixel's difference; the floor is that of test images")
    return lines


def _about_floor(evaluation: Evaluation) -> str:
    count, figures = evaluation["floor_samples"], evaluation["figures"]
    if "frechet" not in figures:
        return f"no Frechet distance: it wants {FEWEST} samples, training and test images or more"
    if "frechet" in evaluation["floor"]:
        return f"floor: the same of {count} training images against the same test images"
    return f"no floors: they are of {count} training images, and want as many samples"


def evaluation_line(evaluation: Evaluation) -> str:
    """Return one line about an evaluation, for the log of a run."""
    figures = evaluation["figures"]
    parts = [distance_text(evaluation)]
    parts += [f"precision {figures['precision']:.3f}", f"recall {figures['recall']:.3f}"]
    if "missing" in figures:
        missing = missing_classes(evaluation)
        parts += [f"score {figures['score']:.3f}", f"missing classes {missing}"]
    if "agreement" in figures:
        least = min(share for share in figures["agreement"] if share is not None)
        parts.append(f"of the class asked {least:.1%} or more")
    return f"evaluation of step {evaluation['step']}: {'  '.join(parts)}"
