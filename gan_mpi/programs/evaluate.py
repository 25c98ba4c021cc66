"""Evaluate a trained generator: figures of its samples beside those of real images."""

from dataclasses import replace
from pathlib import Path

from gan_mpi.cluster.device import place
from gan_mpi.datasets.dataset import Dataset
from gan_mpi.drawing.generator import find_generator
from gan_mpi.errors import UserError
from gan_mpi.evaluation.reference import Wanted, make_reference
from gan_mpi.evaluation.writing import write_evaluation
from gan_mpi.mpi.comm import Communicator
from gan_mpi.parallel.data import say_notes, share_dataset
from gan_mpi.runs.evaluations import Evaluation, evaluation_lines
from gan_mpi.runs.log import say, warn
from gan_mpi.runs.record import DataRecord
from gan_mpi.runs.records import to_line
from gan_mpi.training.start import saved_source


def evaluate(
    comm: Communicator,
    source: Path | None,
    step: int | None,
    datadir: str | None,
    samples: int | None,
    classifier: str | None,
    as_json: bool,
    ema: bool = True,
) -> int:
    """Evaluate a run's checkpoint or a checkpoint file; return the exit code.

    The evaluation is printed and appended to METRICS_FILE beside the checkpoint.  Raises UserError.
    Collective.
    """
    trained = comm.on_root(lambda: find_generator(source, step, ema))
    folder = trained.path.parent
    device = place(comm, "auto").device
    data = saved_source(trained.data)
    data = replace(data, datadir=datadir, glyphs=None) if datadir else data
    train, _ = share_dataset(comm, data)
    comm.alike(lambda: _require_shape(trained.data, train))
    if train.sha256 != trained.data.sha256 and comm.is_root:
        warn(
            f"the generator was trained on {trained.data.source}, and is compared with "
            f"{train.source}"
        )
    say_notes(comm, train)
    wanted = Wanted(samples, classifier, folder)
    reference = make_reference(comm, wanted, data, train, device)
    generator = comm.alike(trained.build).to(device)
    for doubt in reference.doubts(trained.data) if comm.is_root else ():
        warn(doubt)
    figures, pairs = reference.evaluate(generator, trained.config, trained.data.class_names)
    evaluation: Evaluation = {"step": trained.step, "kimg": trained.images / 1000, **figures}
    if trained.config.ema and not ema:
        evaluation["own_weights"] = True
    comm.on_root(lambda: write_evaluation(folder, evaluation, pairs, trained.facts))
    if comm.is_root:
        lines = [to_line(evaluation)] if as_json else evaluation_lines(evaluation)
        first = [] if as_json else [f"{trained.path}:"]
        say("\n".join([*first, *lines]))
    return 0


def _require_shape(trained_on: DataRecord, train: Dataset) -> None:
    if train.shape != trained_on.shape:
        raise UserError(
            f"--datadir: {train.source} holds samples of {'x'.join(map(str, train.shape))}, and "
            f"the generator makes {'x'.join(map(str, trained_on.shape))}.",
            exit_code=2,
        )
