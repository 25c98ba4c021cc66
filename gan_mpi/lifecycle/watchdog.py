"""Ends a job in which nothing moves any more, and says which rank is behind."""

import faulthandler
import os
import platform
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import gan_mpi.mpi
from gan_mpi.clock import HERE
from gan_mpi.errors import UserError
from gan_mpi.lifecycle.outcome import report
from gan_mpi.mpi.comm import Communicator
from gan_mpi.mpi.survivors import is_of_others
from gan_mpi.mpi.world import abort, has_threads
from gan_mpi.runs.places import (
    END,
    Page,
    Place,
    folder_of,
    forget_places,
    read_place,
    read_places,
    verdict,
    write_place,
)

HUNG = 77  # exit code
JUDGES = 8  # ranks that look at all others while they wait for them
OFTEN, SELDOM = 0.25, 3.0  # seconds between looks of a few hundred ranks, at least and at most
TOLD = 200  # places that all ranks write in a second, at most
SUSPENDED = 5.0  # seconds at most by which a look is late if this process was suspended
GRACE = 1.0  # seconds for other ranks' stacks, beside a look
LAST_RESORT = 10.0  # seconds for a file system to answer, and for MPI to end this process
LONGEST = 200  # letters of an error that are told
MPI_FOLDER = str(Path(gan_mpi.mpi.__file__).parent)

T = TypeVar("T")


class Watchdog:
    """Threads of a rank that see it move, tell where it is, and end the job if it hangs.

    A rank moves when a phase of its clock begins or ends, when ranks have communicated, and with
    each piece of what takes long.  One that waits for others hangs if none of all has moved for a
    time; one that does something else, if it has not moved itself.  Then every rank that can writes
    its stacks, and the first of them says who is behind.  No MPI is called but to end the job.
    """

    def __init__(self, comm: Communicator, run_dir: Path, start: int, timeout: float) -> None:
        """Watch start number `start` of a run, and end it after `timeout` seconds without a move.

        0: do not watch.  Collective.
        """
        HERE.begin()
        self._rank, self._timeout = comm.rank, timeout
        self._folder = comm.on_root(lambda: _make_folder(run_dir, start, timeout))
        self._others = [rank for rank in range(comm.world_size) if rank != comm.rank]
        often = min(SELDOM, max(OFTEN, timeout / 60))
        self._pause = max(often, comm.world_size / TOLD)
        self.sees_all = bool(timeout) and self._sees_all(comm)
        self._judges = self.sees_all and comm.rank % max(1, comm.world_size // JUDGES) == 0
        self._others_moved = time.monotonic()
        self._stacks = self._folder / f"{self._rank}.stacks"
        self._hangs = self._folder / f"{self._rank}.hangs"
        self._reports = False
        self._is_asked = False  # by a rank that found that the job hangs
        self._done = threading.Event()
        self._page = Page(self._folder, comm.rank) if timeout else None
        tasks = (self._tell, self._watch) if timeout else ()
        self._threads = [threading.Thread(target=task, daemon=True) for task in tasks]

    def _sees_all(self, comm: Communicator) -> bool:
        """Return whether all ranks read what all write, as on one file system.  Collective."""
        with suppress(OSError):
            write_place(self._folder, self._place())
        comm.barrier()
        first = read_place(self._folder, 0), read_place(self._folder, comm.rank)
        return all(comm.allgather(None not in first))

    def __enter__(self) -> Self:
        if self._page is not None:
            HERE.show_in(self._page.memory)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        told = is_of_others(error) or getattr(error, "on_all_ranks", False)
        if error is not None and not told and self._threads:
            place = self._place()
            said = f"ended in {place.where} of {place.who}: {_say(error)}"
            within(GRACE, lambda: self._keep(said))
        self._done.set()
        for thread in self._threads:
            thread.join(GRACE)  # unless a file system keeps it
        HERE.show_in(None)
        if self._threads and not is_of_others(error):  # else where this rank was tells who it was
            within(GRACE, self._take_away)

    def _take_away(self) -> None:
        """Remove this rank's place; the last removes the folders, unless an end is told there."""
        if self._page is not None:
            self._page.remove()
        with suppress(OSError):
            (self._folder / str(self._rank)).unlink(missing_ok=True)
            self._folder.rmdir()
            self._folder.parent.rmdir()

    def _tell(self) -> None:
        """Write where this rank is, and look where others are, however long files take for it."""
        told, seen = -1, list[int]()
        while not self._done.is_set():
            moves = HERE.moves
            with suppress(OSError):
                if moves != told:
                    write_place(self._folder, self._place())
                elif self._judges and waits_for_others():
                    places = [read_place(self._folder, rank) for rank in self._others]
                    now = [-1 if place is None else place.moves for place in places]
                    if now != seen:
                        seen, self._others_moved = now, time.monotonic()
                if moves == told and self.sees_all:
                    self._is_asked = self._others_ask()
            told = moves
            self._done.wait(self._pause)

    def _place(self) -> Place:
        host, process = platform.node(), os.getpid()
        return Place(
            self._rank,
            host,
            process,
            HERE.moves,
            HERE.updates,
            HERE.step,
            HERE.player,
            HERE.update,
            HERE.phase,
            waits_for_others(),
        )

    def _watch(self) -> None:
        """Look whether this rank moves; end the job once nothing does."""
        moves, since = HERE.moves, time.monotonic()
        looked, suspended = since, min(SUSPENDED, self._timeout / 2)
        while not self._done.wait(self._pause):
            now = time.monotonic()
            if HERE.moves != moves or now - looked > self._pause + suspended:
                moves, since = HERE.moves, now
                self._others_moved = now
            waits, last = waits_for_others(), since
            if waits:  # for others, whose moves are told a look later and seen another later
                last = max(since, self._others_moved) + 2 * self._pause
            hangs = now - last >= self._timeout and (self._judges or not waits)
            if (hangs or self._is_asked) and HERE.moves == moves and not self._done.is_set():
                self._end(moves, hangs)
            looked = time.monotonic()

    def _end(self, moves: int, hangs: bool) -> None:
        """Write the stacks of this rank, say who is behind, and end the job.

        Not if it has moved meanwhile, or if all ranks that asked for it have.
        """
        patience, self._reports = self._pause * 2 + GRACE, True
        threading.Thread(target=lambda: self._write_stacks(hangs), daemon=True).start()
        time.sleep(patience)
        reported = within(GRACE, self._reported) or {self._rank}
        asked = hangs or within(GRACE, self._others_ask)
        if self._done.is_set() or HERE.moves != moves or not asked:  # it goes on, or has ended
            self._reports = self._is_asked = False
            within(GRACE, self._take_back)
            return
        if self._rank == min(reported):
            places = within(GRACE, lambda: read_places(self._folder)) or [self._place()]
            said = verdict(places, reported)
            within(GRACE, lambda: self._keep(f"hung: {said}"))
            within(GRACE, lambda: report(HUNG))
            sys.stderr.write(
                f"Error: {said}. Nothing moved for {self._timeout:g} s (--hang-timeout); what each "
                f"rank did is in {self._folder}. The last checkpoint is kept.\n"
            )
        else:  # the first may have found it later
            until = time.monotonic() + patience + LAST_RESORT
            while time.monotonic() < until and not within(GRACE, self._is_said):
                time.sleep(OFTEN)
        _end_process()

    def _is_said(self) -> bool:
        return (self._folder / END).exists()

    def _others_ask(self) -> bool:
        """Return whether a rank has found by itself that the job hangs."""
        return any(self._folder.glob("*.hangs"))

    def _take_back(self) -> None:
        self._stacks.unlink(missing_ok=True)
        self._hangs.unlink(missing_ok=True)

    def _write_stacks(self, hangs: bool) -> None:
        """Write where this rank is, and the stacks of its threads; a file system may block it.

        If it hangs, others are asked to do so too.
        """
        with suppress(OSError):
            if hangs:
                self._hangs.touch()
            place = self._place()
            write_place(self._folder, place)
            stack = sys._current_frames().get(threading.main_thread().ident or 0)
            aside = self._folder / f"{self._rank}.aside"
            with aside.open("w") as file:
                does = "waits" if place.waits else "is"
                file.write(f"{place.who} {does} in {place.where}\n\n")
                traceback.print_stack(stack, file=file)
                file.write("\nAll threads:\n")
                file.flush()
                faulthandler.dump_traceback(file)
            aside.rename(self._stacks)
            if not self._reports:  # any more
                self._take_back()

    def _keep(self, said: str) -> None:
        """Tell the next start, and `gan-mpi status`, why this one ends."""
        with suppress(OSError):
            (self._folder / END).write_text(f"{said}\n")

    def _reported(self) -> set[int]:
        """Return the ranks that have written their stacks."""
        return {int(path.stem) for path in self._folder.glob("*.stacks")}


def _make_folder(run_dir: Path, start: int, timeout: float) -> Path:
    """Return the folder of a start, made if there is a timeout; remove what older ones left."""
    folder = folder_of(run_dir, start)
    forget_places(run_dir)
    with suppress(OSError):
        if timeout:
            folder.mkdir(parents=True, exist_ok=True)
        else:
            folder.parent.rmdir()
    return folder


def _say(error: BaseException) -> str:
    """Return the kind and the first line of an error; what a UserError says is for users."""
    lines = str(error).strip().splitlines() or [""]
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return f"{kind}{lines[0][:LONGEST]}".rstrip(".: ")


def _end_process() -> None:
    """End all ranks with HUNG, and this process in any case."""
    # MPI_Abort may block, with Python's lock, which this thread of C's does without; and without a
    # link to its launcher MPICH's returns.
    faulthandler.dump_traceback_later(LAST_RESORT, exit=True, file=Path(os.devnull).open("w"))  # noqa: SIM115
    if has_threads():
        abort(HUNG)
    os._exit(HUNG)


def within(seconds: float, function: Callable[[], T]) -> T | None:
    """Return function(), None if it takes longer or the operating system refuses."""
    found: list[T] = []

    def find() -> None:
        with suppress(OSError):
            found.append(function())

    thread = threading.Thread(target=find, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else None


def waits_for_others() -> bool:
    """Return whether a thread of this process is in a call of MPI, as all are made in one room."""
    frames = sys._current_frames().values()
    return any(frame.f_code.co_filename.startswith(MPI_FOLDER) for frame in frames)
