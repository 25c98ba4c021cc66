"""What a run would be: train's --dry-run, without MPI, and without writing anything."""

import json
import os
from pathlib import Path

import torch

from gan_mpi.cluster.cores import oversubscribed, thread_count
from gan_mpi.config.describe import config_lines
from gan_mpi.config.given import Given
from gan_mpi.config.running import RunConfig
from gan_mpi.config.training import TrainConfig
from gan_mpi.config.values import RANK
from gan_mpi.datasets.find import load_dataset
from gan_mpi.mpi import launcher
from gan_mpi.recording.log_formats import log_format_of
from gan_mpi.runs.directory import next_number
from gan_mpi.training.start import Start, describe_start, find_start


def plan(given: Given) -> list[str]:
    """Return what a run of these options would be, for people, and its configuration as JSON.

    The data are read, and no network is made.  Raises UserError for options that contradict each
    other or a checkpoint, and for data that cannot be read.
    """
    start = find_start(given)
    options = start.options(given)
    ranks = launcher.process_count()
    if start.finished is not None:
        return [start.finished]
    return [
        *map("Warning: {}".format, start.warnings),
        _data(start),
        f"ranks: {ranks}" + ("" if launcher.rank() is not None else ", started without mpiexec"),
        _device(options.device),
        *config_lines(start.config, ranks),
        *_length(start.config, options),
        _run_directory(start, options),
        json.dumps(describe_start(start), indent=2),
    ]


def _data(start: Start) -> str:
    if RANK in (start.source.datadir or ""):
        return f"data: those of each site, {start.source.datadir}"
    data = load_dataset(start.source)
    what = "images" if len(data.shape) == 3 else "points"
    shape = "x".join(map(str, data.shape))
    return f"data: {len(data.images)} {what} of {shape} from {data.source}"


def _device(asked: str) -> str:
    gpus = torch.cuda.device_count() if asked != "cpu" else 0
    if asked.startswith("cuda") or gpus:
        return f"device: {asked}; torch sees {gpus} GPU(s) here"
    mine = frozenset(os.sched_getaffinity(0))
    whole = os.sched_getaffinity(os.getppid())
    bound = len(mine) < len(whole)  # by the launcher, to cores of its own
    cores = [mine] * (1 if bound else launcher.local_count())
    threads = thread_count(cores, 0)
    crowded = oversubscribed(cores, [threads] * len(cores))
    in_turns = f"; {crowded}, in turns" if crowded else ""
    return f"device: cpu, {threads} thread(s) a rank{in_turns}"


def _length(config: TrainConfig, options: RunConfig) -> list[str]:
    kimg = config.steps * config.images_per_step / 1000
    every = log_format_of(options, config).interval(config.steps)
    kept = {"all": "all", "best": "the last 3 and the best"}
    keep = options.keep or ("best" if options.evaluate_every else "last")
    length = f"length: {config.steps} steps, {kimg:.1f} kimg; status line every {every} steps"
    if options.evaluate_every:
        length += f"; evaluation every {options.evaluate_every}"
    apart = options.checkpoint_every
    when = "by their cost" if apart == "auto" else f"every {apart} steps"
    saves = f"checkpoints: {when} and at the end; of them "
    return [length, saves + f"{kept.get(keep, 'the last 3')} are kept"]


def _run_directory(start: Start, options: RunConfig) -> str:
    if start.saved is not None:
        step = start.saved["progress"]["step"]
        return f"run directory: {start.run_dir}, going on after step {step}"
    if start.run_dir is not None:
        return f"run directory: {start.run_dir}, new"
    number = next_number(Path(options.outdir))
    return f"run directory: a new one in {options.outdir}, with the number {number:05d}"
