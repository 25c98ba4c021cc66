"""Time training steps on the ranks that there are, or on some of them after others."""

import os
from dataclasses import replace

import torch

from gan_mpi.bench.model import Model, fit_link, make_model
from gan_mpi.bench.rates import Rates, measure_rates
from gan_mpi.bench.report import Bench, Line, lines_of
from gan_mpi.bench.steps import Stage, Steps, allreduce_times, far_allreduce_times
from gan_mpi.cluster.cores import oversubscribed
from gan_mpi.cluster.device import place, without_bfloat16
from gan_mpi.cluster.facts import require_agreement
from gan_mpi.config.given import Given, text_of
from gan_mpi.errors import UserError
from gan_mpi.mpi.comm import Communicator
from gan_mpi.runs.log import warn
from gan_mpi.training.start import Start, find_start

ENDLESS = 10**9  # steps, so that none that is timed lies beyond the end of the run
SIZES = [1, 256, 4096, 65_536, 1_048_576, 8_388_608]  # of sums, in float32


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
    lines, steps, rates = _time_all(comm, start, placement.device, sweep, seconds)
    times = allreduce_times(comm, SIZES) if comm.world_size > 1 else []
    sums = dict(zip((4 * size for size in SIZES), times, strict=False))
    alike = start.config.schedule != "balance"  # else a step trains the one or the other player
    predicts = sweep and comm.world_size > 1 and not shares_cores and alike
    model = _model(comm, lines, steps.messages) if predicts else None
    return Bench(start.config, placement, shares_cores, lines, steps, rates, sums, model)


def _model(comm: Communicator, lines: list[Line], messages: list[int]) -> Model:
    """Return what predicts more ranks, from steps of one and sums between two.  Collective."""
    times = far_allreduce_times(comm, SIZES)
    link = fit_link(dict(zip((4 * size for size in SIZES), times, strict=True)))
    alone: dict[int, list[float]] = {}
    for line in lines:
        if line.steps.ranks == 1:
            alone.setdefault(line.steps.batch, []).extend(line.steps.seconds)
    return make_model(alone, link, messages)


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
) -> tuple[list[Line], Steps, Rates]:
    """Time each number of ranks; return what came of it, the last two on all.  Collective."""
    batch, size = start.config.batch, comm.world_size
    found: dict[tuple[str, int], Steps] = {}
    for count in _counts(size, sweep):
        weak = max(1, batch * count // size)
        for scaling, mine in {"strong": batch, "weak": weak}.items():
            if count == size and scaling == "weak":
                continue  # the same again
            endless = max(ENDLESS, start.config.steps)
            of_part = replace(start, config=replace(start.config, batch=mine, steps=endless))
            found[scaling, count], rates = _time_part(comm, of_part, device, count, seconds)
    found["weak", size] = found["strong", size]
    lines = []
    for scaling in ("strong", "weak") if sweep else ("strong",):
        lines += lines_of(scaling, [steps for (kind, _), steps in found.items() if kind == scaling])
    return lines, found["strong", size], rates


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
