"""Where the processes of a start were when they were last heard of, a small file each."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

PLACES = "ranks"  # a folder of the run directory, while ranks run, and after they were lost
END = "end.txt"  # in it, if a rank could say why they end


@dataclass(frozen=True)
class Place:
    """Where a process was.  It goes on moving as long as `moves` grows."""

    rank: int
    host: str
    process: int
    moves: int
    step: int
    player: str  # G, D, or empty before the first update
    update: int
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

    @property
    def progress(self) -> tuple[int, int]:
        """Return what is less for a rank that is behind."""
        return self.step, self.update


def write_place(folder: Path, place: Place) -> None:
    """Write where a process is.  Raises OSError."""
    (folder / str(place.rank)).write_text(json.dumps(asdict(place)) + "\n")


def read_place(folder: Path, rank: int) -> Place | None:
    """Return where a rank was, None if it has said nothing, or is about to say it."""
    try:
        said = json.loads((folder / str(rank)).read_text())
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


def end_of(run_dir: Path) -> str:
    """Say how a start ended that had no time to leave, "" if it did leave.

    That one rank was killed, of itself or by the launcher since another was, it cannot tell.
    """
    folder = run_dir / PLACES
    try:
        return (folder / END).read_text().strip()
    except OSError:
        places = read_places(folder)
    if not places:
        return ""
    behind, *_, ahead = sorted(places * 2, key=lambda place: place.progress)
    if behind.progress == ahead.progress:
        who = behind.who if len(places) == 1 else f"its {len(places)} ranks"
        return f"ended without a word: last heard of {who} in {behind.where}"
    return (
        f"ended without a word: last heard of {behind.who} in {behind.where}, and of {ahead.who} "
        f"in {ahead.where}"
    )
