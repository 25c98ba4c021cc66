"""The curves of a run."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from gan_mpi.runs.evaluations import Evaluation, by_name, distance
from gan_mpi.runs.stats import StatsRecord, figures_of


class Result(TypedDict):
    """What came of a setting of a study: a figure by step and by seconds of training."""

    setting: str
    step: int
    kimg: float
    seconds: float
    steps: list[int]
    seconds_at: list[float]
    figures: list[float]
    floor: float | None  # none where it would not compare
    best: int  # place in the lists
    conditions: list[str | int]


def draw_losses(
    records: Sequence[StatsRecord],
    evaluations: Sequence[Evaluation],
    title: str,
    facts: Mapping[str, object],
) -> bytes:
    """Return losses.png: the two losses, D's mean scores, and the distance if it was measured.

    All are against the real images seen, or the steps where D was not trained.
    """
    from matplotlib.figure import Figure

    rows = 3 if evaluations else 2
    figure = Figure(figsize=(8, 3 * rows), layout="constrained")
    losses, scores, *rest = figure.subplots(rows, sharex=True)
    name_x = "kimg" if any(record["kimg"] for record in records) else "step"
    along = [figures_of(record)[name_x] for record in records]
    marker = "o" if len(records) < 3 else None
    for axes, curves, label in (
        (losses, {"loss_G": "generator", "loss_D": "discriminator"}, "loss"),
        (scores, {"D_real": "D(x), reals", "D_fake": "D(G(z)), fakes"}, "mean score"),
    ):
        for name, legend in curves.items():
            if any(name in record for record in records):
                values = [figures_of(record).get(name, math.nan) for record in records]
                axes.plot(along, values, marker=marker, label=legend)
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    seen = [figures_of(each).get(name, 0.5) for each in records for name in ("D_real", "D_fake")]
    if all(0 <= value <= 1 for value in seen):  # and not a critic's heights
        scores.set_ylim(0, 1)
        scores.axhline(0.5, color="grey", linewidth=0.8, linestyle=":")
    for axes in rest:
        _draw_distance(axes, evaluations, name_x)
    figure.axes[-1].set_xlabel("thousand real images" if name_x == "kimg" else "steps")
    losses.set_title(title)
    return _png(figure, facts)


def _draw_distance(axes: Any, evaluations: Sequence[Evaluation], name_x: str) -> None:
    """Draw the distance that all evaluations have, its floor, and the best of it; logarithmic."""
    name = distance(evaluations)
    along = [each["kimg"] if name_x == "kimg" else each["step"] for each in evaluations]
    values = [by_name(each["figures"])[name] for each in evaluations]
    extractor, floor = evaluations[-1]["extractor"], by_name(evaluations[-1]["floor"]).get(name)
    axes.plot(along, values, marker="o", markersize=4, label="samples")
    best = int(np.argmin(values))
    axes.plot(along[best], values[best], "*", color="black", markersize=11)
    axes.annotate(
        f"best: {values[best]:.3g} at step {evaluations[best]['step']}",
        (along[best], values[best]),
        xytext=(0, -18),
        textcoords="offset points",
        horizontalalignment="left" if 2 * best < len(values) else "right",
    )
    _draw_floor(axes, floor)
    if name == "frechet":
        axes.set_yscale("log")
    axes.set_ylabel(f"{name.capitalize()} distance")
    axes.grid(alpha=0.3)
    axes.legend(title=f"{extractor['name']} {extractor['sha256'][:8]}")


def _draw_floor(axes: Any, floor: float | None) -> None:
    if floor is not None:
        axes.axhline(floor, color="grey", linestyle=":", label=f"floor, {floor:.3g}")


def draw_study(results: Sequence[Result], metric: str, facts: Mapping[str, object]) -> bytes:
    """Return study.png: a figure of each setting against its seconds of training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for result in results:
        minutes = np.array(result["seconds_at"]) / 60
        (line,) = axes.plot(
            minutes,
            result["figures"],
            marker="o",
            markersize=4,
            label=result["setting"],
        )
        best = result["best"]
        axes.plot(
            minutes[best],
            result["figures"][best],
            "*",
            markersize=12,
            color=line.get_color(),
        )
    _draw_floor(axes, results[0]["floor"])
    if metric == "frechet":
        axes.set_yscale("log")
    axes.set_xlabel("minutes of training")
    axes.set_ylabel("Frechet distance" if metric == "frechet" else metric)
    axes.grid(alpha=0.3)
    axes.legend()
    return _png(figure, facts)


def draw_scaling(
    curves: Mapping[str, tuple[Mapping[int, float], Mapping[int, float]]],
    title: str,
    facts: Mapping[str, object],
) -> bytes:
    """Return a PNG of efficiency, 0..1, by ranks, what was timed and what is predicted, by name."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name, (timed, predicted) in curves.items():
        (line,) = axes.plot(list(timed), list(timed.values()), "o-", label=f"{name}, timed")
        if predicted:
            axes.plot(
                list(predicted),
                list(predicted.values()),
                linestyle=":",
                color=line.get_color(),
                label=f"{name}, predicted",
            )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set(title=title, xlabel="ranks", ylabel="efficiency", ylim=(0, None))
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.grid(alpha=0.3)
    axes.legend()
    return _png(figure, facts)


def _png(figure: Any, facts: Mapping[str, object]) -> bytes:
    buffer = io.BytesIO()
    texts = {name: str(value) for name, value in facts.items()}
    figure.savefig(buffer, format="png", dpi=110, metadata=texts)
    return buffer.getvalue()


def draw_points(
    real: np.ndarray,
    generated: np.ndarray | None,
    title: str,
    facts: Mapping[str, object],
) -> bytes:
    """Return a PNG: points (N, 2) as a scatter plot, with the histogram of each coordinate.

    Real points are below in grey, generated ones, if any, above in blue.  The title says which
    share of these lies beyond the picture, which shows -0.25..1.25.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplot_mosaic(
        [["x", "."], ["points", "y"]], width_ratios=(4, 1), height_ratios=(1, 4)
    )
    limits = (-0.25, 1.25)
    axes["points"].set(xlim=limits, ylim=limits, xlabel="first coordinate")
    axes["points"].set_ylabel("second coordinate")
    axes["x"].set(xlim=limits, title=title + _beyond(generated, *limits))
    axes["y"].set(ylim=limits)
    bins = np.linspace(*limits, 61)
    looks: tuple[tuple[np.ndarray | None, str, dict[str, Any]], ...] = (
        (real, "real", {"color": "0.6"}),
        (generated, "generated", {"color": "tab:blue", "alpha": 0.6}),
    )
    for points, label, look in looks:
        if points is None:
            continue
        along, across = points[:, 0], points[:, 1]
        axes["points"].scatter(along, across, s=1.5, linewidths=0, label=label, **look)
        density = np.full(len(points), 1 / (len(points) * (bins[1] - bins[0])))
        axes["x"].hist(along, bins, weights=density, **look)  # type: ignore[arg-type]
        axes["y"].hist(
            across,
            bins,  # type: ignore[arg-type]
            weights=density,
            orientation="horizontal",
            **look,
        )
    axes["points"].legend(loc="upper right", markerscale=6)
    return _png(figure, facts)


def _beyond(points: np.ndarray | None, low: float, high: float) -> str:
    if points is None:
        return ""
    share = ((points < low) | (points > high)).any(axis=1).mean()
    return f", {share:.1%} beyond the picture" if share >= 0.0005 else ""
