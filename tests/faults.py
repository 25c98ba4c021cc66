"""Lets something go wrong at a random moment of a real run, and looks whether anything is lost.

`python -m tests.faults --trials 200 --seed 7` trains on three ranks of the MPI beside this Python,
lets a rank, mpiexec or a disk fail, and goes on to the end with the same command.  Of each trial it
asks: has all ended in time, with the documented code; is it said what happened, and where; has no
more been lost than came after the last checkpoint; are the final weights those of a run to which
nothing happened, to the bit; and is no process left.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gan_mpi.runs import checkpoint
from gan_mpi.runs.directory import list_checkpoints
from gan_mpi.runs.stats import read_stats
from tests.ranks.forks import Forks
from tests.ranks.laptop import LAPTOP
from tests.ranks.states import flat

RANKS, STEPS, EVERY = 3, 60, 3
TIMEOUT = 4  # seconds of --hang-timeout
MPIEXEC = str(Path(sys.executable).parent / "mpiexec")
VERSION = subprocess.run([MPIEXEC, "--version"], capture_output=True, text=True, check=True).stdout
IS_MPICH = "HYDRA" in VERSION
MPI = "MPICH" if IS_MPICH else "Open MPI"
RANK_OF = "PMI_RANK" if IS_MPICH else "OMPI_COMM_WORLD_RANK"
PLACE = r"rank \d+ on \S+( \(process \d+\))?"
WITHOUT_A_WORD = rf"the last start ended without a word: last heard of ({PLACE}|its 3 ranks) in \w+"


@dataclass(frozen=True)
class Kind:
    """A fault: how it is made, the codes of mpiexec, and what is then said, by it or later."""

    name: str
    codes: tuple[int, int]  # of MPICH and of Open MPI
    says: str  # a regular expression
    inject: str = ""  # for --inject
    number: signal.Signals | None = None
    to_mpiexec: bool = False
    in_save: bool = False  # while a checkpoint is being written, by root
    of_root: bool = False

    @property
    def code(self) -> int:
        """Return the documented code."""
        return self.codes[0 if IS_MPICH else 1]

    @property
    def limit(self) -> float:
        """Return the seconds after which all has ended."""
        return 5 + (TIMEOUT if self.code == 77 else 0)


KILLED, HUNG = (9, 137), (77, 77)
# MPICH's own, where a rank was reading the memory of the one that is killed.
READ_MEMORY_OF_KILLED = 143
IS_HUNG = rf"Error: {PLACE} (does not answer|does not move on from)"
STOPPED = r"stopped after \d+ of"
KINDS = (
    Kind("an error", (1, 1), rf"the last start ended in .* of {PLACE}: Runtime", inject="raise"),
    Kind("an exit", (3, 3), rf"the last start ended in .* of {PLACE}: SystemExit", inject="exit"),
    Kind("a kill", KILLED, WITHOUT_A_WORD, inject="kill"),
    Kind("a stop", HUNG, IS_HUNG, inject="stop"),
    Kind("a loop", HUNG, IS_HUNG, inject="loop"),
    Kind("a NaN", (76, 76), r"diverged: .* in step \d+", inject="nan"),
    Kind("a delay", (0, 0), r"done: ", inject="delay=1s"),
    Kind("no room", (0, 0), r"Warning: cannot write .*No space", inject="enospc", of_root=True),
    Kind("KILL", KILLED, WITHOUT_A_WORD, number=signal.SIGKILL),
    Kind("SEGV", (11, 139), WITHOUT_A_WORD, number=signal.SIGSEGV),
    Kind("STOP", HUNG, IS_HUNG, number=signal.SIGSTOP),
    Kind("TERM", (75, 75), STOPPED, number=signal.SIGTERM),
    Kind("USR1 to mpiexec", (75, 75), STOPPED, number=signal.SIGUSR1, to_mpiexec=True),
    Kind("KILL of mpiexec", (-9, -9), WITHOUT_A_WORD, number=signal.SIGKILL, to_mpiexec=True),
    Kind("KILL in a save", KILLED, WITHOUT_A_WORD, number=signal.SIGKILL, in_save=True),
    Kind("STOP in a save", HUNG, IS_HUNG, number=signal.SIGSTOP, in_save=True),
    Kind("TERM in a save", (75, 75), STOPPED, number=signal.SIGTERM, in_save=True),
)


MAIN = "from gan_mpi.__main__ import main; main()"


def environment() -> dict[str, str]:
    """Return the variables that jobs are started with."""
    return {**LAPTOP, **os.environ}


FORKS = Forks(Path(__file__).parent, environment)  # for starts of which only the end counts


class Failed(Exception):
    """What of a trial is not as it should be."""


class TooLate(Exception):
    """The run was done before it was to fail."""


def require(fulfilled: object, what: str) -> None:
    """Raise Failed, and say what, unless something is as it should be."""
    if not fulfilled:
        raise Failed(what)


class Job:
    """One start of a training, whose ranks can be found."""

    def __init__(
        self,
        run_dir: Path,
        *options: str,
        launcher: Sequence[str] = (MPIEXEC, "-n", str(RANKS)),
        program: Sequence[str] = (sys.executable, "-m", "gan_mpi"),
    ) -> None:
        self.run_dir = run_dir
        words = ["train", "--glyphs", 50, "--batch", 30, "--steps", STEPS, "--run-dir", run_dir]
        words += ["--checkpoint-every", EVERY, "--hang-timeout", TIMEOUT, *options]
        self.output = run_dir.with_suffix(".out")
        with self.output.open("w") as out:
            self.process = subprocess.Popen(
                [*launcher, *program, *map(str, words)],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """Return what was said so far."""
        return self.output.read_text(errors="replace")

    def ranks(self) -> dict[int, int]:
        """Return the processes that train in this run directory, by rank."""
        found = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal():
                continue
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                variables = dict(
                    each.split(b"=", 1)
                    for each in (folder / "environ").read_bytes().split(b"\0")
                    if b"=" in each
                )
            except OSError:
                continue
            if b"gan_mpi" in words and str(self.run_dir).encode() in words:
                rank = variables.get(RANK_OF.encode())
                if rank is not None and b"python" in words[0]:
                    found[int(rank)] = int(folder.name)
        return found

    def wait_until(self, done, seconds: float) -> bool:
        """Return whether something came to be, or False once the job has ended or time is up."""
        until = time.monotonic() + seconds
        while not done():
            if self.process.poll() is not None or time.monotonic() > until:
                return False
            time.sleep(0.002)
        return True

    def end(self, seconds: float) -> int:
        """Return the code of mpiexec once it and all ranks are gone.  Raises Failed."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"it has not ended {seconds:.0f} s after that") from None
        until = time.monotonic() + 3
        while left := self.ranks():
            require(time.monotonic() < until, f"ranks {[*left]} are left")
            time.sleep(0.05)
        return code

    def clear(self) -> None:
        """End what is left of it."""
        for process in [self.process.pid, *self.ranks().values()]:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()


def state_of(run_dir: Path) -> dict[str, object]:
    """Return everything in the last checkpoint, by name."""
    step, path = list_checkpoints(run_dir)[0]
    require(step == STEPS, f"the last checkpoint is of step {step}")
    return dict(flat(checkpoint.read_checkpoint(path)))


def require_same(one: dict[str, object], other: dict[str, object]) -> None:
    """Raise Failed, naming what differs, unless two states are the same to the bit."""
    require(one.keys() == other.keys(), "the last checkpoint holds other things")
    for name, value in one.items():
        same = torch.equal(value, other[name]) if torch.is_tensor(value) else value == other[name]
        require(same, f"{name} is not the same to the bit")


def last(job: Job) -> str:
    """Return the last lines that a job said and that are no status lines."""
    return "\n".join([line for line in job.said.splitlines() if line[:4] != "step"][-6:])


def strike(job: Job, kind: Kind, rank: int, moment: float) -> None:
    """Let a fault happen that comes from outside.  Raises TooLate."""
    begun = job.wait_until(lambda: "started in" in job.said, 60)
    require(begun, f"it did not start: {job.said[-500:]}")
    time.sleep(moment)
    ranks = job.ranks()
    target = job.process.pid if kind.to_mpiexec else ranks.get(rank)
    if kind.in_save and not job.wait_until(lambda: [*job.run_dir.glob(".checkpoint*.tmp")], 10):
        raise TooLate
    if target is None or job.process.poll() is not None:
        raise TooLate
    os.kill(target, kind.number)


def trial(folder: Path, kind: Kind, rng: random.Random, seconds: float, undisturbed) -> str:
    """Try one fault; return what came of it.  Raises Failed or TooLate."""
    run_dir = folder / "run"
    rank = 0 if kind.in_save or kind.of_root else rng.randrange(RANKS)
    step, moment = rng.randrange(2, STEPS), rng.uniform(0, seconds)
    options = ("--inject", f"rank={rank},step={step},kind={kind.inject}") if kind.inject else ()
    job = Job(run_dir, *options)
    try:
        if kind.inject:
            begun = job.wait_until(lambda: "started in" in job.said, 60)
            require(begun, f"it did not start: {job.said[-500:]}")
            began = time.monotonic()
            code = job.end(seconds * 2 + 10 + kind.limit)
        else:
            strike(job, kind, rank, moment)
            began = time.monotonic()
            code = job.end(kind.limit)
        took = time.monotonic() - began
    finally:
        job.clear()
    if not kind.inject and code == 0:
        raise TooLate
    is_right = code == kind.code or (kind.code == 9 and code == READ_MEMORY_OF_KILLED)
    require(is_right, f"its code is {code}, not {kind.code}: {last(job)}")
    said, newest = job.said, list_checkpoints(run_dir)[0][0]
    went_on = ""
    if code:
        reached = max((record["step"] for record in read_stats(run_dir)), default=0)
        require(newest >= reached - 2 * EVERY, f"of {reached} steps {newest} are saved")
        again = Job(run_dir, *options, program=FORKS.python(MAIN))
        try:
            code = again.end(120)
        finally:
            again.clear()
        require(code == 0, f"the next start ends with {code}: {last(again)}")
        on = f"going on after step {newest}" if newest < STEPS else "is finished"
        require(on in again.said, f"it does not say {on!r}: {last(again)}")
        went_on = f"; went on after step {newest}"
        said += again.said
    if newest < STEPS or kind.code == 0:
        require(named := re.search(kind.says, said), f"nothing says what happened: {last(job)}")
        went_on += f"; said: {named[0].replace(f'{folder}/', '')}"
    require_same(state_of(run_dir), undisturbed)
    where = "" if kind.to_mpiexec else f" on rank {rank}"
    when = f"in step {step}" if kind.inject else f"after {moment:.2f} s"
    return f"{kind.name}{where} {when}: code {kind.code}, ended in {took:.1f} s{went_on}; same bits"


def main() -> int:
    """Run trials; return 0 if all are as they should be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=[kind.name for kind in KINDS], help="one kind of fault")
    given = parser.parse_args()
    asked = [kind for kind in KINDS if given.only in (None, kind.name)]
    rng, began, good = random.Random(given.seed), time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="gan-mpi-faults-") as name:
        folder = Path(name)
        job = Job(folder / "undisturbed")
        require(job.end(120) == 0, job.said)
        undisturbed = state_of(folder / "undisturbed")
        (record,) = [each for each in read_stats(folder / "undisturbed") if each["step"] == STEPS]
        first = read_stats(folder / "undisturbed")[0]
        seconds = (record["time"] - first["time"]) * 0.9
        print(f"{MPI}; {STEPS} steps of {RANKS} ranks in {seconds:.1f} s")
        kinds: list[Kind] = []
        kept = Path(tempfile.gettempdir(), "gan-mpi-fault")
        shutil.rmtree(kept, ignore_errors=True)
        for number in range(1, given.trials + 1):
            kinds = kinds or rng.sample(asked, len(asked))  # each once, then each again
            kind = kinds.pop()
            while True:
                try:
                    outcome = trial(folder, kind, rng, seconds, undisturbed)
                    good += 1
                except TooLate:
                    continue
                except Failed as error:
                    outcome = f"FAILED: {kind.name}: {error}"
                    if not kept.exists() and (folder / "run").exists():
                        shutil.copytree(folder / "run", kept)
                        shutil.copy(folder / "run.out", kept / "output.log")
                finally:
                    shutil.rmtree(folder / "run", ignore_errors=True)
                break
            print(f"{number:3d} {outcome}", flush=True)
    FORKS.end()
    minutes = (time.monotonic() - began) / 60
    if kept.exists():
        print(f"the run directory of the first that failed is kept in {kept}")
    print(f"{good} of {given.trials} are as they should be; {minutes:.0f} minutes")
    return 0 if good == given.trials else 1


if __name__ == "__main__":
    sys.exit(main())
