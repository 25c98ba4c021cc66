"""What ranks find out together: a shared folder, sums and how fast, clocks, signals."""

import os
import platform
import secrets
import signal
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gan_mpi.errors import reason
from gan_mpi.mpi import launcher
from gan_mpi.mpi.comm import Communicator, free_bytes

SIZES = (8, 8 << 10, 1 << 20, 16 << 20)  # bytes
SECONDS_A_SIZE = 0.1
PATIENCE = 2.0  # seconds for a file or a signal to arrive
CLOCK_ROUNDS = 5
LAUNCHERS = ("mpiexec", "mpiexec.hydra", "mpirun", "prterun", "srun")


def probe_folder(comm: Communicator, run_dir: Path) -> list[str]:
    """Say what is wrong with the place of a run directory, seen from every node.  Collective.

    Root writes a file in the nearest folder that exists; a rank of each other node must read it
    and answer with one of its own.
    """
    folder = next(path for path in (run_dir, *run_dir.absolute().parents) if path.is_dir())
    token = comm.broadcast(secrets.token_hex(8))
    folder = Path(comm.broadcast(str(folder.absolute())))
    mine = folder / f".doctor-{token}-{comm.rank}"
    wrong = comm.broadcast(_try_to_write(mine) if comm.is_root else "")
    if wrong:
        return [f"--run-dir: rank 0 on {platform.node()} cannot write in {folder}: {wrong}"]
    finding = ""
    speaks = comm.local_rank == 0 and not comm.is_root
    if speaks and not _appears(folder / f".doctor-{token}-0"):
        finding = (
            f"--run-dir: {platform.node()} does not see what rank 0 writes in {folder}; put the "
            "run on a file system that all nodes share"
        )
    elif speaks and (wrong := _try_to_write(mine)):
        finding = f"--run-dir: {platform.node()} cannot write in {folder}: {wrong}"
    answers = comm.allgather((speaks and not finding, finding))
    unseen = [
        rank
        for rank, (wrote, _) in enumerate(answers)
        if comm.is_root and wrote and not _appears(folder / f".doctor-{token}-{rank}")
    ]
    comm.barrier()
    mine.unlink(missing_ok=True)
    late = [
        f"--run-dir: rank 0 does not see what rank {rank} writes in {folder}, so that a file STOP "
        "made there would not stop a run"
        for rank in unseen
    ]
    return [text for _, text in answers if text] + late


def _try_to_write(path: Path) -> str:
    try:
        path.write_text("gan-mpi doctor\n")
    except OSError as error:
        return reason(error)
    return ""


def _appears(path: Path) -> bool:
    return _wait_for(path.exists)


def _wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def free_space(run_dir: Path) -> int:
    """Return the bytes that are free where a run directory is or would be."""
    places = (run_dir, *run_dir.absolute().parents)
    return free_bytes(str(next(path for path in places if path.is_dir())))


def probe_sums(comm: Communicator) -> tuple[dict[int, float], list[str]]:
    """Return the median seconds of a sum over ranks by size, and wrong sums.  Collective."""
    medians, wrong = {}, []
    for size in SIZES:
        array = np.empty(max(1, size // 4), np.float32)
        seconds = []
        begin = time.perf_counter()
        while comm.broadcast(time.perf_counter() - begin < SECONDS_A_SIZE):
            array[...] = comm.rank + 1
            start = time.perf_counter()
            comm.sum_in_place(array)
            seconds.append(time.perf_counter() - start)
        medians[size] = statistics.median(seconds)
        expected = comm.world_size * (comm.world_size + 1) / 2
        if not (array == expected).all():
            wrong.append(
                f"Allreduce of {size} bytes gave {array[0]:g} on rank {comm.rank} where "
                f"{expected:g} is right; this MPI cannot be trusted with this network"
            )
    return medians, [text for texts in comm.allgather(wrong) for text in texts[:1]]


def clock_differences(comm: Communicator) -> dict[str, float]:
    """Return by how many seconds each other node's clock is ahead of root's, on root.  Collective.

    Of several round trips the shortest counts, and half of it is the way there.
    """
    here = comm.allgather((comm.local_rank == 0, platform.node()))
    shortest: dict[str, tuple[float, float]] = {}
    for rank, (speaks, host) in enumerate(here):
        if not speaks or rank == 0 or comm.rank not in (0, rank):
            continue
        for _ in range(CLOCK_ROUNDS):
            sent = time.time()
            there = comm.ask(rank, time.time)
            back = time.time()
            if there is not None:
                trip, ahead = shortest.get(host, (float("inf"), 0.0))
                if back - sent < trip:
                    trip, ahead = back - sent, there - (sent + back) / 2
                shortest[host] = trip, ahead
    return {host: ahead for host, (_, ahead) in shortest.items()}


class SignalProbe:
    """Whether SIGUSR1, sent as a batch script or Slurm sends it, reaches all ranks."""

    def __init__(self) -> None:
        """Catch it; where Slurm has to send it, start its program now, before MPI is there."""
        self._arrived = False
        self._scancel: subprocess.Popen | None = None
        self.install()
        self._target: int | None = os.getpid()
        if launcher.speaks_first() and launcher.process_count() > 1:
            self._target = _launcher_above() or _launcher_of_job()
            if self._target is None and not launcher.is_open_mpi():
                self._scancel = _prepare_scancel()

    def install(self) -> None:
        """Catch SIGUSR1; called again after MPI has set its own handlers."""
        signal.signal(signal.SIGUSR1, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        self._arrived = True

    def run(self, comm: Communicator) -> tuple[str, list[str]]:
        """Send it on root; return what came of it, and a finding of ranks missed.  Collective."""
        comm.barrier()
        if not comm.on_root(self._send):
            return "not tried: the launcher is not on the node of rank 0", []
        _wait_for(lambda: self._arrived)
        arrived = comm.allgather(self._arrived)
        missed = [str(rank) for rank, has_it in enumerate(arrived) if not has_it]
        if not missed:
            return "arrives at all ranks", []
        ranks = ", ".join(missed[:8]) + (", ..." if len(missed) > 8 else "")
        finding = (
            f"SIGUSR1 sent to the launcher did not reach rank {ranks} within {PATIENCE:.0f} s; "
            "stop runs by --time-limit or the file STOP instead"
        )
        return "does not arrive", [finding]

    def _send(self) -> bool:
        if self._target is not None:
            os.kill(self._target, signal.SIGUSR1)
        elif self._scancel is not None:
            self._scancel.communicate(b"go\n", timeout=10 * PATIENCE)
        return self._target is not None or self._scancel is not None


def _prepare_scancel() -> subprocess.Popen | None:
    step = os.environ.get("SLURM_STEP_ID")
    if step is None:
        return None
    job = f"{os.environ['SLURM_JOB_ID']}.{step}"
    return subprocess.Popen(
        ["sh", "-c", f"read go && exec scancel --signal=USR1 {job}"],
        stdin=subprocess.PIPE,
    )


def _launcher_above() -> int | None:
    """Return the process that started all ranks, if it is an ancestor of this one."""
    process, topmost = os.getppid(), None
    while process > 1:
        try:
            stat = Path(f"/proc/{process}/stat").read_text()
            name = Path(f"/proc/{process}/comm").read_text().strip()
        except OSError:
            break
        topmost = process if name in LAUNCHERS else topmost
        process = int(stat.rpartition(")")[2].split()[1])
    return topmost


def _launcher_of_job() -> int | None:
    """Return Open MPI's launcher in this Slurm job, if it runs on this node.

    Slurm's own signal would kill the daemons that it put on the nodes.
    """
    if not launcher.is_open_mpi() or "SLURM_JOB_ID" not in os.environ:
        return None
    mine = f"SLURM_JOB_ID={os.environ['SLURM_JOB_ID']}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "comm").read_text().strip()
            if name in LAUNCHERS and mine in (folder / "environ").read_bytes().split(b"\0"):
                return int(folder.name)
        except OSError:
            continue
    return None
