"""Where the processes of a start were when they were last heard of, a small file each."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

PLACES = "ranks"  # a folder of the run directory, while ranks run, and after they were lost
END = "end.txt"  # beside the places of a start, if a rank could say why it ends
SIZE = 512  # bytes of a place, which is written over without asking for room


@dataclass(frozen=True)
class Place:
    """Where a process was.  It goes on moving as long as `moves` grows."""

    rank: int
    host: str
    process: int
    moves: int
    updates: int  # of both players that have begun in this start
    step: int
    player: str  # G, D, or empty before the first update
    update: int  # of that player, in the run
    phase: str  # of its clock, empty between phases
    waits: bool  # for other ranks

    @property
    def who(self) -> str:
        """Name the rank."""
        return f"rank {self.rank} on {self.host} (process {self.process})"

    @property
    def where(self) -> str:
        """Say what it does."""
        phase = self.phase.replace("_", " ")
        if not self.player:
            return phase or "its start"
        update = f"{self.player} update {self.update} (step {self.step})"
        return f"{phase} of {update}" if phase else update


def folder_of(run_dir: Path, start: int) -> Path:
    """Return the folder of a start, by the number of its claim on the run directory."""
    return run_dir / PLACES / f"{start:06d}"


def places_in(run_dir: Path) -> list[Path]:
    """Return the folders of starts that left one, the oldest first."""
    try:
        return sorted(path for path in (run_dir / PLACES).iterdir() if path.name.isdecimal())
    except OSError:
        return []


def write_place(folder: Path, place: Place) -> None:
    """Write where a process is.  Raises OSError."""
    text = json.dumps(asdict(place)).encode().ljust(SIZE)
    file = os.open(folder / str(place.rank), os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        os.pwrite(file, text, 0)
    finally:
        os.close(file)


def read_place(folder: Path, rank: int) -> Place | None:
    """Return where a rank was, None if it has said nothing, or is about to say it."""
    try:
        said = json.loads((folder / str(rank)).read_bytes())
        return Place(**{name: kind(said[name]) for name, kind in Place.__annotations__.items()})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_places(folder: Path) -> list[Place]:
    """Return where the ranks were that have said it, in their order."""
    try:
        ranks = sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
    except OSError:
        return []
    return [place for rank in ranks if (place := read_place(folder, rank)) is not None]


def last_word(run_dir: Path) -> str:
    """Return why the last start ended, if a rank could say it, "" else."""
    for folder in places_in(run_dir)[-1:]:
        try:
            return (folder / END).read_text().strip()
        except OSError:
            pass
    return ""


def end_of(run_dir: Path) -> str:
    """Say how the last start ended, if it could not leave, "" if it could.

    Of a start that was killed it says where its ranks were last heard of.
    """
    if said := last_word(run_dir):
        return said
    places = [place for folder in places_in(run_dir)[-1:] for place in read_places(folder)]
    if not places:
        return ""
    in_order = sorted(places, key=lambda place: place.updates)
    behind, ahead = in_order[0], in_order[-1]
    if len({place.where for place in places}) == 1:
        who = behind.who if len(places) == 1 else f"its {len(places)} ranks"
        return f"ended without a word: last heard of {who} in {behind.where}"
    return (
        f"ended without a word: last heard of {behind.who} in {behind.where}, and of {ahead.who} "
        f"in {ahead.where}"
    )
