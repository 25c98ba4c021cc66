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


def draw_points(points: np.ndarray, title: str, facts: Mapping[str, object]) -> bytes:
    """Return a PNG: points (N, 2) as a scatter plot, with the histogram of each coordinate.

    The unit square, from which real points come, and its even density are drawn in.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplot_mosaic(
        [["x", "."], ["points", "y"]], width_ratios=(4, 1), height_ratios=(1, 4)
    )
    plane, limits = axes["points"], (-0.25, 1.25)
    plane.scatter(points[:, 0], points[:, 1], s=1.5, alpha=0.4, linewidths=0)
    plane.add_patch(_square())
    plane.set(xlim=limits, ylim=limits, xlabel="first coordinate")
    plane.set_ylabel("second coordinate")
    bins = np.linspace(*limits, 61)
    for name, values, along in (
        ("x", points[:, 0], "vertical"),
        ("y", points[:, 1], "horizontal"),
    ):
        axes[name].hist(values, bins, density=True, orientation=along)  # type: ignore[arg-type]
        axes[name].plot(*_box(name == "x"), color="black", linewidth=0.8)
    axes["x"].set(xlim=limits, title=title)
    axes["y"].set(ylim=limits)
    buffer = io.BytesIO()
    texts = {name: str(value) for name, value in facts.items()}
    figure.savefig(buffer, format="png", dpi=110, metadata=texts)
    return buffer.getvalue()


def _square() -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((0, 0), 1, 1, fill=False, color="black", linewidth=0.8)


def _box(across: bool) -> tuple[list[float], list[float]]:
    along, density = [0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 0.0]
    return (along, density) if across else (density, along)
