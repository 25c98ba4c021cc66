"""The starts of a run, one line each in its segments.jsonl: where it ran, how far it got."""

from pathlib import Path
from typing import Any, TypedDict, cast

from gan_mpi.files import append_line, write_aside
from gan_mpi.runs.records import Amount, Count, Positive, read_records, to_line

SEGMENTS_FILE = "segments.jsonl"
ARITHMETIC = 2  # of this program: with another the same run has other last bits; 1 was 0.5's


class Segment(TypedDict, total=False):
    """A line of segments.jsonl."""

    id: Count  # the number of this start's claim on the run directory
    date: str  # ISO 8601, UTC
    first_step: Count
    ranks: Positive
    hosts: list[str]
    devices: list[str]
    threads: list[int]  # by rank
    processors: list[str]
    versions: dict[str, str]
    arithmetic: int
    micro_batch: int  # if shares went through the networks in parts
    pieces: bool  # if gradients were summed in pieces
    cuda_aware: bool  # if MPI summed them in memory of GPUs
    state: str  # starting, running, done, stopped and why, rolled back, or lost without a word
    last_step: Count
    images: Count  # of this start
    seconds: Amount  # since the process began
    seconds_to_start: Amount
    seconds_of_a_save: Amount
    node_hours: Amount
    gpu_joules: Amount  # of all GPUs of the ranks, up to the last checkpoint


ROLLED_BACK = "rolled back"  # a state
NEEDED = "date", "first_step", "ranks", "hosts", "devices", "versions"
# What a start has not said before its first status line.
UNENDED = ("starting", "running")
FRESH: Segment = {"state": "starting", "last_step": 0, "seconds": 0.0, "node_hours": 0.0}


def changes(before: Segment, now: Segment) -> list[str]:
    """Return what of a start is not as before, if the result is then another in its last bits.

    The MPI library decides the order of a sum from three ranks on.
    """
    found = []
    if before["ranks"] != now["ranks"]:
        found.append(f"ranks ({now['ranks']}, before {before['ranks']})")
    elif before.get("threads", now["threads"]) != now["threads"]:
        found.append("threads")
    kinds = [{name.partition(":")[0] for name in each["devices"]} for each in (before, now)]
    if kinds[0] != kinds[1]:
        found.append(f"device ({', '.join(now['devices'])})")
    if before.get("processors", now["processors"]) != now["processors"]:
        found.append(f"processor ({', '.join(now['processors'])})")
    ways = [each.get("arithmetic", 1) for each in (before, now)]
    if ways[0] != ways[1]:
        found.append(f"arithmetic of gan-mpi ({ways[1]}, before {ways[0]})")
    if before.get("micro_batch") != now.get("micro_batch"):
        found.append(f"--micro-batch ({now.get('micro_batch', 'all')} at once)")
    if now["ranks"] > 2 and _sums(before) != _sums(now):
        found.append(f"sums of gradients ({_sums(now)})")
    libraries = [name for name in ("torch", "numpy") if now["versions"].get(name)]
    libraries += ["mpi"] if now["ranks"] > 2 else []
    old = before.get("versions", {})
    return found + [
        f"{name} ({now['versions'][name]}, before {old[name]})"
        for name in libraries
        if old.get(name, now["versions"][name]) != now["versions"][name]
    ]


def _sums(segment: Segment) -> str:
    """Say how a start summed gradients."""
    where = ", on GPUs" if segment.get("cuda_aware") else ""
    return f"in {'pieces' if segment.get('pieces') else 'one'}{where}"


def append_segment(run_dir: Path, about: Segment) -> None:
    """Add the line of a new start, which holds the run: older ones that run are lost.

    Raises UserError.
    """
    before = read_records(run_dir / SEGMENTS_FILE, Segment, NEEDED)
    if any(each.get("state", "starting") in UNENDED for each in before):
        for each in before:
            if each.get("state", "starting") in UNENDED:
                each["state"] = "lost"
        _write(run_dir, before)
    append_line(run_dir / SEGMENTS_FILE, to_line(about))


def read_segments(run_dir: Path) -> list[Segment]:
    """Return the starts of a run, the first one first.  Raises UserError."""
    lines = read_records(run_dir / SEGMENTS_FILE, Segment, NEEDED)
    return [cast(Segment, {**FRESH, **each}) for each in lines]


def rollbacks_to(segments: list[Segment], step: int) -> int:
    """Return how many starts went back to the checkpoint of a step, which knows nothing of it."""
    began = [each["first_step"] for each in segments[1:]] + [step + 1]
    pairs = zip(segments, began, strict=True) if segments else ()
    return sum(each.get("state") == ROLLED_BACK and first == step + 1 for each, first in pairs)


def update_segment(run_dir: Path, number: int, **figures: Any) -> None:
    """Change what the line of a start says, by its id.  Raises UserError."""
    segments = read_records(run_dir / SEGMENTS_FILE, Segment, NEEDED)
    changed = [{**each, **figures} if each.get("id") == number else each for each in segments]
    _write(run_dir, cast(list[Segment], changed))


def _write(run_dir: Path, segments: list[Segment]) -> None:
    lines = [to_line(about) + "\n" for about in segments]
    write_aside(run_dir / SEGMENTS_FILE, "".join(lines).encode())
