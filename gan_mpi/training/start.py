"""How a run begins, by its options and the files that there are."""

import shlex
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import cast

from gan_mpi.cluster.processors import MKL, ONEDNN, linear_library
from gan_mpi.config.contradictions import (
    check_checkpoints,
    check_evaluation,
    check_failure,
    check_sites,
)
from gan_mpi.config.given import Given, OptionValue, flag_of, number_of, text_of
from gan_mpi.config.resolve import config_from_dict, new_config, resumed_config, run_config
from gan_mpi.config.running import RunConfig
from gan_mpi.config.training import TrainConfig
from gan_mpi.config.values import is_adaptive
from gan_mpi.datasets.dataset import Dataset, Source
from gan_mpi.datasets.find import find_source
from gan_mpi.errors import UserError, flag
from gan_mpi.mpi import launcher
from gan_mpi.parallel.linear import has_onednn
from gan_mpi.runs import checkpoint
from gan_mpi.runs import directory as rundir
from gan_mpi.runs.checkpoint import Checkpoint
from gan_mpi.runs.record import DataRecord
from gan_mpi.runs.segments import read_segments, rollbacks_to

# Options that make no other tensors, but other uses of them.
LEARNED_WITH = ("latents", "g_activation", "d_activation")


@dataclass(frozen=True)
class Transfer:
    """The checkpoint whose networks a new run begins with."""

    path: Path
    saved: Checkpoint


@dataclass
class Start:
    """What the options and the file system say of a run; found by root."""

    config: TrainConfig
    source: Source
    run_dir: Path | None = None
    saved: Checkpoint | None = None
    saved_at: Path | None = None  # the file that `saved` was read from
    transferred: Transfer | None = None
    warnings: list[str] = field(default_factory=list)
    # Options of earlier starts, by parameter name.
    remembered: dict[str, OptionValue] = field(default_factory=dict)
    micro_batch: int | None = None  # images that pass through the networks at once
    overlap: bool | None = None  # whether ranks compute while gradients are summed; None: by nodes
    graphs: bool = False  # whether a device does each step as one
    cuda_aware: bool = False  # whether MPI reads memory of devices
    explains: bool = False
    owes_checkpoint: bool = False  # since one may have been lost with root
    survives: bool = False  # whether ranks go on without those that are gone
    rollbacks: int = 0  # how often the run has gone back to a checkpoint, to draw other numbers
    dataset: Dataset | None = None  # read by all ranks before some were lost
    linear: str = MKL  # the library that computes linear layers, as root's processor has it
    linear_here: str = MKL  # that of a run which begins now

    @property
    def about_linear(self) -> list[str]:
        """Say by which library linear layers are computed, if that is worth a line."""
        names = {MKL: "MKL", ONEDNN: "oneDNN"}
        if self.linear != self.linear_here:
            kept, other = names[self.linear], names[self.linear_here]
            why = f"on this processor a new one would take {other}."
            return [f"linear layers go on with {kept}, with which this run began; {why}"]
        if self.saved is None and self.linear == ONEDNN:
            return ["linear layers are oneDNN's: MKL leaves instructions of this processor unused."]
        return []

    def options(self, given: Given) -> RunConfig:
        """Return where and how to run.  Raises UserError for what a new run would not use."""
        options = run_config(self.config, given, self.remembered)
        check_checkpoints(options, given)
        check_failure(self.config, options)
        if self.saved is None:
            check_evaluation(options, given)
        return options

    def forget_tensors(self) -> None:
        """Keep of a checkpoint what it says alone, once the state has its tensors."""
        self.transferred = None
        if self.saved is not None:
            said = ("version", "config", "data", "progress", "begun")
            kept = {name: value for name, value in self.saved.items() if name in said}
            self.saved = cast(Checkpoint, kept)

    @property
    def is_recorded(self) -> bool:
        """Whether the last step has all that follows it, of figures, samples and checkpoint."""
        return self.saved is None or self.saved.get("begun", {"is_recorded": True})["is_recorded"]

    @property
    def finished(self) -> str | None:
        """Say so if the run has all its steps, None if there is something to do."""
        step = self.saved["progress"]["step"] if self.saved else 0
        if step < self.config.steps or not self.is_recorded:
            return None
        asked = self.config.steps
        has = f"{step} of {asked} steps" if step == asked else f"{step} steps, more than {asked}"
        train = f"{launcher.words(launcher.process_count())}gan-mpi train"
        return (
            f"{self.run_dir} is finished: it has {has}. Train longer: "
            f"{train} --resume {shlex.quote(str(self.run_dir))} --steps {2 * step}"
        )


def find_start(given: Given, rollbacks: int = 0) -> Start:
    """Return how the options given start a run: anew, or from the newest checkpoint.

    `rollbacks` are those that the checkpoint may not know of yet.  Raises UserError if the options
    contradict it, or if there should be one and is none.
    """
    start = _find(given)
    if "outdir" in given and start.run_dir is not None:
        start.warnings.append("--outdir does nothing where the run directory is named")
    asks = start.config.precision in ("fp32", "tf32") and has_onednn()
    here = linear_library() if asks else MKL
    kept = here if start.saved is None else start.saved.get("kernels", {}).get("linear", MKL)
    return replace(
        start,
        rollbacks=max(rollbacks, _rollbacks_of(start)),
        linear=kept,
        linear_here=here,
        micro_batch=number_of(given, "micro_batch"),
        overlap=flag_of(given, "overlap"),
        graphs=flag_of(given, "graphs") or False,
        cuda_aware=flag_of(given, "cuda_aware") or False,
        explains=flag_of(given, "explain") or False,
        survives=(text_of(given, "on_failure") or "abort") != "abort",
    )


def _rollbacks_of(start: Start) -> int:
    """Return how often a run has gone back, as its checkpoint and its later starts say."""
    if start.saved is None or start.run_dir is None:
        return 0
    after = rollbacks_to(read_segments(start.run_dir), start.saved["progress"]["step"])
    return start.saved.get("rollbacks", 0) + after


def _find(given: Given) -> Start:
    resumed = text_of(given, "resume")
    named = resumed or text_of(given, "run_dir")
    run_dir = None if named is None else Path(named)
    if resumed and not Path(resumed).is_dir():
        raise UserError(f"--resume: {resumed} is not a run directory.", exit_code=2)
    if run_dir is None or not (resumed or rundir.list_checkpoints(run_dir)):
        return _new_start(given, run_dir)
    warnings: list[str] = []
    path, saved = checkpoint.newest_valid(run_dir, warnings.append)
    checkpoint.require_known(path, saved)
    checkpoint.require_known(path, saved, _needed(saved))
    before = DataRecord.from_dict(saved["data"])
    source = saved_source(before)
    if "datadir" in given or "glyphs" in given:
        datadir, glyphs = text_of(given, "datadir"), number_of(given, "glyphs")
        source = replace(source, datadir=datadir, glyphs=glyphs)
    source = replace(source, resolution=number_of(given, "resolution") or source.resolution)
    if (transfer := text_of(given, "transfer")) is not None:
        _check_transfer(Path(transfer), before.transfer, run_dir)
    config = resumed_config(config_from_dict(saved["config"]), given)
    check_sites(config, {**given, "datadir": source.datadir or ""})
    remembered = rundir.read_evaluation_options(run_dir)
    return Start(config, source, run_dir, saved, path, warnings=warnings, remembered=remembered)


def _needed(saved: Checkpoint) -> list[str]:
    """Return what a checkpoint must hold besides, by its settings."""
    config = config_from_dict(saved["config"])
    if config.average == "weights":
        return ["sites", "block_momentum", *(["G_ema"] if config.ema else [])]
    adaptive = is_adaptive(config.augment)
    optional = {"G_ema": config.ema, "replay": config.replay, "adaptation": adaptive}
    return ["G_optimizer", "D_optimizer", *(name for name, is_on in optional.items() if is_on)]


def saved_source(data: DataRecord) -> Source:
    """Return where the data of a checkpoint were read from, by its record of them."""
    return Source(data.datadir, data.glyphs, resolution=data.resolution)


def _check_transfer(asked: Path, before: str | None, run_dir: Path) -> None:
    """Refuse to go on as if a run had begun from another one than it did."""
    known = [] if before is None else [Path(before), Path(before).parent]
    if asked.resolve() not in [path.resolve() for path in known]:
        raise UserError(
            f"--transfer: {run_dir} goes on, and it began "
            f"{'with new networks' if before is None else f'from {before}'}, not from {asked}; "
            "leave the option out, or start a new run.",
            exit_code=2,
        )


def _new_start(given: Given, run_dir: Path | None) -> Start:
    config = new_config(given)
    datadir, glyphs = text_of(given, "datadir"), number_of(given, "glyphs")
    source = find_source(config.dataset, datadir, glyphs, RunConfig.glyphs)
    resolution = number_of(given, "resolution") or RunConfig.resolution
    start = Start(config, replace(source, resolution=resolution), run_dir)
    if (transfer := text_of(given, "transfer")) is not None:
        checkpoint_of_run = checkpoint.find_checkpoint(Path(transfer), None, start.warnings.append)
        start.transferred = Transfer(*checkpoint_of_run)
        checkpoint.require_known(*checkpoint_of_run)
        start.warnings += _check_learned(start.transferred, config)
    elif config.train != "both":
        idle = "discriminator" if config.train == "generator" else "generator"
        start.warnings.append(
            f"the {idle} is untrained and stays so; --transfer RUN brings one that is trained"
        )
    return start


def _check_learned(transferred: Transfer, config: TrainConfig) -> list[str]:
    """Return warnings of what networks of another run have learned otherwise.

    Raises UserError if it is the range of the images, in which both would be wrong at once.
    """
    before = config_from_dict(transferred.saved["config"])
    if before.range != config.range:
        raise UserError(
            f"--transfer: the networks of {transferred.path} know images in the range "
            f"{before.range}, and here it is {config.range}; give --range {before.range}.",
            exit_code=2,
        )
    return [
        f"--transfer: {flag(name)} is {getattr(config, name)} here, and the networks learned with "
        f"{getattr(before, name)}"
        for name in LEARNED_WITH
        if getattr(before, name) != getattr(config, name)
    ]


def describe_start(start: Start) -> dict[str, object]:
    """Return the resolved configuration, for people."""
    return {
        "config": asdict(start.config),
        "data": {k: v for k, v in asdict(start.source).items() if v is not None},
        "resumes": start.saved is not None,
    }
