"""Starts a job again whose rank, node or launcher was lost, or which hung."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import FrameType

from gan_mpi.errors import WRONG, UserError, reason
from gan_mpi.lifecycle import outcome
from gan_mpi.lifecycle.hosts import Hosts
from gan_mpi.runs.directory import list_checkpoints
from gan_mpi.runs.places import end_of
from gan_mpi.runs.segments import read_segments

DONE, FAILED, STOPPED, HUNG = 0, 1, 75, 77  # exit codes
OURS = WRONG, 64, STOPPED, 76, HUNG  # that no launcher gives by itself
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
ENDING = 30.0  # seconds that a launcher may take to end once its ranks have said how they ended
KILLED = 0.7  # seconds that it may take once they hung, and once it was told to end
LOOK = 0.1  # seconds between looks
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before a restart; twice as long each time
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # of prctl(2)


@dataclass
class Supervisor:
    """What starts a command, an mpiexec say, that trains in a run directory.

    A job that was lost or hung starts again from its last checkpoint, `restarts` times at most; one
    that ended otherwise would end so again, and its code is that of the supervisor.
    """

    command: Sequence[str]
    run_dir: Path
    restarts: int
    say: Callable[[str], None]
    hosts: Hosts | None = None  # of which those that answer take part
    stopping: str = ""  # the signal that asked for a stop
    job: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def run(self) -> int:
        """Run the command until it ends for good; return the exit code.  Raises UserError."""
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # so that what a launcher leaves is here
        for number in FORWARDED:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                signal.signal(number, self._pass_on)
        pause = FIRST_PAUSE
        for restart in range(1, self.restarts + 2):
            starts = len(read_segments(self.run_dir))
            code, said = self._start()
            if said is not None and said != HUNG:
                return said
            began = len(read_segments(self.run_dir)) > starts
            if said is None and not began and restart == 1 and not self.stopping:
                raise UserError(f"{self.command[0]} ended with {code} before a training began.")
            if self._is_done():
                return DONE
            how = _how(code, end_of(self.run_dir))
            if not self.stopping and restart <= self.restarts:
                self.say(f"{how}; restart {restart} of {self.restarts}{self._from()}")
                self._pause(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            if self.stopping:
                self.say(f"{how}, and after {self.stopping} it is started no more")
                return STOPPED if list_checkpoints(self.run_dir) else FAILED
            if restart > self.restarts:
                raise UserError(
                    f"{how}; it was started {restart} times (--max-restarts {self.restarts}).",
                    exit_code=HUNG if said == HUNG else FAILED,
                )
        raise AssertionError("the last start returns or raises")

    def _start(self) -> tuple[int, int | None]:
        """Run the command once; return its code, and that which its ranks said."""
        file, hosts = (
            self.run_dir.parent / f".{self.run_dir.name}.{kind}" for kind in ("outcome", "hosts")
        )
        command = self.command if self.hosts is None else self.hosts.fill(self.command, hosts)
        before = _children()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            self.job = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                env={**os.environ, outcome.VARIABLE: str(file.absolute())},
                start_new_session=True,  # so that Ctrl-C comes once
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - no thread is here to hold a lock
            )
            if self.stopping:  # since before it was known
                self.job.send_signal(signal.Signals[self.stopping])
        except OSError as error:
            raise UserError(f"cannot start {self.command[0]}: {reason(error)}.", WRONG) from None
        code = self._wait_for(self.job, file)
        _end_what_is_left(before)
        said = outcome.read(file)
        if said is None and code in OURS:  # of ranks that were not told of the file
            said = code
        file.unlink(missing_ok=True)
        hosts.unlink(missing_ok=True)
        return code, said

    def _wait_for(self, job: "subprocess.Popen[bytes]", file: Path) -> int:
        """Return the code of a job, which is ended if its ranks have ended and it does not."""
        since: float | None = None
        while job.poll() is None:
            time.sleep(LOOK)
            if since is None and file.exists():
                since = time.monotonic()
            patience = KILLED if outcome.read(file) == HUNG else ENDING  # a dead link hangs it too
            if since is not None and time.monotonic() - since > patience:
                self.say(f"{self.command[0]} does not end, though its ranks have; it is ended")
                with suppress(ProcessLookupError):
                    os.killpg(job.pid, signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    job.wait(KILLED)
                with suppress(ProcessLookupError):
                    os.killpg(job.pid, signal.SIGKILL)
                job.wait()
        assert job.returncode is not None
        return job.returncode

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        """Hand a signal on to the job, and start it no more after it."""
        self.stopping = signal.Signals(number).name
        if self.job is not None and self.job.poll() is None:
            self.job.send_signal(number)

    def _pause(self, seconds: float) -> None:
        """Wait, but for no longer than until a stop is asked for."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.stopping:
            time.sleep(LOOK)

    def _is_done(self) -> bool:
        """Return whether the run has all its steps, whatever came after that."""
        segments = read_segments(self.run_dir)
        return bool(segments) and segments[-1]["state"] == "done"

    def _from(self) -> str:
        """Say what a restart begins with."""
        checkpoints = list_checkpoints(self.run_dir)
        return f", from step {checkpoints[0][0]}" if checkpoints else ""


def _how(code: int, told: str) -> str:
    """Say how a job was lost, by the code of its launcher and by what its ranks could tell."""
    number = -code if code < 0 else code - 128 if code > 128 else code
    with suppress(ValueError):
        if code not in (FAILED, WRONG, HUNG):
            name = signal.Signals(number).name
            memory = ", for want of memory perhaps" if number == signal.SIGKILL else ""
            told = f"{told} ({name}{memory})" if told else f"ended by {name}{memory}"
    return f"the job {told or f'ended with {code}'}"


def _children() -> set[int]:
    """Return the processes that this one has to wait for."""
    found: set[int] = set()
    with suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            found |= {*map(int, (task / "children").read_text().split())}
    return found


def _end_what_is_left(before: set[int]) -> None:
    """End what a launcher has left, such as its ssh to a host that is gone; none from before."""
    for process in _children() - before:
        with suppress(OSError):
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def _end_with_parent() -> None:
    """Let this process, which is about to become a launcher, end if the supervisor is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def run_dir_of(command: Sequence[str]) -> Path:
    """Return the run directory that a command names.  Raises UserError."""
    words = [part for word in command for part in word.split("=", 1)]
    for name, value in pairwise(words):
        if name == "--run-dir" or (name == "--resume" and Path(value).is_dir()):
            return Path(value)
    raise UserError(
        "supervise starts one command again, which goes on by itself: give gan-mpi train a "
        "--run-dir, or a --resume that names a folder.",
        exit_code=WRONG,
    )
