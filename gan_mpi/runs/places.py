"""Where the processes of a start were when they were last heard of.

A process writes that into a small file every few seconds, and with each change into a page of its
node's shared memory, which stays there when the process is killed, as long as the node is up.
"""

import hashlib
import json
import mmap
import os
import platform
import shutil
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from gan_mpi.clock import RECORD

PLACES = "ranks"  # a folder of the run directory, while ranks run, and after they were lost
END = "end.txt"  # beside the places of a start, if a rank could say why it ends
NODE = Path("/dev/shm")
PAGES, DIGITS = "gan-mpi-", 16  # how their names begin, and digits of a run directory's digest
PAGES_OF_A_RUN = len(PAGES) + DIGITS
WAITING = "communication", "batch_norm_sums"  # phases in which a rank waits for others
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


class Page:
    """The page of a rank, as a file that lies in memory; None of it if there is no room."""

    def __init__(self, folder: Path, rank: int) -> None:
        """Make that of a start's folder, and remove what older starts of the run left here."""
        self.memory: mmap.mmap | None = None
        self.path = _page_of(folder, rank)
        this_start = self.path.name.removesuffix(f"{rank}")
        with suppress(OSError):
            for path in NODE.glob(f"{this_start[:PAGES_OF_A_RUN]}-*"):
                if not path.name.startswith(this_start):
                    path.unlink(missing_ok=True)
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.pwrite(file, bytes(mmap.PAGESIZE), 0)  # so that there is room for it
                self.memory = mmap.mmap(file, mmap.PAGESIZE)
            finally:
                os.close(file)
        except OSError:
            self.remove()

    def remove(self) -> None:
        """Take it away; what is written into it after that is lost."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def _page_of(folder: Path, rank: int) -> Path:
    """Return the file of a rank's page, by the names of the run directory and the start."""
    run = hashlib.sha256(str(folder.parent.resolve()).encode()).hexdigest()[:DIGITS]
    return NODE / f"{PAGES}{run}-{folder.name}-{rank}"


def by_page(folder: Path, place: Place) -> Place:
    """Return where a rank was by its page if that is here and says more, else as it is."""
    try:
        page = _page_of(folder, place.rank).read_bytes()
        process, moves, updates, step, update, player, phase = RECORD.unpack(page[: RECORD.size])
        player, phase = player.strip(b"\0").decode(), phase.strip(b"\0").decode()
    except (OSError, ValueError, struct.error):
        return place
    if (platform.node(), process) != (place.host, place.process) or moves <= place.moves:
        return place
    waits = phase in WAITING
    return Place(
        place.rank, place.host, process, moves, updates, step, player, update, phase, waits
    )


def verdict(places: Sequence[Place], reported: set[int]) -> str:
    """Say which rank is behind, by where each was last, and which could still report that."""
    silent = [place for place in places if place.rank not in reported]
    busy = [place for place in places if place.rank in reported and not place.waits]
    if suspects := [*busy, *silent]:
        suspect = min(suspects, key=lambda place: place.updates)  # of equals one that is busy
        if suspect in busy:
            return f"{_names(suspect, busy)} does not move on from {suspect.where}"
        return (
            f"{_names(suspect, silent)} does not answer: it is suspended, or its node or its file "
            f"system hangs; last heard of in {suspect.where}"
        )
    in_order = sorted(places, key=lambda place: place.updates)
    first, last = in_order[0], in_order[-1]
    if first.updates < last.updates:
        return f"{first.who} waits in {first.where}, and {last.who} in {last.where}"
    hosts = sorted({place.host for place in places})
    between = f"; the network between {' and '.join(hosts[:2])} may be down" if hosts[1:] else ""
    return f"all ranks wait for each other in {first.where}{between}"


def _names(place: Place, others: Sequence[Place]) -> str:
    more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
    return f"{place.who}{more}"


def last_word(run_dir: Path) -> str:
    """Return why the last start ended, if a rank could say it, "" else."""
    for folder in places_in(run_dir)[-1:]:
        try:
            return (folder / END).read_text().strip()
        except OSError:
            pass
    return ""


def forget_places(run_dir: Path) -> None:
    """Remove the places of all starts."""
    for folder in places_in(run_dir):
        shutil.rmtree(folder, ignore_errors=True)


def last_seen(run_dir: Path, ranks: Sequence[int]) -> str:
    """Name ranks of the last start, and say where they were last heard of, if that is known."""
    said = []
    folder = (places_in(run_dir) or [folder_of(run_dir, 0)])[-1]
    for rank in ranks:
        place = read_place(folder, rank)
        where = f", last heard of in {by_page(folder, place).where}," if place else ""
        said.append(f"{place.who if place else f'rank {rank}'}{where}")
    return " and ".join(said)


def end_of(run_dir: Path) -> str:
    """Say how the last start ended, if it could not leave, "" if it could.

    Of a start that was killed it says where its ranks were last heard of: who was killed first is
    behind the others, which then wait for it.
    """
    if said := last_word(run_dir):
        return said
    last = places_in(run_dir)[-1:]
    places = [by_page(folder, place) for folder in last for place in read_places(folder)]
    if not places:
        return ""
    in_order = sorted(places, key=lambda place: (place.updates, place.phase in WAITING))
    behind, ahead = in_order[0], in_order[-1]
    if len({place.where for place in places}) == 1:
        who = behind.who if len(places) == 1 else f"its {len(places)} ranks"
        return f"ended without a word: last heard of {who} in {behind.where}"
    return (
        f"ended without a word: last heard of {behind.who} in {behind.where}, and of {ahead.who} "
        f"in {ahead.where}"
    )
