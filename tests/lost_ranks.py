"""Kills ranks of runs whose other ranks go on, and looks whether the result is the same.

`python -m tests.lost_ranks --trials 20 --seed 7` trains on four ranks of Open MPI under
`gan-mpi supervise` and `mpiexec --with-ft ulfm`, with another schedule or another extra each time,
and kills a rank, or two one after the other, at random moments.  With `--hosts 2` they are ranks of
two hosts, made of namespaces.  Of each trial it asks: have the others gone on within two seconds,
is the final state that of a run on one rank to which nothing happened, within 1e-9 in float64, and
is the code that of a run that is done.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from gan_mpi.runs.segments import read_segments
from tests.faults import IS_MPICH, MPIEXEC, Failed, Job, last, require, state_of

RANKS = 4
WITHIN = 2.0  # seconds in which the others go on
NEAR = 1e-9
KINDS = {
    "basic": (),
    "separate updates": ("--d-update", "separate"),
    "balance": ("--schedule", "balance"),
    "spectral norm": ("--d-norm", "spectral"),
    "overlap": ("--overlap",),
    "repeated latents": ("--g-steps", "2", "--g-latents", "repeated"),
    "averaged generator": ("--ema", "1"),
    "evaluations": ("--evaluate-every", "7", "--classifier", "mnist"),
}
EVERYWHERE = ("--precision", "fp64", "--hang-timeout", "60")
HOSTS = Path(__file__).parent / "cluster" / "hosts.sh"
GAN_MPI = (sys.executable, "-m", "gan_mpi")


def launcher(base: Path | None) -> list[str]:
    """Return what starts ranks, on hosts under `base` if there are any."""
    ranks = [MPIEXEC, "--with-ft", "ulfm", "-n", str(RANKS)]
    if base is None:
        return [*GAN_MPI, "supervise", "--max-restarts", "0", "--", *ranks]
    ranks += ["--hostfile", str(base / "hosts.txt"), "--map-by", "ppr:2:node:OVERSUBSCRIBE"]
    on_first = [str(HOSTS), "exec", str(base), "h1"]
    return [*on_first, *GAN_MPI, "supervise", "--max-restarts", "0", "--", *ranks]


def apart(one: dict[str, object], other: dict[str, object]) -> float:
    """Return how far two states are from each other, at most.  Raises Failed."""
    require(one.keys() == other.keys(), "the last checkpoint holds other things")
    worst = 0.0
    for name, value in one.items():
        if torch.is_tensor(value):
            differences = (value.double() - other[name].double()).abs()
            worst = max(worst, float(differences.max()) if differences.numel() else 0.0)
        elif isinstance(value, float):
            worst = max(worst, abs(value - other[name]))
        else:
            require(value == other[name], f"{name} is {value}, not {other[name]}")
    return worst


def kill(
    job: Job, rng: random.Random, moment: float, times: int, of_first_host: bool
) -> tuple[int, float]:
    """Kill a rank after a moment, and return it and the seconds until the others have gone on.

    `times` counts the parts of the run that have begun.  Raises Failed.
    """
    begun = job.wait_until(lambda: job.said.count("started in") == times, 90)
    require(begun, f"it did not start: {last(job)}")
    time.sleep(moment)
    ranks = job.ranks()
    rank = rng.choice(sorted(ranks)[:1] if of_first_host else sorted(ranks))
    os.kill(ranks[rank], signal.SIGKILL)
    began = time.monotonic()
    gone_on = job.wait_until(lambda: job.said.count("started in") == times + 1, 60)
    require(gone_on, f"the others did not go on without rank {rank}: {last(job)}")
    return rank, time.monotonic() - began


def trial(
    folder: Path,
    base: Path | None,
    kind: str,
    losses: int,
    rng: random.Random,
    undisturbed: dict[str, object],
    respawns: bool = False,
    fails: bool = False,
    of_first_host: bool = False,
) -> str:
    """Try one run, which `respawns` the first rank that it loses; return what came of it.

    Before the others are killed one `fails` by itself.  Ranks `of_first_host` are mpiexec's own.
    Raises Failed.
    """
    how = (*KINDS[kind], *EVERYWHERE, "--on-failure", "respawn" if respawns else "shrink")
    rank, step = rng.randrange(RANKS), rng.randrange(2, 10)
    how += ("--inject", f"rank={rank},step={step},kind=raise") if fails else ()
    job = Job(folder / "run", *how, launcher=launcher(base))
    lost = []
    try:
        if fails:
            gone_on = job.wait_until(lambda: job.said.count("started in") == 2, 90)
            require(gone_on, f"the others did not go on without rank {rank}: {last(job)}")
            lost.append((rank, None))
        for number in range(1 + fails, losses + 1):
            moment = rng.uniform(0, 2.0 / losses)
            lost.append(kill(job, rng, moment, number, of_first_host))
        code = job.end(90)
    finally:
        job.clear()
    require(code == 0, f"its code is {code}: {last(job)}")
    (*before, final) = read_segments(folder / "run")
    require(final["state"] == "done", f"its state is {final['state']}")
    require(len(before) == losses, f"it was begun {len(before) + 1} times")
    left = RANKS - losses + respawns
    require(final["ranks"] == left, f"it ends on {final['ranks']} ranks, not {left}")
    worst = apart(state_of(folder / "run"), undisturbed)
    require(worst <= NEAR, f"the result is {worst:.1e} from that without a loss")
    said = " and ".join(
        f"rank {rank}, {'which failed' if took is None else f'gone on after {took:.2f} s'}"
        for rank, took in lost
    )
    require(all((took or 0) < WITHIN for _, took in lost[respawns:]), said)
    steps = ", ".join(str(each["last_step"]) for each in before)
    kind += ", respawned" if respawns else ""
    return f"{kind}: without {said}; steps done: {steps}; {worst:.0e} apart"


def undisturbed(folder: Path, kind: str) -> dict[str, object]:
    """Return the state that a kind of run has on one rank."""
    run_dir = folder / kind.replace(" ", "-")
    job = Job(run_dir, *KINDS[kind], *EVERYWHERE, launcher=())
    require(job.end(120) == 0, job.said)
    return state_of(run_dir)


def main(words: Sequence[str] | None = None) -> int:
    """Run trials; return 0 if all are as they should be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=KINDS, help="one kind of run")
    parser.add_argument("--hosts", type=int, choices=(1, 2), default=1)
    given = parser.parse_args(words)
    if IS_MPICH:
        parser.error("ranks of MPICH end with the first that is gone")
    rng, began, good = random.Random(given.seed), time.monotonic(), 0
    known: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory(prefix="gan-mpi-lost-ranks-") as name:
        folder, base = Path(name), None
        try:
            if given.hosts == 2:
                base = folder / "hosts"
                base.mkdir()
                subprocess.run([HOSTS, "up", base, "2"], check=True)
                (base / "hosts.txt").write_text("h1 slots=2\nh2 slots=2\n")
                os.environ["PRTE_MCA_plm_ssh_agent"] = f"{base}/ssh"
            for number in range(1, given.trials + 1):
                kind = given.only or rng.choice(sorted(KINDS))
                losses, respawns = rng.choice(((1, False), (2, False), (1, True)))
                fails = rng.random() < 0.25
                if bereft := base is not None and number <= 2:  # mpiexec has no rank beside it
                    losses, respawns, fails = 2, False, False
                known[kind] = known.get(kind) or undisturbed(folder, kind)
                try:
                    how = respawns, fails, bereft
                    outcome = trial(folder, base, kind, losses, rng, known[kind], *how)
                    good += 1
                except Failed as error:
                    outcome = f"FAILED: {kind}, {losses} losses: {error}"
                print(f"{number:3d} {outcome}", flush=True)
                subprocess.run(["rm", "-rf", folder / "run"], check=True)
        finally:
            if base is not None:
                subprocess.run([HOSTS, "down", base], check=False)
    minutes = (time.monotonic() - began) / 60
    print(f"{good} of {given.trials} are as they should be; {minutes:.0f} minutes")
    return 0 if good == given.trials else 1


if __name__ == "__main__":
    sys.exit(main())
