"""Time training steps on the ranks that there are, or on some of them after others."""

import csv
import io
import json
import os
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import torch

from gan_mpi.bench.rates import Rates, measure_rates
from gan_mpi.bench.steps import Stage, Steps, allreduce_times
from gan_mpi.cluster.cores import oversubscribed
from gan_mpi.cluster.device import Placement, capability, place, without_bfloat16
from gan_mpi.cluster.facts import require_agreement
from gan_mpi.config.describe import config_lines
from gan_mpi.config.given import Given, text_of
from gan_mpi.config.training import TrainConfig
from gan_mpi.errors import UserError
from gan_mpi.mpi.comm import Communicator
from gan_mpi.mpi.world import library_name
from gan_mpi.runs.log import warn
from gan_mpi.training.start import Start, find_start

SIZES = [1, 256, 4096, 65_536, 1_048_576, 8_388_608]  # of sums, in float32
WORTH = 0.8  # efficiency


@dataclass(frozen=True)
class Line:
    """Steps timed on some ranks: strong scaling has one batch, weak one share a rank."""

    scaling: str
    steps: Steps
    efficiency: float | None  # share of the speed of one rank that each has, if one was timed


@dataclass(frozen=True)
class Bench:
    """What was measured."""

    config: TrainConfig
    placement: Placement
    shares_cores: bool  # more ranks than cores: each measures the others too
    lines: list[Line]
    rates: Rates
    sums: dict[int, float]  # seconds of an Allreduce by its bytes


def bench(
    comm: Communicator, given: Given, sweep: bool, seconds: float, oversubscribe: bool
) -> Bench:
    """Time steps for so many seconds on all ranks; with `sweep` on 1, 2, 4 ... of them too.

    Ranks without a part sleep meanwhile.  Raises UserError for what cannot be timed.  Collective.
    """
    require_agreement(comm)
    start = comm.on_root(lambda: find_start(given))
    if start.config.average == "weights":
        comm.raise_alike(
            UserError(
                "--average weights trains each rank by itself; bench times ranks that average "
                "gradients.",
                exit_code=2,
            )
        )
    shares_cores = _check_cores(comm, oversubscribe)
    placement = place(comm, text_of(given, "device") or "auto")
    warnings = [*start.warnings, *placement.warnings]
    if start.config.precision == "bf16":
        warnings += filter(None, [without_bfloat16(comm, placement.device)])
    for warning in warnings if comm.is_root else ():
        warn(warning)
    lines, rates = _time_all(comm, start, placement.device, sweep, seconds)
    times = allreduce_times(comm, SIZES) if comm.world_size > 1 else []
    sums = dict(zip((4 * size for size in SIZES), times, strict=False))
    return Bench(start.config, placement, shares_cores, lines, rates, sums)


def _check_cores(comm: Communicator, oversubscribe: bool) -> bool:
    """Return whether ranks share cores, for which they must have leave.  Collective."""
    cores = frozenset(os.sched_getaffinity(0))
    found = [each for each in comm.allgather(oversubscribed(comm.node_allgather(cores))) if each]
    if found and not oversubscribe:
        comm.raise_alike(
            UserError(
                f"{found[0]}, so that they would measure each other; start fewer, or give "
                "--oversubscribe.",
                exit_code=2,
            )
        )
    return bool(found)


def _counts(world_size: int, sweep: bool) -> list[int]:
    """Return the numbers of ranks that are timed: powers of two, and all."""
    powers = [2**n for n in range(world_size.bit_length()) if 2**n < world_size]
    return [*(powers if sweep else []), world_size]


def _time_all(
    comm: Communicator, start: Start, device: torch.device, sweep: bool, seconds: float
) -> tuple[list[Line], Rates]:
    """Time each number of ranks; return what came of it.  Collective."""
    batch, size = start.config.batch, comm.world_size
    found: dict[tuple[str, int], Steps] = {}
    for count in _counts(size, sweep):
        weak = max(1, batch * count // size)
        for scaling, mine in {"strong": batch, "weak": weak}.items():
            if count == size and scaling == "weak":
                continue  # the same again
            of_part = replace(start, config=replace(start.config, batch=mine))
            found[scaling, count], rates = _time_part(comm, of_part, device, count, seconds)
    found["weak", size] = found["strong", size]
    return list(_lines(found, sweep)), rates


def _time_part(
    comm: Communicator, start: Start, device: torch.device, count: int, seconds: float
) -> tuple[Steps, Rates]:
    """Time the first `count` ranks, while the others sleep; rates are those of the last of them.

    Its share is the largest.  Collective.
    """
    part = comm.first_ranks(count)

    def time_mine() -> tuple[Steps, Rates] | None:
        if part is None:
            return None
        stage = Stage(part, start, device)
        steps, rates = stage.time(seconds), part.allgather(measure_rates(stage))
        part.close()
        return steps, rates[-1]

    found = comm.broadcast(comm.agree(time_mine))
    assert found is not None, "root has a part in each"
    return found


def _lines(found: dict[tuple[str, int], Steps], sweep: bool) -> Iterator[Line]:
    for scaling in ("strong", "weak") if sweep else ("strong",):
        mine = [steps for (kind, _), steps in found.items() if kind == scaling]
        mine.sort(key=lambda steps: steps.ranks)
        speeds = {steps.ranks: steps.batch / steps.median / steps.ranks for steps in mine}
        for steps in mine:
            share = speeds[steps.ranks] / speeds[1] if 1 in speeds else None
            yield Line(scaling, steps, share)


def report_lines(found: Bench) -> list[str]:
    """Return what was measured, for people."""
    ranks, threads = found.lines[-1].steps.ranks, found.placement.threads
    where = str(found.placement.device)
    where += f", {capability()}, {threads} thread(s) a rank" if where == "cpu" else ""
    lines = [*config_lines(found.config, ranks), f"device: {where}; {library_name()}", ""]
    if found.shares_cores:
        lines += ["more ranks than cores: each is slowed down by the others", ""]
    return [*lines, *_table(found.lines), *_advice(found.lines), *_phases(found), *_sums(found)]


def _table(lines: list[Line]) -> list[str]:
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
            f"{share:>10} {steps.node_hours:21.4f}"
        )
    return [*rows, ""]


def _advice(lines: list[Line]) -> list[str]:
    strong = [line for line in lines if line.scaling == "strong"]
    if len(strong) < 2:
        return []
    most = max(line.steps.ranks for line in strong if (line.efficiency or 0.0) >= WORTH)
    worth = f"{most} rank(s) do {100 * WORTH:.0f} % or more each of what one does alone"
    if most == strong[-1].steps.ranks:
        return [f"With this batch {worth}; more were not tried.", ""]
    return [f"With this batch {worth}; more would want a larger one.", ""]


def _phases(found: Bench) -> list[str]:
    steps, rates = found.lines[-1].steps, found.rates
    median = 1000 * steps.median
    named = {name: 1000 * statistics.median(each) for name, each in steps.phases.items()}
    named = {name.replace("_", " "): ms for name, ms in named.items() if ms}
    named["other"] = max(0.0, median - sum(named.values()))
    lines = [f"of a step on {steps.ranks} rank(s), the mean over ranks, waiting included:"]
    lines += [f"  {name:14} {ms:8.2f} ms {100 * ms / median:4.0f} %" for name, ms in named.items()]
    rate = rates.of_step / steps.median
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
    lines = ["", f"Allreduce on {found.lines[-1].steps.ranks} ranks:"]
    for size, seconds in found.sums.items():
        rate = size / seconds / 1e9
        lines.append(f"  {size:10} bytes {1e6 * seconds:10.1f} us {rate:8.3f} GB/s")
    return lines


def as_json(found: Bench) -> str:
    """Return all that was measured."""
    return json.dumps(
        {
            "config": asdict(found.config),
            "device": str(found.placement.device),
            "processor": capability(),
            "threads": found.placement.threads,
            "mpi": library_name(),
            "oversubscribed": found.shares_cores,
            "lines": [
                {"scaling": each.scaling, "efficiency": each.efficiency, **asdict(each.steps)}
                for each in found.lines
            ],
            "rates": asdict(found.rates),
            "allreduce": [{"bytes": size, "seconds": s} for size, s in found.sums.items()],
        },
        indent=2,
    )


def as_csv(found: Bench) -> str:
    """Return a row for each number of ranks."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    head = "scaling,ranks,nodes,threads_per_rank,batch,steps,seconds_per_step,lower_quartile,"
    head += "upper_quartile,images_per_second,efficiency,node_hours_per_million_images,"
    writer.writerow([*head.split(",")[:-1], "oversubscribed"])
    for line in found.lines:
        steps = line.steps
        row = [line.scaling, steps.ranks, steps.nodes, found.placement.threads, steps.batch]
        row += [len(steps.seconds), steps.median, *steps.quartiles, steps.images_per_second]
        writer.writerow([*row, line.efficiency, steps.node_hours, found.shares_cores])
    return file.getvalue()
