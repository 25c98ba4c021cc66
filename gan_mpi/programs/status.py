"""How runs are doing, from their files alone: no torch, no MPI, from a login node."""

import time
from pathlib import Path
from typing import TypedDict, cast

from gan_mpi.runs import claim
from gan_mpi.runs.directory import (
    list_checkpoints,
    read_config,
    read_warnings,
)
from gan_mpi.runs.places import end_of, last_word
from gan_mpi.runs.segments import Segment, read_segments
from gan_mpi.runs.stats import StatsRecord, duration, figure_texts, figures_of, last_stats

SILENCE = 5  # times the usual time between records, or at least QUIET, mean that it hangs
QUIET = 120.0  # seconds
LOST = "lost: its process is gone"
WARNINGS = 3  # of log.txt, the last ones


class Status(TypedDict):
    """What is to be known of a run; figures that are not there yet are None."""

    run: str
    preset: str
    state: str
    silent_for: float | None  # seconds, if too many for a run that trains
    step: int
    steps: int
    epoch: float | None
    kimg: float | None
    images_per_second: float | None
    seconds_per_step: float | None
    seconds_left: float | None
    node_hours: float
    node_hours_to_go: float | None
    checkpoint_step: int | None
    checkpoint_age: float | None  # seconds
    figures: dict[str, float]
    warnings: list[str]
    segments: list[Segment]


def read_status(run_dir: Path) -> Status:
    """Return what is to be known of a run, by name; figures that are not there yet are None.

    Raises UserError if it is not a run directory.
    """
    config = read_config(run_dir)
    segments = read_segments(run_dir)
    records = last_stats(run_dir)
    last: StatsRecord = records[-1] if records else {}
    segment: Segment = segments[-1] if segments else {}
    checkpoints = list_checkpoints(run_dir)
    state = segment.get("state", "starting")
    if state in ("running", "starting"):
        state = _lost(run_dir) or state
    step = max(segment.get("last_step", 0), last.get("step", 0))
    left = None
    if state == "running" and last:
        left = (config["steps"] - step) * last["seconds_per_step"]
    to_go = None if left is None else left * len(segment["hosts"]) / 3600
    return {
        "run": str(run_dir),
        "preset": config["preset"],
        "state": state,
        "silent_for": _silence(records) if state == "running" else None,
        "step": step,
        "steps": config["steps"],
        "epoch": last.get("epoch"),
        "kimg": last.get("kimg"),
        "images_per_second": last.get("images_per_second"),
        "seconds_per_step": last.get("seconds_per_step"),
        "seconds_left": left,
        "node_hours": sum(each["node_hours"] for each in segments),
        "node_hours_to_go": to_go,
        "checkpoint_step": checkpoints[0][0] if checkpoints else None,
        "checkpoint_age": _age(checkpoints[0][1]) if checkpoints else None,
        "figures": {k: v for k, v in figures_of(last).items() if k.startswith(("loss_", "D_"))},
        "warnings": read_warnings(run_dir)[-WARNINGS:],
        "segments": segments,
    }


def _lost(run_dir: Path) -> str:
    """Say that a start that says that it runs does not, "" if it may."""
    if said := last_word(run_dir):
        return f"lost: it {said}"
    if not claim.is_left(run_dir):
        return ""
    ended = end_of(run_dir)
    return LOST + (f"; it {ended}" if ended else "")


def _silence(records: list[StatsRecord]) -> float | None:
    """Return the seconds since the last record if they are too many."""
    if not records:
        return None
    since = time.time() - records[-1]["time"]
    usual = records[-1]["time"] - records[0]["time"]
    return since if since > max(QUIET, SILENCE * usual) else None


def _age(path: Path) -> float:
    return max(0.0, time.time() - path.stat().st_mtime)


def page(status: Status) -> list[str]:
    """Return a status as lines for people."""
    rows = {"state": _state(status), "progress": _progress(status)}
    if status["images_per_second"]:
        speed = (
            f"{status['images_per_second']:.0f} img/s, {status['seconds_per_step']:.3g} s a step"
        )
        left = status["seconds_left"]
        rows["speed"] = speed + (f", {duration(left)} left" if left else "")
    rows["node-hours"] = f"{status['node_hours']:.2f} used"
    if status["node_hours_to_go"]:
        rows["node-hours"] += f", {status['node_hours_to_go']:.2f} to go"
    if status["checkpoint_age"] is not None:
        age = duration(status["checkpoint_age"])
        rows["checkpoint"] = f"step {status['checkpoint_step']}, {age} ago"
    if status["figures"]:
        rows["figures"] = "  ".join(figure_texts(cast(StatsRecord, status["figures"])))
    lines = [status["run"], *(f"  {name:11}{text}" for name, text in rows.items())]
    lines += [f"  {warning}" for warning in status["warnings"]]
    return lines + [f"  {_segment(segment)}" for segment in status["segments"]]


def _state(status: Status) -> str:
    silent = status["silent_for"]
    return status["state"] + (f", but silent for {duration(silent)}" if silent else "")


def _progress(status: Status) -> str:
    text = f"step {status['step']} of {status['steps']} ({status['step'] / status['steps']:.0%})"
    if status["epoch"] is not None:
        text += f", epoch {status['epoch']:.2f}, {status['kimg']:.1f} kimg"
    return text


def _segment(segment: Segment) -> str:
    where = f"{segment['ranks']} rank(s) on {len(segment['hosts'])} host(s)"
    last = segment["last_step"] or ""
    joules = segment.get("gpu_joules")
    energy = "" if joules is None else f"{joules / 3.6e6:.3g} kWh of GPUs  "
    return (
        f"{segment['date'][:16].replace('T', ' ')}  steps {segment['first_step']}-{last}  {where}  "
        f"{duration(segment['seconds'])}  {segment['node_hours']:.2f} node-hours  "
        f"{energy}{segment['state']}"
    )


def summary(statuses: list[Status]) -> list[str]:
    """Return a line a run."""
    names = [Path(status["run"]).name for status in statuses]
    width = max(map(len, names), default=0)
    return [
        f"{name:{width}}  {status['step']:>7}/{status['steps']:<7} "
        f"{status['step'] / status['steps']:4.0%}  {status['node_hours']:8.2f} node-hours  "
        f"{_state(status)}"
        for name, status in zip(names, statuses, strict=True)
    ]
