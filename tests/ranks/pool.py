"""Ranks that stay for many jobs: a job takes the first of them, the others sleep meanwhile.

A start of mpiexec, Python and torch takes seconds, and a job on ranks that are there
hundredths.  A job that fails, hangs or leaves takes the ranks with it; the next one gets others.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from multiprocessing.connection import Connection, wait
from pathlib import Path

TESTS = Path(__file__).parents[1]
START = 120  # seconds for ranks to come up on a busy machine
ALIKE = 0.5  # seconds for the other ranks to fail or leave as the first one did
SERVE = "import sys; from ranks.main import serve; serve(sys.argv[1])"
DUMP = signal.SIGUSR2  # has a rank write its stacks, wherever it hangs


class JobFailed(AssertionError):
    """What became of a job that did not end on all ranks, with their outputs and stacks."""


class Pool:
    """So many ranks, started by launch() or by the first job."""

    def __init__(self, size, mpiexec, python, environment):
        """`environment` returns the variables that a program started now would get.

        `python` returns the command that runs a piece of code.
        """
        self.size, self.mpiexec, self.python, self.environment = size, mpiexec, python, environment
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process is not None:
            self.kill()

    def run(self, size, job, timeout):
        """Do a job of ranks/main.py on the first `size` ranks; return what each of them reports.

        Raises JobFailed, and ends the ranks, unless all of them report in time.
        """
        if self.process is None:
            self.launch()
        if not self.connections:
            self._accept()
        shared = {"size": size, "environment": self.environment(), "timeout": timeout}
        try:
            for connection in self.connections[:size]:
                connection.send({**job, **shared})
            reports, what = self._reports(size, timeout)
            if what is not None:
                raise JobFailed(self._autopsy(size, reports, what))
        except BaseException:  # an impatient Ctrl-C too
            self.kill()
            raise
        found = [reports[rank] | self._said(rank) for rank in range(size)]
        if any(report["leaves"] for report in found):
            self.kill()
        return found

    def kill(self):
        """End mpiexec and the ranks, whatever they do, and remove the memory that they share."""
        shared = {path for pid in self.pids for path in _shared_memory(pid)}
        for kill, number in ((os.killpg, self.process.pid), *((os.kill, n) for n in self.pids)):
            with contextlib.suppress(ProcessLookupError):
                kill(number, signal.SIGKILL)
        self.process.wait()
        for connection in self.connections:
            connection.close()
        self.server.close()
        shutil.rmtree(self.folder)
        for path in shared:
            path.unlink(missing_ok=True)
        self.process = None

    def launch(self):
        """Start the ranks, and do not wait for them."""
        self.folder = Path(tempfile.mkdtemp(prefix="gan-mpi-ranks-"))
        self.pids, self.connections, at = (), (), str(self.folder / "socket")
        command = [*self.mpiexec, "-n", str(self.size), *self.python(SERVE), at]
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(at)
        self.server.listen()
        self.server.settimeout(0.5)
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=TESTS,
                env={**self.environment(), "PRTE_MCA_prte_tmpdir_base": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _accept(self):
        """Wait until all ranks are there, and tell them what a program started now would get."""
        found, deadline = {}, time.monotonic() + START
        while len(found) < self.size:
            try:
                connection = Connection(self.server.accept()[0].detach())
                rank, pid = connection.recv()
                found[rank] = pid, connection
            except TimeoutError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    log = (self.folder / "log").read_text(errors="replace")
                    self.kill()
                    raise JobFailed(f"the ranks did not come up:\n{log}") from None
        self.pids, self.connections = zip(*(found[rank] for rank in range(self.size)), strict=True)
        for connection in self.connections:
            connection.send(self.environment())

    def _reports(self, size, timeout):
        """Return the reports by rank, and what went wrong: nothing, a rank's end, the time."""
        missing = dict(zip(self.connections[:size], range(size), strict=True))
        reports, what, deadline = {}, None, time.monotonic() + timeout
        while missing:
            ready = wait(list(missing), max(0, deadline - time.monotonic()))
            if not ready:
                return reports, what or f"not done in {timeout} s"
            for connection in ready:
                rank = missing.pop(connection)
                try:
                    reports[rank] = connection.recv()
                except (EOFError, ConnectionResetError):
                    reports[rank] = {"failed": "this rank is gone"}
                if "failed" in reports[rank] and what is None:
                    what = f"rank {rank} failed"
                    deadline = min(deadline, time.monotonic() + ALIKE)
        return reports, what

    def _said(self, rank):
        return {name: self._text(rank, name) for name in ("out", "err")}

    def _text(self, rank, name):
        return (self.folder / f"{rank}.{name}").read_text(errors="replace")

    def _autopsy(self, size, reports, what):
        """Return what is known of each rank: its report or its stacks, and what it said."""
        parts = [f"a job on {size} rank(s): {what}"]
        for rank in range(size):
            fate = reports.get(rank) or {"hangs": self._stacks(rank)}
            for name in ("failed", "hangs", "out", "err"):
                if text := {**fate, **self._said(rank)}.get(name):
                    parts.append(f"-- rank {rank}, {name}:\n{text}")
        parts.append((self.folder / "log").read_text(errors="replace"))
        return "\n".join(parts)

    def _stacks(self, rank):
        """Return the stacks of a rank that hangs, once it has written them."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pids[rank], DUMP)
        text, deadline = "", time.monotonic() + 5
        while not text.endswith("\n") or text != self._text(rank, "stacks"):
            if time.monotonic() > deadline:
                break
            text = self._text(rank, "stacks")
            time.sleep(0.1)
        return text


def _shared_memory(pid):
    """Return the files in /dev/shm that a process has mapped, which MPICH leaves if killed."""
    with contextlib.suppress(OSError):
        words = (line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines())
        return {Path(each[-1]) for each in words if each[-1].startswith("/dev/shm/mpich")}
    return set()
