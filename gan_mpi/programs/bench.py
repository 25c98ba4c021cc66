"""Time training steps on the ranks that there are, or on some of them after others."""

from dataclasses import dataclass, replace

import torch

from gan_mpi.bench.model import Model, fit_link, make_model
from gan_mpi.bench.rates import Rates, measure_rates
from gan_mpi.bench.report import Bench, Line, lines_of
from gan_mpi.bench.steps import (
    Stage,
    Steps,
    allreduce_times,
    far_allreduce_times,
)
from gan_mpi.cluster.device import crowding, place, without
from gan_mpi.cluster.facts import require_agreement
from gan_mpi.config.given import Given, text_of
from gan_mpi.config.training import TrainConfig
from gan_mpi.errors import DIVERGED, UserError
from gan_mpi.mpi.comm import Communicator
from gan_mpi.recording.opening import data_lines, segment
from gan_mpi.runs.log import note, warn
from gan_mpi.runs.record import DataDict
from gan_mpi.runs.segments import Segment
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
    crowd = crowding(comm)
    comm.alike(lambda: _require_measurable(start, "" if oversubscribe else crowd))
    placement = place(comm, text_of(given, "device") or "auto")
    warnings = [*start.warnings, *placement.warnings]
    warnings += filter(None, [without(start.config.precision, comm, placement.device)])
    for warning in warnings if comm.is_root else ():
        warn(warning)
    lines, whole = _time_all(comm, start, placement.device, sweep, seconds)
    steps = whole.steps
    times = allreduce_times(comm, SIZES) if comm.world_size > 1 else []
    sums = dict(zip((4 * size for size in SIZES), times, strict=False))
    tells = sweep and comm.world_size > 1
    why_not = _why_nothing_is_predicted(start.config, lines) if tells else ""
    model = _model(comm, lines, steps.messages) if tells and not why_not else None
    where = segment(comm, 0, placement, whole.facts)
    return Bench(
        config=start.config,
        placement=placement,
        data=whole.data,
        where=where,
        said=whole.said,
        lines=lines,
        steps=steps,
        rates=whole.rates,
        sums=sums,
        model=model,
        why_not=why_not,
    )


def _why_nothing_is_predicted(config: TrainConfig, lines: list[Line]) -> str:
    """Return why steps of one rank say nothing of many, or ""."""
    if config.schedule == "balance":
        return "with --schedule balance a step trains the one or the other player"
    if any(line.oversubscribed and line.steps.ranks <= 2 for line in lines):
        return "two ranks have more threads than cores, and so would slow each other down"
    return ""


def _require_measurable(start: Start, crowd: str) -> None:
    if start.config.average == "weights":
        raise UserError(
            "--average weights trains each rank by itself; bench times ranks that average "
            "gradients.",
            exit_code=2,
        )
    if crowd:
        raise UserError(
            f"{crowd}, so that they would measure each other; start fewer of either, or give "
            "--oversubscribe.",
            exit_code=2,
        )


def _model(comm: Communicator, lines: list[Line], messages: list[int]) -> Model:
    """Return what predicts more ranks, from steps of one and sums between two.  Collective."""
    times = far_allreduce_times(comm, SIZES)
    link = fit_link(dict(zip((4 * size for size in SIZES), times, strict=True)))
    alone: dict[int, list[float]] = {}
    for line in lines:
        if line.steps.ranks == 1:
            alone.setdefault(line.steps.batch, []).extend(line.steps.seconds)
    return make_model(alone, link, messages)


def _counts(world_size: int, sweep: bool) -> list[int]:
    """Return the numbers of ranks that are timed: powers of two, and all."""
    powers = [2**n for n in range(world_size.bit_length()) if 2**n < world_size]
    return [*(powers if sweep else []), world_size]


@dataclass(frozen=True)
class Part:
    """What was found on so many of the ranks."""

    steps: Steps
    rates: Rates  # of the last rank, whose share is the largest
    data: DataDict
    said: list[str]  # of their data and how they compute, for people
    facts: Segment  # and for a segment
    is_crowded: bool


def _time_all(
    comm: Communicator, start: Start, device: torch.device, sweep: bool, seconds: float
) -> tuple[list[Line], Part]:
    """Time each number of ranks; return what came of it, and the part of all.  Collective."""
    batch, size = start.config.batch, comm.world_size
    found: dict[tuple[str, int], Part] = {}
    for count in _counts(size, sweep):
        # A share of one image would be no batch to normalise over.
        weak = max(min(2, batch), batch * count // size)
        for scaling, mine in {"strong": batch, "weak": weak}.items():
            if count == size and scaling == "weak":
                continue  # the same again
            endless = max(ENDLESS, start.config.steps)
            of_part = replace(start, config=replace(start.config, batch=mine, steps=endless))
            found[scaling, count] = part = _time_part(comm, of_part, device, count, seconds)
            if sweep and comm.is_root:
                took = f"{1000 * part.steps.median:.2f} ms a step"
                note(f"{scaling} scaling, {count} rank(s), batch {mine}: {took}")
    found["weak", size] = found["strong", size]
    lines = []
    for scaling in ("strong", "weak") if sweep else ("strong",):
        parts = [part for (kind, _), part in found.items() if kind == scaling]
        crowded = {part.steps.ranks for part in parts if part.is_crowded}
        lines += lines_of(scaling, [part.steps for part in parts], crowded)
    return lines, found["strong", size]


def _time_part(
    comm: Communicator, start: Start, device: torch.device, count: int, seconds: float
) -> Part:
    """Time the first `count` ranks, while the others sleep.

    Raises UserError if they diverge.  Collective.
    """
    part = comm.first_ranks(count)

    def time_mine() -> Part | None:
        if part is None:
            return None
        stage = Stage(part, start, device)
        try:
            steps, rates = stage.time(seconds), part.allgather(measure_rates(stage))
        except UserError as error:
            if error.exit_code == DIVERGED:
                said = "the networks diverged while they were timed; a lower --lr may help."
                raise error.retold(said, DIVERGED) from None
            raise
        ranks, data = stage.ranks, stage.state.data
        about = [*filter(None, data_lines(data)), *ranks.dataset.notes, *ranks.lines()]
        crowded = bool(crowding(part))
        return Part(steps, rates[-1], data.to_dict(), about, ranks.facts(), crowded)

    found = comm.broadcast(comm.agree(time_mine))
    assert found is not None, "root has a part in each"
    return found
