"""How a run begins: its configuration and checkpoint, the data on every node, the two players."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from gan_mpi.config import RunConfig, TrainConfig
from gan_mpi.config.contradictions import check_sites
from gan_mpi.config.resolve import config_from_dict, new_config, resumed_config
from gan_mpi.datasets.dataset import Source
from gan_mpi.datasets.find import find_source
from gan_mpi.errors import UserError
from gan_mpi.runs import checkpoint
from gan_mpi.runs import directory as rundir


@dataclass
class Start:
    """What the options and the file system say of a run; found by root."""

    config: TrainConfig
    source: Source
    run_dir: Path | None = None
    saved: dict[str, Any] | None = None
    transferred: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)
    # Options of earlier starts, by parameter name.
    remembered: dict[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> str | None:
        """Say so if the run has all its steps, None if there is something to do."""
        step = self.saved["progress"]["step"] if self.saved else 0
        if step < self.config.steps:
            return None
        return (
            f"{self.run_dir} is finished: it has {step} of {self.config.steps} steps. Train "
            f"longer: gan-mpi train --resume {self.run_dir} --steps {2 * step}"
        )


def find_start(given: Mapping[str, Any]) -> Start:
    """Return how the options given start a run: anew, or from the newest checkpoint.

    Raises UserError if they contradict the checkpoint, or if there should be one and is none.
    """
    named = given.get("resume") or given.get("run_dir")
    run_dir = None if named is None else Path(named)
    if given.get("resume") and not Path(given["resume"]).is_dir():
        raise UserError(f"--resume: {given['resume']} is not a run directory.", exit_code=2)
    if run_dir is None or not (given.get("resume") or rundir.list_checkpoints(run_dir)):
        return _new_start(given, run_dir)
    warnings: list[str] = []
    _, saved = checkpoint.newest_valid(run_dir, warnings.append)
    source = saved_source(saved["data"])
    if "datadir" in given or "glyphs" in given:
        source = replace(source, datadir=given.get("datadir"), glyphs=given.get("glyphs"))
    if "resolution" in given:
        source = replace(source, resolution=given["resolution"])
    if "transfer" in given:
        _check_transfer(Path(given["transfer"]), saved["data"].get("transfer"), run_dir)
    config = resumed_config(config_from_dict(saved["config"]), given)
    check_sites(config, {**given, "datadir": source.datadir})
    before = rundir.read_evaluation_options(run_dir)
    return Start(config, source, run_dir, saved, warnings=warnings, remembered=before)


def saved_source(data: Mapping[str, Any]) -> Source:
    """Return where the data of a checkpoint were read from, by its record of them."""
    resolution = data.get("resolution", RunConfig.resolution)
    return Source(data["datadir"], data["glyphs"], resolution=resolution)


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


def _new_start(given: Mapping[str, Any], run_dir: Path | None) -> Start:
    config = new_config(given)
    source = find_source(
        config.dataset, given.get("datadir"), given.get("glyphs"), RunConfig.glyphs
    )
    resolution = given.get("resolution", RunConfig.resolution)
    source = replace(source, resolution=resolution)
    start = Start(config, source, run_dir)
    if "transfer" in given:
        path, start.transferred = checkpoint.find_checkpoint(
            Path(given["transfer"]), None, start.warnings.append
        )
        start.transferred["path"] = str(path)
    elif config.train != "both":
        idle = "discriminator" if config.train == "generator" else "generator"
        start.warnings.append(
            f"the {idle} is untrained and stays so; --transfer RUN brings one that is trained"
        )
    return start


def describe_start(start: Start) -> dict[str, Any]:
    """Return the resolved configuration, for people."""
    return {
        "config": asdict(start.config),
        "data": {k: v for k, v in asdict(start.source).items() if v is not None},
        "resumes": start.saved is not None,
    }
