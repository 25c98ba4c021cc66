"""What is said and recorded of a start of a run before its first step."""

import datetime
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from gan_mpi import __version__
from gan_mpi.cluster.device import Placement, capability, place, without
from gan_mpi.cluster.memory import keep_freed_memory, return_freed_memory
from gan_mpi.config.describe import config_lines
from gan_mpi.config.resolve import to_remember
from gan_mpi.config.running import RunConfig
from gan_mpi.config.training import TrainConfig
from gan_mpi.errors import UserError
from gan_mpi.evaluation.reference import Reference, Wanted, make_reference
from gan_mpi.files import sweep
from gan_mpi.lifecycle.phases import Phases
from gan_mpi.lifecycle.stopping import StopRequest
from gan_mpi.mpi.comm import Communicator
from gan_mpi.mpi.world import library_name
from gan_mpi.recording.board import check_installed
from gan_mpi.recording.gallery import about_grid
from gan_mpi.recording.log_formats import log_format_of
from gan_mpi.runs import directory as rundir
from gan_mpi.runs import stats
from gan_mpi.runs.claim import Claim
from gan_mpi.runs.evaluations import forget_evaluations_after
from gan_mpi.runs.log import Log
from gan_mpi.runs.places import end_of
from gan_mpi.runs.record import DataRecord
from gan_mpi.runs.segments import ARITHMETIC, Segment, append_segment, changes, read_segments
from gan_mpi.training.run import Ranks, Run, Saves
from gan_mpi.training.start import Start
from gan_mpi.training.state import State

GLYPHS = (
    "These are drawn glyphs, not MNIST: digits in Pillow's own font. To train on MNIST, give the "
    "folder with its files: --datadir DIR."
)


def open_run(
    comm: Communicator,
    ranks: Ranks,
    start: Start,
    options: RunConfig,
    log: Log,
    stop: StopRequest,
    phases: Phases,
    claim: Claim,
    known: Reference | None,
) -> tuple[Run, Reference | None]:
    """Open the data, networks and run directory; return the run, and its test images if wanted.

    `known` are those that more ranks have made, some of which are gone.  Collective.
    """
    placement = place(comm, options.device)
    keep_freed_memory()
    if options.tensorboard:
        comm.on_root(check_installed)
    state = ranks.open(placement.device, phases)
    start.forget_tensors()
    for line in opening_lines(comm, state, ranks.lines(), ranks.dataset.notes, placement):
        log.line(line)
    shared = comm.allgather(ranks.shared)
    if not all(shared):
        where = " on some nodes" if any(shared) else ""
        log.line(f"no room in shared memory{where}: each rank keeps its own copy of the data")
    for warning in [*placement.warnings, *about_grid(options, state)]:
        log.warning(warning)
    if slow := without(state.config.precision, comm, placement.device):
        log.warning(slow)
    about = segment(comm, state.progress.step, placement, ranks.facts())
    reference = known.on(comm) if known else None
    if reference is None and options.evaluate_every is not None:
        reference = _reference(comm, ranks, start, options, placement)
        phases.end("test images")
    return_freed_memory()  # that reading took
    directory = comm.on_root(lambda: open_run_dir(options, state, start, about, log, claim))
    every = log_format_of(options, state.config).interval(state.config.steps)
    saves = Saves(options.checkpoint_every, state.progress.step, start.owes_checkpoint)
    run = Run(comm, options, state, ranks.dataset, log, directory, stop, every, saves)
    return run, reference


def _reference(
    comm: Communicator, ranks: Ranks, start: Start, options: RunConfig, placement: Placement
) -> Reference:
    """Return the test images to compare samples with.  Collective."""
    wanted = Wanted(options.samples, options.classifier, start.run_dir)
    return make_reference(comm, wanted, start.source, ranks.dataset, placement.device)


def opening_lines(
    comm: Communicator,
    state: State,
    of_ranks: Sequence[str],
    notes: Sequence[str],
    placement: Placement,
) -> list[str]:
    """Return what is said before the first step.  Collective.

    `of_ranks` is what the ranks say, and `notes` are those on this rank's data.
    """
    hosts = list(dict.fromkeys(comm.allgather(platform.node())))
    named = ", ".join(hosts[:4]) + (", ..." if len(hosts) > 4 else "")
    in_turns = f"; {placement.crowded}, in turns" if placement.crowded else ""
    device = str(placement.device)
    device += "" if device == "cpu" else f", {capability(placement.device)}"
    drawn, *about_data = data_lines(state.data)
    return [
        *([drawn] if drawn else []),
        *of_ranks,
        *about_data,
        *dict.fromkeys(note for each in comm.allgather(notes) for note in each),
        f"ranks: {comm.world_size} on {len(hosts)} host(s) ({named}), {library_name()}",
        f"device: {device}, {placement.threads} thread(s) a rank{in_turns}",
        *config_lines(state.config, comm.world_size),
    ]


def data_lines(data: DataRecord) -> list[str]:
    """Return whether they are drawn, or "", what they are, and their classes if they have names."""
    shape, what = "x".join(map(str, data.shape)), "points" if data.are_points else "images"
    lines = [GLYPHS if data.glyphs is not None else ""]
    lines.append(f"data: {data.count} {what} of {shape} from {data.source}")
    if data.classes and data.class_names:
        lines.append(f"classes: {', '.join(data.class_names)}")
    return lines


def segment(comm: Communicator, step: int, placement: Placement, of_ranks: Segment) -> Segment:
    """Return the line of segments.jsonl for this start of a run.  Collective.

    `of_ranks` is what the ranks say of how they compute.
    """
    computes = capability(placement.device)
    mine = platform.node(), str(placement.device), placement.threads, computes
    hosts = comm.allgather(mine)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "first_step": step + 1,
        "ranks": comm.world_size,
        "hosts": sorted({host for host, *_ in hosts}),
        "devices": sorted({device for _, device, *_ in hosts}),
        "threads": [threads for _, _, threads, _ in hosts],
        "processors": sorted({processor for *_, processor in hosts}),
        "versions": {
            "gan-mpi": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "mpi": library_name(),
        },
        "arithmetic": ARITHMETIC,
        **of_ranks,
    }


def _notice_changes(run_dir: Path, segment: Segment, start: Start, log: Log) -> None:
    """Say why a run that goes on will not be the same to the bit as without the stop."""
    starts = read_segments(run_dir) if start.saved else []
    before = [each for each in starts if each["last_step"] >= each["first_step"]]  # that trained
    if before and (found := changes(before[-1], segment)):
        log.line(
            f"not as before: {', '.join(found)}; the result is as good, but in its last bits not "
            "that of a run without the stop."
        )


def slowest(comm: Communicator, phases: Phases) -> dict[str, float]:
    """Return the seconds of each phase on the rank that took longest over it.  Collective."""
    _, longest = comm.extremes(np.array(list(phases.seconds.values())))
    return dict(zip(phases.seconds, longest.tolist(), strict=True))


def started_line(seconds: Mapping[str, float]) -> str:
    """Say how long a start took, phase by phase."""
    each = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    return f"started in {sum(seconds.values()):.1f} s: {each} (each on the slowest rank)"


def _describe(run_dir: Path, config: TrainConfig, data: DataRecord, options: RunConfig) -> None:
    about = {"config": asdict(config), "data": data.to_dict()}
    rundir.write_config(run_dir, {**about, "evaluation": to_remember(options)})


def mend_description(start: Start, options: RunConfig) -> None:
    """Write the description of a run that has all its steps anew if it is damaged; on root."""
    assert start.run_dir is not None and start.saved is not None, "it has steps"
    try:
        rundir.read_description(start.run_dir)
    except UserError:
        _describe(start.run_dir, start.config, DataRecord.from_dict(start.saved["data"]), options)


def open_run_dir(
    options: RunConfig, state: State, start: Start, segment: Segment, log: Log, claim: Claim
) -> Path:
    """Make the run directory and claim it, or make it ready to go on; on root.

    `segment` is this start's line for segments.jsonl.  Raises UserError.
    """
    config, step = state.config, state.progress.step
    if start.run_dir is None:
        description = f"{config.preset}-{state.data.name}-b{config.batch}"
        run_dir = rundir.make_numbered(Path(options.outdir), description)
    else:
        run_dir = start.run_dir
    claim.take(run_dir)
    if ended := end_of(run_dir):
        log.line(f"the last start {ended}.")
    sweep(run_dir)
    _describe(run_dir, config, state.data, options)  # then it is a run
    stats.forget_stats_after(run_dir, step)
    forget_evaluations_after(run_dir, step)
    _notice_changes(run_dir, segment, start, log)
    append_segment(run_dir, {"id": claim.number, **segment})
    going_on = f", going on after step {step}" if start.saved else ""
    log.line(f"run directory: {run_dir}{going_on}")
    log.attach(run_dir / rundir.LOG_FILE)
    return run_dir
