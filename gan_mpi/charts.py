"""The curves of a run."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def draw_losses(records: Sequence[dict[str, Any]], title: str) -> bytes:
    """Return losses.png: the two losses above, D's mean scores below, against images seen."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    losses, scores = figure.subplots(2, sharex=True)
    if any(record["kimg"] for record in records):
        along, label_x = [r["kimg"] for r in records], "thousand real images"
    else:  # D was not trained
        along, label_x = [r["step"] for r in records], "steps"
    marker = "o" if len(records) < 3 else None
    for axes, curves, label in (
        (losses, {"loss_G": "generator", "loss_D": "discriminator"}, "loss"),
        (scores, {"D_real": "D(x), reals", "D_fake": "D(G(z)), fakes"}, "mean score"),
    ):
        for name, legend in curves.items():
            if any(name in record for record in records):
                values = [record.get(name, math.nan) for record in records]
                axes.plot(along, values, marker=marker, label=legend)
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    scores.set_ylim(0, 1)
    scores.axhline(0.5, color="grey", linewidth=0.8, linestyle=":")
    scores.set_xlabel(label_x)
    losses.set_title(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
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
    buffer = io.BytesIO()
    texts = {name: str(value) for name, value in facts.items()}
    figure.savefig(buffer, format="png", dpi=110, metadata=texts)
    return buffer.getvalue()


def _beyond(points: np.ndarray | None, low: float, high: float) -> str:
    if points is None:
        return ""
    share = ((points < low) | (points > high)).any(axis=1).mean()
    return f", {share:.1%} beyond the picture" if share >= 0.0005 else ""
