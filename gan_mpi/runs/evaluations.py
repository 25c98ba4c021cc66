"""The record of each evaluation of a run: in metrics.jsonl, as lines, and as a picture."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gan_mpi.files import read_lines, write_aside

METRICS_FILE = "metrics.jsonl"
Conditions = tuple[str, str, int]  # data, SHA-256 of the extractor, samples
KEYS = {"step", "data", "samples", "extractor", "figures", "floor"}
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


def read_evaluations(run_dir: Path) -> list[dict[str, Any]]:
    """Return the records of metrics.jsonl, the oldest first; of one step done again, the last.

    Raises UserError.
    """
    found: dict[tuple[int, Conditions], dict[str, Any]] = {}
    for record in read_lines(run_dir / METRICS_FILE):
        if record.keys() >= KEYS:
            key = record["step"], conditions(record)
            found.pop(key, None)
            found[key] = record
    return list(found.values())


def conditions(record: Mapping[str, Any]) -> Conditions:
    """Return the data, the extractor's SHA-256 and the number of samples: only alike compare."""
    return record["data"], record["extractor"]["sha256"], record["samples"]


def comparable(
    records: Sequence[dict[str, Any]], like: Conditions | None = None
) -> list[dict[str, Any]]:
    """Return the records under these conditions, by default those of the last one."""
    wanted = like or (conditions(records[-1]) if records else None)
    return [each for each in records if conditions(each) == wanted]


def best_evaluation(
    records: Sequence[dict[str, Any]], like: Conditions | None = None
) -> dict[str, Any] | None:
    """Return the record with the smallest distance of those that compare."""
    alike = comparable(records, like)
    return min(alike, key=lambda record: record["figures"]["frechet"], default=None)


def forget_evaluations_after(run_dir: Path, step: int) -> None:
    """Drop the records of steps that a resumed run is going to do again."""
    if (run_dir / METRICS_FILE).exists():
        kept = [each for each in read_evaluations(run_dir) if each["step"] <= step]
        text = "".join(json.dumps(record) + "\n" for record in kept)
        write_aside(run_dir / METRICS_FILE, text.encode())


def floors(record: Mapping[str, Any]) -> float:
    """Return the Frechet distance of a record in floors."""
    return record["figures"]["frechet"] / record["floor"]["frechet"]


def evaluation_lines(record: Mapping[str, Any]) -> list[str]:
    """Return a table of the figures of one evaluation, each beside its floor."""
    figures, floor, extractor = record["figures"], record["floor"], record["extractor"]
    right = extractor["accuracy"]
    how_good = "" if right is None else f", {right:.2%} of the test images right"
    against = f"{record['real']} test images of {record['data']}"
    lines = [
        f"step {record['step']}: {record['samples']} samples against {against}, "
        + f"{record['seconds']:.1f} s",
        f"features: {extractor['name']}{how_good}, SHA-256 {extractor['sha256'][:16]}",
        f"{'':34}{'samples':>12}{'floor':>12}",
    ]
    for name, legend, form in FIGURES:
        if name in figures:
            cells = f"{figures[name]:>12{form}}{floor[name]:>12{form}}"
            ratio = f"  ({floors(record):.2f} floors)" if name == "frechet" else ""
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
    drawn = record["floor_samples"]
    lines.append(f"floor: the same of {drawn} training images")
    lines.append("*root mean square of a pixel's difference; the floor is that of test images")
    return lines


def evaluation_line(record: Mapping[str, Any]) -> str:
    """Return one line about an evaluation, for the log of a run."""
    figures = record["figures"]
    parts = [f"Frechet {figures['frechet']:.4f} ({floors(record):.2f} floors)"]
    parts += [f"{name} {figures[name]:.3f}" for name in ("precision", "recall")]
    if "missing" in figures:
        missing = ", ".join(map(str, figures["missing"])) or "none"
        parts += [f"score {figures['score']:.3f}", f"missing classes {missing}"]
    if "agreement" in figures:
        parts.append(f"of the class asked {min(figures['agreement']):.1%} or more")
    return f"evaluation of step {record['step']}: {'  '.join(parts)}"
