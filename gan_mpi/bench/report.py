"""What was timed, for people and for other programs."""

import csv
import io
import json
import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from gan_mpi.bench.model import Model, Prediction
from gan_mpi.bench.rates import Rates
from gan_mpi.bench.steps import OTHER, Steps, Timing
from gan_mpi.cluster.device import Placement, capability
from gan_mpi.config.describe import config_lines
from gan_mpi.config.training import TrainConfig
from gan_mpi.drawing.charts import draw_scaling
from gan_mpi.mpi.world import library_name
from gan_mpi.runs.record import DataDict
from gan_mpi.runs.segments import Segment

WORTH = 0.8  # efficiency


@dataclass(frozen=True)
class Line:
    """Steps timed on some ranks: strong scaling has one batch, weak one share a rank."""

    scaling: str
    steps: Timing
    efficiency: float | None  # share of the speed of one rank that each has, if one was timed
    oversubscribed: bool = False  # more threads than cores, which measure each other too

    def figures(self) -> dict[str, float | int | str | bool | None]:
        """Return what was measured, and on what, by name, as in a file for other programs."""
        steps = self.steps
        low, high = steps.quartiles
        return {
            "scaling": self.scaling,
            "ranks": steps.ranks,
            "nodes": steps.nodes,
            "threads_per_rank": steps.threads,
            "batch": steps.batch,
            "steps": len(steps.seconds),
            "seconds_per_step": steps.median,
            "lower_quartile": low,
            "upper_quartile": high,
            "images_per_second": steps.images_per_second,
            "efficiency": self.efficiency,
            "node_hours_per_million_images": steps.node_hours,
            "oversubscribed": self.oversubscribed,
        }


def lines_of(scaling: str, timings: Iterable[Timing], crowded: Collection[int] = ()) -> list[Line]:
    """Return a line for each timing, the fewest ranks first; `crowded` ranks share cores.

    Only ranks with as many threads as one alone has compare with it.
    """
    timings = sorted(timings, key=lambda timing: timing.ranks)
    alone = {each.threads: each.batch / each.median for each in timings if each.ranks == 1}
    lines = []
    for each in timings:
        share = None
        if each.threads in alone:
            share = each.batch / each.median / each.ranks / alone[each.threads]
        lines.append(Line(scaling, each, share, each.ranks in crowded))
    return lines


@dataclass(frozen=True)
class Bench:
    """What was measured."""

    config: TrainConfig
    placement: Placement
    data: DataDict
    where: Segment  # hosts, processors, versions, the date
    said: list[str]  # of the data and how ranks compute
    lines: list[Line]
    steps: Steps  # on all ranks
    rates: Rates
    sums: dict[int, float]  # seconds of an Allreduce by its bytes
    model: Model | None  # none without a sweep, or if steps of one rank say nothing of many
    why_not: str  # nothing is predicted by a sweep

    @property
    def crowded(self) -> str:
        """The numbers of ranks with more threads than cores, or ""."""
        ranks = {line.steps.ranks for line in self.lines if line.oversubscribed}
        return ", ".join(map(str, sorted(ranks)))

    @property
    def predictions(self) -> list[Prediction]:
        """What the model says of one batch, and of one share a rank, as they were timed."""
        if self.model is None:
            return []
        share = max(1, self.steps.batch // self.steps.ranks)
        return self.model.predict(self.config.batch, share)


def report_lines(found: Bench) -> list[str]:
    """Return what was measured, for people."""
    ranks, threads = found.steps.ranks, found.placement.threads
    device = found.placement.device
    where = f"{device}, {capability(device)}"
    where += f", {threads} thread(s) a rank" if device.type == "cpu" else ""
    lines = [*config_lines(found.config, ranks), f"device: {where}; {library_name()}"]
    lines += [*found.said, ""]
    if found.crowded:
        said = f"more threads than cores on {found.crowded} rank(s): each slows the others down"
        lines += [f"{said} (*)", ""]
    return [
        *lines,
        *table(found.lines),
        "",
        *_advice(found.lines),
        *_phases(found),
        *_sums(found),
        *_predicted(found),
    ]


def table(lines: Sequence[Line]) -> list[str]:
    """Return a header, and a row for each line."""
    head = f"{'ranks':>14} {'batch':>7} {'ms a step':>10} {'quarter to 3 quarters':>22}"
    rows = [f"{head} {'images/s':>9} {'efficiency':>10} {'node-hours a million':>21}"]
    for line in lines:
        steps = line.steps
        kind = line.scaling if len(lines) > 1 else ""
        share = "" if line.efficiency is None else f"{100 * line.efficiency:.0f} %"
        low, high = (1000 * seconds for seconds in steps.quartiles)
        rows.append(
            f"{kind:8} {steps.ranks:5} {steps.batch:7} {1000 * steps.median:10.2f} "
            f"{f'{low:.2f} to {high:.2f}':>22} {steps.images_per_second:9.0f} "
            f"{share:>10} {steps.node_hours:21.4f}{' *' if line.oversubscribed else ''}"
        )
    return rows


def _advice(lines: list[Line]) -> list[str]:
    strong = [line for line in lines if line.scaling == "strong" and not line.oversubscribed]
    if len(strong) < 2:
        return []
    most = max(line.steps.ranks for line in strong if (line.efficiency or 0.0) >= WORTH)
    worth = f"{most} rank(s) do {100 * WORTH:.0f} % or more each of what one does alone"
    if most == strong[-1].steps.ranks:
        with_cores = (
            "" if strong[-1].steps.ranks == lines[-1].steps.ranks else " with cores for all"
        )
        return [f"With this batch {worth}; more were not tried{with_cores}.", ""]
    return [f"With this batch {worth}; more would want a larger one.", ""]


def _phases(found: Bench) -> list[str]:
    steps, rates = found.steps, found.rates
    median = 1000 * steps.median
    whose = f"of a step on {steps.ranks} rank(s), the mean over ranks, waiting included"
    lines = [f"{whose} (in brackets of half the steps):"]
    for name, seconds in steps.phases.items():
        low, ms, high = (1000 * np.quantile(seconds, [0.25, 0.5, 0.75])).tolist()
        if ms or name == OTHER:
            spread = f"({low:.2f} to {high:.2f})"
            share = f"{100 * ms / median:4.0f} %"
            lines.append(f"  {name.replace('_', ' '):15} {ms:8.2f} ms {share}  {spread}")
    rate = rates.of_step / steps.median
    if hidden := 1000 * statistics.median(steps.hidden):
        lines.append(f"  {'hidden':15} {hidden:8.2f} ms of sums, while ranks computed")
    lines += ["", f"matrix products and convolutions, {rates.of_step:.3g} GFLOP a step and rank:"]
    for what, alone in (
        ("a step", rate),
        (f"the largest layer alone, {rates.layer}, forward", rates.of_layer),
        ("a product of matrices alone", rates.matrices),
    ):
        lines.append(f"  {what}: {alone:.0f} GFLOP/s ({100 * rate / alone:.0f} %)")
    return lines


def _sums(found: Bench) -> list[str]:
    if not found.sums:
        return []
    lines = ["", f"Allreduce on {found.steps.ranks} ranks:"]
    for size, seconds in found.sums.items():
        rate = size / seconds / 1e9
        lines.append(f"  {size:10} bytes {1e6 * seconds:10.1f} us {rate:8.3f} GB/s")
    return lines


def _predicted(found: Bench) -> list[str]:
    """Say what more ranks would take, and how far that is from what was timed."""
    model = found.model
    if model is None:
        return ["", f"nothing is predicted: {found.why_not}"] if found.why_not else []
    link = model.link
    between = "two nodes" if found.steps.nodes > 1 else "one node, no farther"
    rate = link.bandwidth / 1e9
    hides = any(found.steps.hidden)
    sent = f"{len(model.messages)} sum(s) of {sum(model.messages)} bytes in all"
    lines = [
        "",
        f"predicted, not measured, from steps of one rank ({sent} are sent by many),",
        f"and sums between two ranks of {between}: {1e6 * link.latency:.1f} us, {rate:.2f} GB/s",
        *(["as if nothing of them were hidden"] if hides else []),
        f"{'ranks':>14} {'batch':>7} {'ms a step':>10} {'efficiency':>10} {'measured':>10}",
    ]
    timed = {(line.scaling, line.steps.ranks): line.steps.median for line in found.lines}
    for each in found.predictions:
        measured = timed.get((each.scaling, each.ranks))
        lines.append(
            f"{each.scaling:8} {each.ranks:5} {each.batch:7} {1000 * each.seconds:10.2f} "
            f"{f'{100 * each.efficiency:.0f} %':>10} "
            f"{'' if measured is None else f'{1000 * measured:.2f}':>10}".rstrip()
        )
    return lines


def as_json(found: Bench) -> bytes:
    """Return all that was measured."""
    text = json.dumps(
        {
            "config": asdict(found.config),
            "device": str(found.placement.device),
            "processor": capability(found.placement.device),
            "threads": found.placement.threads,
            "mpi": library_name(),
            "data": found.data,
            "where": found.where,
            "oversubscribed": bool(found.crowded),
            "lines": [{**asdict(each.steps), **each.figures()} for each in found.lines],
            "rates": asdict(found.rates),
            "model": None if found.model is None else asdict(found.model),
            "predictions": [asdict(each) for each in found.predictions],
            "allreduce": [{"bytes": size, "seconds": s} for size, s in found.sums.items()],
        },
        indent=2,
    )
    return text.encode()


def as_csv(found: Bench) -> bytes:
    """Return a row for each number of ranks."""
    file = io.StringIO()
    rows = [line.figures() for line in found.lines]
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def as_plot(found: Bench) -> bytes:
    """Return a PNG: the efficiency of what was timed, and of what is predicted, by ranks."""
    curves = {}
    for scaling, what in (("strong", "one batch"), ("weak", "one share a rank")):
        timed = {
            line.steps.ranks: line.efficiency
            for line in found.lines
            if line.scaling == scaling and line.efficiency is not None
        }
        predicted = {p.ranks: p.efficiency for p in found.predictions if p.scaling == scaling}
        curves[what] = timed, predicted
    config = found.config
    title = f"{config.preset}, batch {config.batch}"
    if found.crowded:
        title += f", more threads than cores on {found.crowded}"
    return draw_scaling(curves, title, {"config": json.dumps(asdict(config))})
