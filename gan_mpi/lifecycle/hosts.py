"""The hosts of a job, of which some may be gone."""

import os
import platform
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gan_mpi.errors import WRONG, UserError, reason

RANKS, HOSTS = "{ranks}", "{hosts}"  # words of a command, or parts of them
PATIENCE = 10.0  # seconds for a host to answer
AGENTS = "HYDRA_LAUNCHER_EXEC", "PRTE_MCA_plm_ssh_agent"  # of MPICH and Open MPI: in ssh's place
HERE = "localhost", "127.0.0.1", platform.node()


@dataclass(frozen=True)
class Hosts:
    """A file of hosts, one a line as mpiexec reads it, and how many ranks each shall have."""

    file: Path
    ranks_per_host: int
    say: Callable[[str], None]

    def fill(self, command: Sequence[str], beside: Path) -> list[str]:
        """Return a command for the hosts that answer, {ranks} and {hosts} filled in.

        Their lines are written to the file `beside`.  Raises UserError if none answers.
        """
        lines = self.lines()
        with ThreadPoolExecutor(len(lines)) as threads:
            answers = list(threads.map(_answers, map(_name, lines)))
        there = [line for line, answer in zip(lines, answers, strict=True) if answer]
        gone = [_name(line) for line, answer in zip(lines, answers, strict=True) if not answer]
        if not there:
            raise UserError(f"--hostfile: none of the {len(lines)} hosts of {self.file} answers.")
        if gone:
            self.say(f"{', '.join(gone)} of {self.file} does not answer, and is left out")
        try:
            beside.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text("".join(f"{line}\n" for line in there))
        except OSError as error:
            raise UserError(f"cannot write {beside}: {reason(error)}.") from None
        values = {RANKS: str(len(there) * self.ranks_per_host), HOSTS: str(beside.absolute())}
        return [_filled(word, values) for word in command]

    def lines(self) -> list[str]:
        """Return the lines that name a host.  Raises UserError."""
        try:
            text = self.file.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise UserError(
                f"--hostfile: cannot read {self.file}: {reason(error)}.", WRONG
            ) from None
        lines = [line.partition("#")[0].strip() for line in text.splitlines()]
        if not any(lines):
            raise UserError(f"--hostfile: {self.file} names no host.", WRONG)
        return [line for line in lines if line]

    def require_used(self, command: Sequence[str]) -> None:
        """Raise UserError unless a command has a place for hosts, and for their ranks."""
        for word in (RANKS, HOSTS):
            if not any(word in each for each in command):
                raise UserError(
                    f"--hostfile: the command has no {word}; write mpiexec -n {RANKS} -f {HOSTS}, "
                    f"or with Open MPI --hostfile {HOSTS} --map-by node.",
                    WRONG,
                )


def _filled(word: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(name, value)
    return word


def _name(line: str) -> str:
    """Return the host of a line such as h1, h1:2 or h1 slots=2."""
    return re.split(r"[\s:]", line)[0]


def _answers(host: str) -> bool:
    """Return whether a host can be reached as mpiexec reaches it."""
    if host in HERE:
        return True
    agent = next((os.environ[name] for name in AGENTS if os.environ.get(name)), "ssh")
    try:
        done = subprocess.run(
            [*shlex.split(agent), "-o", "BatchMode=yes", host, "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
