"""Runs that are slow, in any way, and are not ended for it; those that hang: test_watchdog.py."""

import time

import pytest
from conftest import MAIN
from test_watchdog import TRAIN, code_of

# What a rank does in step 3.
SLOW_ONCE = {
    "pieces of its own": "[(time.sleep(0.5), HERE.move()) for _ in range(12)]",
    "one piece, shorter than the timeout": "time.sleep(3)",
    "C code that keeps Python's lock": "__import__('ctypes').PyDLL(None).sleep(3)",
    "suspended for a while": (
        "import os, subprocess; "
        "subprocess.Popen(['sh', '-c', f'sleep 3; kill -CONT {os.getpid()}']); "
        "os.kill(os.getpid(), 19)"
    ),
}
# What is slow on a rank whenever it is called: a module, what it is of, and seconds.
SLOW_ALWAYS = {
    "every step": ("training.turn", "Turn.play", 1.5),
    "every sum": ("mpi.comm", "Communicator.sum_in_place", 0.5),
    "every batch of data": ("training.feed", "Feed.next_reals", 0.7),
    "checkpoints": ("runs.checkpoint", "write_checkpoint", 3),
    "pictures": ("recording.gallery", "Gallery._picture", 3),
    "status lines": ("recording.journal", "Journal._report", 1.5),
    "files that tell where it is": ("lifecycle.watchdog", "write_place", 2),
    "files that tell where others are": ("lifecycle.watchdog", "read_place", 1),
}
LATE = """
import importlib, time
from gan_mpi.mpi import launcher
def late(module, name, seconds):
    *owner, name = name.split(".")
    holder = importlib.import_module(f"gan_mpi.{module}")
    for each in owner:
        holder = getattr(holder, each)
    known = getattr(holder, name)
    def call(*arguments):
        time.sleep(seconds)
        return known(*arguments)
    setattr(holder, name, call)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pieces of its own", "one piece, shorter than the timeout"])
@pytest.mark.parametrize("rank", [0, 2])
def test_a_run_that_is_slow_is_not_ended(gan_mpi, kind, rank):
    done = gan_mpi(*TRAIN, "--hang-timeout", 5, size=3, code=code_of(SLOW_ONCE[kind], rank))
    assert done.returncode == 0, done.stderr


@pytest.mark.launch
@pytest.mark.hours
@pytest.mark.parametrize("kind", [*SLOW_ONCE, *SLOW_ALWAYS])
@pytest.mark.parametrize("rank", [0, 2])
def test_no_run_is_ended_that_is_slow_in_any_way(launch, kind, rank):
    if kind in SLOW_ONCE:
        code = code_of(SLOW_ONCE[kind], rank)
    else:
        code = f"{LATE}if launcher.rank() == {rank}:\n    late(*{SLOW_ALWAYS[kind]!r})\n{MAIN}"
    began = time.monotonic()
    done = launch(*TRAIN, "--hang-timeout", 5, size=3, code=code, fresh=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "done: 6 of 6 steps" in done.stdout
    print(f"{kind} on rank {rank}: done after {time.monotonic() - began:.1f} s")
