"""Evaluate a trained generator: figures of its samples beside those of real images."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from gan_mpi.cluster.device import place
from gan_mpi.config.resolve import config_from_dict
from gan_mpi.datasets.dataset import Dataset
from gan_mpi.drawing.generator import load_generator
from gan_mpi.drawing.pictures import provenance
from gan_mpi.errors import UserError
from gan_mpi.evaluation.record import write_evaluation
from gan_mpi.evaluation.reference import Wanted, make_reference
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.data import share_dataset
from gan_mpi.runs import checkpoint
from gan_mpi.runs.directory import newest_run
from gan_mpi.runs.evaluations import evaluation_lines
from gan_mpi.training.start import saved_source


def evaluate(
    comm: Communicator,
    source: Path | None,
    step: int | None,
    datadir: str | None,
    samples: int,
    classifier: str | None,
    as_json: bool,
    averaged: bool = True,
) -> int:
    """Evaluate a run's checkpoint or a checkpoint file; return the exit code.

    The record is printed and appended to METRICS_FILE beside the checkpoint.  Raises UserError.
    Collective.
    """
    path, state = comm.on_root(
        lambda: checkpoint.find_checkpoint(source or newest_run(Path("runs")), step, _warn)
    )
    device = place(comm, "auto").device
    data = saved_source(state["data"])
    data = replace(data, datadir=datadir) if datadir else data
    train, _ = share_dataset(comm, data)
    _check_data(comm, state, train)
    wanted = Wanted(samples, classifier, path.parent)
    reference = make_reference(comm, wanted, data, train, device)
    generator: nn.Module = load_generator(state, averaged).to(device)
    figures, pairs = reference.evaluate(generator, config_from_dict(state["config"]))
    progress = state["progress"]
    about = {"step": progress["step"], "kimg": progress["images"] / 1000}
    record = {**about, **figures}
    comm.on_root(lambda: write_evaluation(path.parent, record, pairs, provenance(state)))
    if comm.is_root:
        lines = [json.dumps(record)] if as_json else evaluation_lines(record)
        first = [] if as_json else [f"{path}:"]
        sys.stdout.write("\n".join([*first, *lines]) + "\n")
    comm.close()
    return 0


def _warn(text: str) -> None:
    sys.stderr.write(f"Warning: {text}\n")


def _check_data(comm: Communicator, state: dict[str, Any], train: Dataset) -> None:
    trained_on = state["data"]
    if list(train.shape) != list(trained_on["shape"]):
        raise UserError(
            f"--datadir: {train.source} holds samples of {'x'.join(map(str, train.shape))}, and "
            f"the generator makes {'x'.join(map(str, trained_on['shape']))}.",
            exit_code=2,
            on_all_ranks=True,
        )
    if train.sha256 != trained_on["sha256"] and comm.is_root:
        _warn(
            f"the generator was trained on {trained_on['source']}, and is compared with "
            f"{train.source}"
        )
