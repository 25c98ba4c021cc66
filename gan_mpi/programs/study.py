"""A grid of settings, each trained and evaluated, and what it comes to: quality against time."""

import itertools
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from gan_mpi.bench.report import lines_of
from gan_mpi.bench.report import table as scaling_table
from gan_mpi.bench.steps import Timing
from gan_mpi.cluster.deadline import End
from gan_mpi.config.given import Given, OptionValue
from gan_mpi.config.resolve import new_config
from gan_mpi.config.training import TrainConfig
from gan_mpi.drawing.charts import Result, draw_study
from gan_mpi.errors import DIVERGED, UserError, reason
from gan_mpi.files import write_aside
from gan_mpi.lifecycle.phases import Phases
from gan_mpi.lifecycle.stopping import NoRoom, StopRequest
from gan_mpi.mpi.comm import Communicator
from gan_mpi.programs.train import STOPPED, train
from gan_mpi.runs.directory import list_checkpoints
from gan_mpi.runs.evaluations import FEWEST, by_name, comparable, conditions, read_evaluations
from gan_mpi.runs.log import say
from gan_mpi.runs.segments import read_segments
from gan_mpi.runs.stats import duration, read_stats

RANKS = "ranks"  # the one name that is no option of train
EVALUATIONS = 5  # of each run, unless --evaluate-every says otherwise
# The figures that a study can be about, and whether more is better.
METRICS = {
    "frechet": False,
    "kernel": False,
    "precision": True,
    "recall": True,
    "density": True,
    "coverage": True,
    "score": True,
}


@dataclass(frozen=True)
class Setting:
    """One point of the grid: a value for each option that is varied, and the ranks."""

    values: dict[str, str]
    ranks: int

    @property
    def name(self) -> str:
        """What its run directory is called."""
        return "-".join(f"{name}{value}" for name, value in self.values.items())

    def arguments(self) -> list[str]:
        """Return the values as train's command line has them."""
        varied = {name: value for name, value in self.values.items() if name != RANKS}
        return [word for name, value in varied.items() for word in (f"--{name}", value)]


def settings(varied: Mapping[str, Sequence[str]], world_size: int) -> list[Setting]:
    """Return all combinations.  Raises UserError if one wants more ranks than there are."""
    combinations = []
    for chosen in itertools.product(*varied.values()):
        values = dict(zip(varied, chosen, strict=True))
        ranks = values.get(RANKS, str(world_size))
        if not ranks.isdecimal() or not 1 <= int(ranks) <= world_size:
            raise UserError(
                f"--vary: ranks={ranks}, but mpiexec started {world_size}; give 1 to {world_size}, "
                "or start more.",
                exit_code=2,
            )
        combinations.append(Setting(values, int(ranks)))
    return combinations


def study(
    comm: Communicator,
    folder: Path,
    varied: Mapping[str, Sequence[str]],
    parse: Callable[[list[str]], Given],
    metric: str,
    only: int | None,
    stop: StopRequest,
    end: End | None,
) -> int:
    """Train every setting in a folder, then draw and print what there is; return the exit code.

    `parse` turns a setting's part of train's command line into all options of its run.  With `only`
    it is that setting alone, counted from 1.  Runs that are done are not done again.  `end` is when
    the job ends.  Raises UserError.  Collective.
    """
    grid = comm.alike(lambda: settings(varied, comm.world_size))
    comm.alike(lambda: _require_number(only, len(grid)))
    plans = {setting.name: _options(folder, setting, parse) for setting in grid}
    chosen = grid if only is None else [grid[only - 1]]
    comm.on_root(lambda: _make(folder))
    _say(comm, _what_it_takes([plans[setting.name] for setting in chosen]))
    has_trained = False
    for number, setting in enumerate(chosen, 1):
        _say(comm, f"{number}/{len(chosen)}: {setting.name} on {setting.ranks} rank(s)")
        step = partial(_step, folder / setting.name)
        before = comm.on_root(step)
        try:
            code = _run(comm, setting, plans[setting.name], stop, end)
        except NoRoom:
            if not has_trained:
                raise
            code = STOPPED  # there is room in a job of its own, as there was in this one
        goes_on = number < len(chosen)
        if code == STOPPED or (goes_on and any(comm.allgather(stop.requested))):
            _say(comm, "stopped early; the same command goes on")
            return STOPPED
        has_trained |= comm.on_root(step) > before
    comm.on_root(lambda: _summarise(folder, [each.name for each in grid], metric))
    comm.on_root(lambda: _say_scaling(folder, grid, plans))
    return 0


def _step(run_dir: Path) -> int:
    """Return the step of the newest checkpoint, 0 if there is none."""
    return max((step for step, _ in list_checkpoints(run_dir)), default=0)


def _what_it_takes(plans: Sequence[Given]) -> str:
    configs = [new_config(plan) for plan in plans]
    kimg = sum(config.steps * config.images_per_step for config in configs) / 1000
    steps = sorted({config.steps for config in configs})
    each = f"{steps[0]}" if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"
    runs = f"{len(plans)} run(s) of {each} steps, {kimg:.0f} thousand real images in all"
    return f"{runs}; --kimg or --steps after -- gives another length"


def _options(folder: Path, setting: Setting, parse: Callable[[list[str]], Given]) -> Given:
    given: dict[str, OptionValue] = dict(parse(setting.arguments()))
    given |= {"run_dir": str(folder / setting.name), "quiet": True}
    given.setdefault("evaluate_every", -(-new_config(given).steps // EVALUATIONS))
    return given


def _run(
    comm: Communicator,
    setting: Setting,
    given: Given,
    stop: StopRequest,
    end: End | None,
) -> int:
    """Train a setting on the first ranks; the others wait.  A setting that diverges is noted."""
    part = comm.first_ranks(setting.ranks)
    code, error = 0, None
    if part is not None:
        try:
            code = train(part, given, stop, Phases(time.time()), end)
        except UserError as found:
            if not found.on_all_ranks:
                raise  # the others are in the middle of something: the job ends
            code, error = found.exit_code, found
    stop.forget_collapse()
    comm.barrier()
    code, error = comm.broadcast((code, error))
    if error is not None and code != DIVERGED:
        comm.raise_alike(error)
    if error is not None:
        _say(comm, f"{setting.name}: {error}")
    return code


def _require_number(only: int | None, settings: int) -> None:
    if only is not None and only > settings:
        raise UserError(f"--only: {only}, but there are {settings} settings.", exit_code=2)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--dir: cannot make {folder}: {reason(error)}.") from None


def _say(comm: Communicator, text: str) -> None:
    if comm.is_root:
        say(text)
        sys.stdout.flush()


def read_result(run_dir: Path, metric: str) -> Result | None:
    """Return what came of a run: its figures over the seconds of training; None if nothing yet."""
    records, evaluations = read_stats(run_dir), comparable(read_evaluations(run_dir))
    if not records or not evaluations or metric not in evaluations[-1]["figures"]:
        return None
    steps = [0, *(record["step"] for record in records)]
    spent = np.diff(steps) * [record["seconds_per_step"] for record in records]
    at = [each["step"] for each in evaluations]
    figures = [by_name(each["figures"])[metric] for each in evaluations]
    best = int(np.argmax(figures) if METRICS[metric] else np.argmin(figures))
    return {
        "setting": run_dir.name,
        "step": records[-1]["step"],
        "kimg": records[-1]["kimg"],
        "seconds": float(spent.sum()),
        "steps": at,
        "seconds_at": np.interp(at, steps, [0.0, *np.cumsum(spent)]).tolist(),
        "figures": figures,
        "floor": by_name(evaluations[-1]["floor"]).get(metric),
        "best": best,
        "conditions": list(conditions(evaluations[-1])),
    }


def _summarise(folder: Path, names: Sequence[str], metric: str) -> None:
    """Write study.json and study.png, and print the table of the settings that have figures."""
    results = [read_result(folder / name, metric) for name in names]
    done = [result for result in results if result is not None]
    if len({tuple(result["conditions"]) for result in done}) > 1:
        raise UserError(
            f"the runs in {folder} were evaluated by different classifiers, or on other data, and "
            "do not compare; start the study anew in another --dir."
        )
    write_aside(folder / "study.json", (json.dumps(done, indent=1) + "\n").encode())
    for line in table(done, metric):
        say(line)
    if done:
        facts = {"study": folder.name, "extractor": done[0]["conditions"][1]}
        write_aside(folder / "study.png", draw_study(done, metric, facts))
        say(f"{folder / 'study.png'}: {metric} against time")


def _say_scaling(folder: Path, grid: Sequence[Setting], plans: Mapping[str, Given]) -> None:
    """Print what more ranks give, as bench does, of settings that differ in nothing else."""
    alike: dict[str, list[Timing]] = {}
    for setting in grid:
        timing = read_timing(folder / setting.name, new_config(plans[setting.name]))
        if timing is not None:
            others = {name: value for name, value in setting.values.items() if name != RANKS}
            alike.setdefault(Setting(others, setting.ranks).name, []).append(timing)
    for name, timings in alike.items():
        if len(timings) > 1:
            lines = lines_of("strong", timings)
            threads = ", ".join(str(line.steps.threads) for line in lines)
            about = [
                "steps while they trained, the median of status lines",
                name,
                f"threads a rank {threads}",
            ]
            say("\n" + ", ".join(filter(None, about)) + ":")
            for line in scaling_table(lines):
                say(line)


def read_timing(run_dir: Path, config: TrainConfig) -> Timing | None:
    """Return how long steps of a run's last start were, the mean over each status line.

    None if there is nothing yet.
    """
    records = read_stats(run_dir)
    starts = [each for each in read_segments(run_dir) if each["last_step"] >= each["first_step"]]
    if not records or not starts:
        return None
    last, trained = records[-1], starts[-1]
    of_it = [record for record in records if record["step"] >= trained["first_step"]]
    return Timing(
        ranks=trained["ranks"],
        nodes=len(trained["hosts"]),
        threads=max(trained.get("threads", [1])),
        batch=config.batch,
        images=last["images_per_second"] * last["seconds_per_step"] or config.images_counted,
        seconds=[record["seconds_per_step"] for record in of_it or [last]],
    )


def table(results: Sequence[Result], metric: str) -> list[str]:
    """Return the results as lines, the best setting first."""
    width = max((len(result["setting"]) for result in results), default=7)
    speed = f"{'kimg':>8}  {'time':>8}  {'img/s':>8}"
    best_of = f"{'best ' + metric:>14}  {'at step':>8}  {'after':>8}"
    lines = [f"{'setting':{width}}  {speed}  {best_of}  {'last':>9}"]
    sign = -1 if METRICS[metric] else 1
    for result in sorted(results, key=lambda r: sign * r["figures"][r["best"]]):
        best = result["best"]
        lines.append(
            f"{result['setting']:{width}}  {result['kimg']:8.1f}  {duration(result['seconds']):>8} "
            f" {1000 * result['kimg'] / result['seconds']:8.0f}  {result['figures'][best]:14.4f}  "
            f"{result['steps'][best]:8d}  {duration(result['seconds_at'][best]):>8}  "
            f"{result['figures'][-1]:9.4f}"
        )
    if not results:
        wants = (
            f", which wants {FEWEST} images or more; see --metric" if metric == "frechet" else ""
        )
        return [*lines, f"nothing with a figure of {metric} is done yet{wants}"]
    floor = results[0]["floor"]
    return lines if floor is None else [*lines, f"floor {floor:.4f}"]
