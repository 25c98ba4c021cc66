"""The curves of a run."""

import io
from collections.abc import Sequence
from typing import Any


def draw_losses(records: Sequence[dict[str, Any]], title: str) -> bytes:
    """Return losses.png: the two losses above, D's mean scores below, against images seen."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    losses, scores = figure.subplots(2, sharex=True)
    kimg = [record["kimg"] for record in records]
    marker = "o" if len(records) < 3 else None
    for axes, curves, label in (
        (losses, {"loss_G": "generator", "loss_D": "discriminator"}, "loss"),
        (scores, {"D_real": "D(x), reals", "D_fake": "D(G(z)), fakes"}, "mean score"),
    ):
        for name, legend in curves.items():
            axes.plot(
                kimg, [record[name] for record in records], marker=marker, label=legend
            )
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend()
    scores.set_ylim(0, 1)
    scores.axhline(0.5, color="grey", linewidth=0.8, linestyle=":")
    scores.set_xlabel("thousand real images")
    losses.set_title(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
