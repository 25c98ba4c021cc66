"""Ends a job in which nothing moves any more, and says which rank is behind."""

import faulthandler
import os
import platform
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import gan_mpi.mpi
from gan_mpi.clock import HERE
from gan_mpi.mpi.comm import Communicator
from gan_mpi.mpi.world import abort
from gan_mpi.runs.places import END, PLACES, Place, read_place, read_places, write_place

HUNG = 77  # exit code
JUDGES = 8  # ranks that look at all others while they wait for them
OFTEN, SELDOM = 0.25, 1.5  # seconds between looks of a few hundred ranks, at least and at most
TOLD = 200  # places that all ranks write in a second, at most
SUSPENDED = 5.0  # seconds by which a look is late if this process was suspended
GRACE = 1.0  # seconds for other ranks' stacks, beside a look
LAST_RESORT = 10.0  # seconds for MPI to end this process
MPI_FOLDER = str(Path(gan_mpi.mpi.__file__).parent)


class Watchdog:
    """Threads of a rank that see it move, tell where it is, and end the job if it hangs.

    A rank moves when a phase of its clock begins or ends, and with each piece of what takes long.
    One that waits for others hangs if none of all has moved for a time; one that does something
    else, if it has not moved itself.  Then every rank that can writes its stacks, and the first of
    them says who is behind.  No MPI is called but to end the job.
    """

    def __init__(self, comm: Communicator, run_dir: Path, timeout: float) -> None:
        """Watch for `timeout` seconds without a move; 0: do not watch.  Collective."""
        self._folder = run_dir / PLACES
        self._rank, self._timeout = comm.rank, timeout
        self._others = [rank for rank in range(comm.world_size) if rank != comm.rank]
        often = min(SELDOM, max(OFTEN, timeout / 20))
        self._pause = max(often, comm.world_size / TOLD)
        self._seen: list[int] = []  # moves of the others
        self._done = threading.Event()
        tasks = (self._tell, self._watch) if timeout else ()
        self._threads = [threading.Thread(target=task, daemon=True) for task in tasks]
        if timeout:
            comm.on_root(self._prepare)

    def _prepare(self) -> None:
        """Make the folder, without what an older start has left there."""
        with suppress(OSError):
            self._folder.mkdir(exist_ok=True)
            for path in self._folder.iterdir():
                path.unlink()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(SELDOM)  # unless a file system keeps it
        if error is not None and not getattr(error, "on_all_ranks", False) and self._threads:
            place, said = self._place(), "".join(traceback.format_exception_only(error)).strip()
            self._keep(f"ended in {place.where} of {place.who}: {said}")
        with suppress(OSError):
            (self._folder / str(self._rank)).unlink(missing_ok=True)
            self._folder.rmdir()  # by the last

    def _tell(self) -> None:
        """Write where this rank is, as often as it has moved."""
        told = -1
        while not self._done.is_set():
            if HERE.moves != told:
                told = HERE.moves
                with suppress(OSError):
                    write_place(self._folder, self._place())
            self._done.wait(self._pause)

    def _place(self) -> Place:
        at = HERE.step, HERE.player, HERE.update, HERE.phase
        return Place(
            self._rank, platform.node(), os.getpid(), HERE.moves, *at, waits=waits_for_others()
        )

    def _watch(self) -> None:
        """Look whether this rank moves; end the job once nothing does."""
        moves = HERE.moves
        since = looked = time.monotonic()
        while not self._done.wait(self._pause):
            now = time.monotonic()
            if HERE.moves != moves or now - looked > self._pause + SUSPENDED:
                moves, since = HERE.moves, now
            elif waits_for_others() and self._others_move():
                since = now
            idle, looked = now - since, now
            if idle >= self._timeout or (HERE.moves == moves and self._others_end()):
                self._end()

    def _others_move(self) -> bool:
        """Return whether another rank has moved since this was asked last.

        The first ranks judge for all: to others it is as if somebody moved.
        """
        if self._rank >= JUDGES:
            return True
        places = [read_place(self._folder, rank) for rank in self._others]
        seen = [-1 if place is None else place.moves for place in places]
        moved, self._seen = seen != self._seen, seen
        return moved

    def _others_end(self) -> bool:
        """Return whether another rank found that the job hangs."""
        return any(self._folder.glob("*.stacks"))

    def _end(self) -> None:
        """Write the stacks of this rank, say who is behind, and end the job."""
        writer = threading.Thread(target=self._write_stacks, daemon=True)
        writer.start()
        time.sleep(self._pause + GRACE)
        reported = self._reported()
        last_resort = threading.Timer(LAST_RESORT, os._exit, [HUNG])
        last_resort.daemon = True
        last_resort.start()
        if self._rank == min(reported, default=self._rank):
            said = verdict(read_places(self._folder), reported)
            threading.Thread(target=self._keep, args=(f"hung: {said}",), daemon=True).start()
            sys.stderr.write(
                f"Error: {said}. Nothing moved for {self._timeout:g} s (--hang-timeout); what each "
                f"rank did is in {self._folder}. The last checkpoint is kept.\n"
            )
        else:
            time.sleep(GRACE)
        abort(HUNG)

    def _write_stacks(self) -> None:
        """Write where this rank is, and the stacks of its threads; a file system may block it."""
        with suppress(OSError):
            place = self._place()
            write_place(self._folder, place)
            with (self._folder / f"{self._rank}.stacks").open("w") as file:
                does = "waits" if place.waits else "is"
                stack = sys._current_frames()[threading.main_thread().ident or 0]
                file.write(f"{place.who} {does} in {place.where}\n\n")
                traceback.print_stack(stack, file=file)
                file.write("\nAll threads:\n")
                file.flush()
                faulthandler.dump_traceback(file)

    def _keep(self, said: str) -> None:
        """Tell the next start, and `gan-mpi status`, why this one ends."""
        with suppress(OSError):
            (self._folder / END).write_text(f"{said}\n")

    def _reported(self) -> set[int]:
        """Return the ranks that have written their stacks."""
        with suppress(OSError):
            return {int(path.stem) for path in self._folder.glob("*.stacks")}
        return set()


def waits_for_others() -> bool:
    """Return whether a thread of this process is in a call of MPI, as all are made in one room."""
    frames = sys._current_frames().values()
    return any(frame.f_code.co_filename.startswith(MPI_FOLDER) for frame in frames)


def verdict(places: Sequence[Place], reported: set[int]) -> str:
    """Say which rank is behind, by where each was last, and which could still report that."""
    if not places:
        return "a rank hangs, and none could say where it is"
    in_order = sorted(places, key=lambda place: place.progress)
    if silent := [place for place in in_order if place.rank not in reported]:
        return (
            f"{_names(silent)} does not answer: it is suspended, or its node or its file system "
            f"hangs; last heard of in {silent[0].where}"
        )
    if busy := [place for place in in_order if not place.waits]:
        return f"{_names(busy)} does not come out of {busy[0].where}"
    first, last = in_order[0], in_order[-1]
    if first.progress < last.progress:
        return f"{first.who} waits in {first.where}, and {last.who} in {last.where}"
    hosts = sorted({place.host for place in places})
    between = f"; the network between {' and '.join(hosts[:2])} may be down" if hosts[1:] else ""
    return f"all ranks wait for each other in {first.where}{between}"


def _names(places: Sequence[Place]) -> str:
    more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
    return f"{places[0].who}{more}"
