"""A job in which nothing moves ends, and says who is behind; a slow one goes on."""

import platform
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import IS_MPICH, MAIN

from gan_mpi.clock import HERE
from gan_mpi.drawing.samples import CHUNK, in_chunks
from gan_mpi.errors import UserError
from gan_mpi.evaluation import kernel, neighbours
from gan_mpi.evaluation.extractor import POINTS
from gan_mpi.lifecycle import watchdog
from gan_mpi.lifecycle.watchdog import Watchdog, within
from gan_mpi.mpi.library import MPI
from gan_mpi.runs.places import (
    NODE,
    PLACES,
    Page,
    end_of,
    folder_of,
    last_word,
    places_in,
)

# A rank does something in step 3.
IN_STEP_3 = """
import time
from gan_mpi.clock import HERE
from gan_mpi.training.turn import Turn
play = Turn.play
def doing(turn):
    if turn.comm.rank == {rank} and turn.state.progress.step == 2:
        {does}
    return play(turn)
Turn.play = doing
"""
TRAIN = ("train", "--glyphs", 50, "--batch", 30, "--steps", 6, "--checkpoint-every", 2)
TRAIN = (*TRAIN, "--run-dir", "run")


def code_of(does, rank):
    then = f"try:\n    {MAIN}\nfinally:\n    Turn.play = play\n"  # ranks that stay do other jobs
    return IN_STEP_3.format(rank=rank, does=does) + then


def inject(kind, rank=1):
    return "--inject", f"rank={rank},step=3,kind={kind}"


def folder_in(tmp_path):
    """Return the folder of the newest start of the run."""
    return places_in(tmp_path / "run")[-1]


def status_of_what_is_gone(gan_mpi):
    """Return what is said of a run once root is gone too, which mpiexec need not await."""
    until = time.monotonic() + 10
    while "state      running" in (told := gan_mpi("status", "run").stdout):
        assert time.monotonic() < until
    return told


def pages_of(tmp_path):
    """Return what the ranks of the first start of the run keep in memory."""
    name = Page(folder_of(tmp_path / "run", 1), 999)
    name.remove()
    return [*NODE.glob(f"{name.path.name.removesuffix('999')}*")]


SILENT = "does not answer: it is suspended, or its node or its file system hangs"


@pytest.mark.launch
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "rank", "said"),
    [
        ("loop", 1, "does not move on from G update 2 (step 2)"),
        ("stop", 1, SILENT),
        ("stop", 0, SILENT),
    ],
)
def test_a_rank_that_hangs_is_named_and_ends_the_job(launch, gan_mpi, tmp_path, kind, rank, said):
    began, options = time.monotonic(), ("--hang-timeout", 3, *inject(kind, rank))
    fresh = kind == "stop"  # which what stands for a fork would not be
    done = launch(*TRAIN, *options, size=3, fresh=fresh)
    assert time.monotonic() - began < 3 + 5 + 12, "with its start"
    assert done.returncode == 77
    assert done.stderr.count(f"Error: rank {rank} on ") == 1 and said in done.stderr
    assert "Nothing moved for 3 s (--hang-timeout)" in done.stderr
    stacks = {path.stem: path.read_text() for path in folder_in(tmp_path).glob("*.stacks")}
    assert stacks.keys() == {"0", "1", "2"} - ({str(rank)} if kind == "stop" else set())
    assert "waits in communication of D update 5 (step 3)" in stacks["2"]
    assert "sum_in_place" in stacks["2"]
    assert status_of_what_is_gone(gan_mpi).count(f"it hung: rank {rank} on ") == 1
    again = gan_mpi(*TRAIN, *inject(kind, rank), size=3)
    assert again.returncode == 0, "it happens in a run's first start"
    assert f"the last start hung: rank {rank} on " in again.stdout
    assert "going on after step " in again.stdout, "2, or 0 if the save of 2 was still under way"
    assert not (tmp_path / "run" / PLACES).exists(), "a start that leaves takes its places away"


@pytest.mark.launch
@pytest.mark.parametrize(
    ("kind", "code", "said"),
    [
        pytest.param(
            "kill",
            9 if IS_MPICH else 137,
            "ended without a word: last heard of rank 1 on ",
            marks=pytest.mark.slow,
        ),
        ("raise", 1, "ended in G update 2 (step 2) of rank 1 on "),
        pytest.param(
            "raise of root",
            1,
            "ended in G update 2 (step 2) of rank 0 on ",
            marks=pytest.mark.slow,
        ),
        pytest.param("exit", 3, "ended in G update 2 (step 2) of", marks=pytest.mark.slow),
    ],
)
def test_how_a_rank_ended_is_told_by_the_next_start(launch, gan_mpi, tmp_path, kind, code, said):
    kind, _, root = kind.partition(" of ")
    done = launch(*TRAIN, *inject(kind, 0 if root else 1), size=3)
    assert done.returncode == code, done.stderr
    assert said in status_of_what_is_gone(gan_mpi)
    again = gan_mpi(*TRAIN, size=3)
    assert again.returncode == 0 and f"the last start {said}" in again.stdout
    if kind == "kill":
        assert " in G update 2 (step 2), and of rank " in again.stdout, "to the phase"
        assert " in communication of D update 5 (step 3)." in again.stdout
        assert not pages_of(tmp_path)
    if kind == "raise":
        assert f"RuntimeError: --inject raise on rank {0 if root else 1} in step 3." in again.stdout


@pytest.mark.parametrize(("kind", "code"), [("nan", 76), ("delay=0.2s", 0)])
def test_a_fault_that_ends_all_or_none(gan_mpi, kind, code):
    done = gan_mpi(*TRAIN, *inject(kind), size=3)
    assert done.returncode == code, done.stderr
    assert ("diverged: the loss of D is nan in step 3." in done.stderr) == (kind == "nan")


@pytest.mark.parametrize(
    "text",
    [
        "kill",
        "rank=1,step=2,kind=explode",
        "rank=1,step=0,kind=kill",
        "rank=-1,step=1,kind=kill",
        "rank=1,kind=kill",
        "rank=1,step=2,kind=kill=3",
        "rank=1,step=2,kind=delay=soon",
        "rank=1,step=2,kind=kill,node=3",
    ],
)
def test_what_is_no_fault_is_refused(gan_mpi, tmp_path, text):
    done = gan_mpi(*TRAIN, "--inject", text)
    assert done.returncode == 2
    assert f"'--inject': {text!r} is not like rank=1,step=50,kind=raise|exit|kill" in done.stderr


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (inject("kill", 2), "there is no rank 2, ranks are 2."),
        (("--inject", "rank=1,step=7,kind=kill"), "there is no step 7, steps are 6."),
        ((*inject("kill"), "--average", "weights"), "it counts steps, and --average weights goes"),
    ],
)
def test_a_fault_that_cannot_happen_is_refused(gan_mpi, tmp_path, options, why):
    done = gan_mpi(*TRAIN, *options, size=2)
    assert done.returncode == 2
    assert f"'--inject': {why}" in done.stderr
    assert not (tmp_path / "run").exists()


def test_ranks_wait_for_ever_if_they_are_told_to(gan_mpi, tmp_path):
    done = gan_mpi(*TRAIN, "--hang-timeout", 0, size=2)
    assert done.returncode == 0
    assert not (tmp_path / "run" / PLACES).exists()
    done = gan_mpi(*TRAIN, "--hang-timeout", -1)
    assert done.returncode == 2 and "'--hang-timeout'" in done.stderr


class OneRank:
    """A communicator of one rank."""

    rank, world_size = 0, 1

    def on_root(self, function):
        return function()

    def barrier(self):
        pass

    def allgather(self, value):
        return [value]


def test_a_start_takes_away_what_older_ones_left(tmp_path):
    for number in (3, 5):
        folder = folder_of(tmp_path, number)
        (folder / "a folder").mkdir(parents=True)
        (folder / "0.stacks").write_text("")
    with Watchdog(OneRank(), tmp_path, 6, 60) as dog:
        assert dog.sees_all and places_in(tmp_path) == [folder_of(tmp_path, 6)]
    assert not (tmp_path / PLACES).exists()
    folder_of(tmp_path, 6).mkdir(parents=True)
    with Watchdog(OneRank(), tmp_path, 7, 0) as dog:
        assert not dog.sees_all
        assert not (tmp_path / PLACES).exists(), "nor where nobody watches"


@pytest.mark.slow
def test_where_places_cannot_be_written_a_rank_judges_itself_alone(gan_mpi, tmp_path):
    done = gan_mpi(*TRAIN, size=2)
    assert done.returncode == 0 and "Warning" not in done.stderr
    (tmp_path / "run" / PLACES).write_text("no folder")
    slow = code_of("[(time.sleep(0.3), HERE.move()) for _ in range(12)]", 1)
    longer = (*TRAIN, "--steps", 8, "--hang-timeout", 2)
    done = gan_mpi(*longer, size=2, code=slow.replace("step == 2", "step == 7"))
    assert done.returncode == 0, done.stderr
    assert "the ranks cannot all read and write in run: one that is suspended" in done.stderr


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("first line.\nsecond line."), "ValueError: first line"),
        (UserError("cannot write x: No space left on device."), "cannot write x: No space left"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (RuntimeError("x" * 900), "RuntimeError: " + "x" * 200),
    ],
)
def test_what_is_told_of_an_error_is_short(tmp_path, error, said):
    dog = Watchdog(OneRank(), tmp_path, 1, 60)
    with pytest.raises(type(error)), dog:
        raise error
    told = last_word(tmp_path)
    assert told.startswith(f"ended in its start of rank 0 on {platform.node()} ")
    assert f": {said}" in told and len(told.splitlines()) == 1 and not told.endswith(".")


def test_an_error_of_mpi_tells_nothing_and_leaves_the_place(tmp_path):
    """Another rank, which is gone, may have caused it, and who is behind tells which."""
    with pytest.raises(MPI.Exception), Watchdog(OneRank(), tmp_path, 1, 60):
        raise MPI.Exception(MPI.ERR_OTHER)
    assert last_word(tmp_path) == ""
    assert "ended without a word: last heard of rank 0 on " in end_of(tmp_path)


def test_what_all_ranks_find_alike_is_told_by_them(tmp_path):
    error = UserError("diverged")
    error.on_all_ranks = True
    with pytest.raises(UserError), Watchdog(OneRank(), tmp_path, 1, 60):
        raise error
    assert end_of(tmp_path) == ""


def test_a_file_system_that_does_not_answer_keeps_nobody():
    began = time.monotonic()
    assert within(0.1, lambda: time.sleep(1)) is None
    assert within(1, lambda: Path("/not/there").read_text()) is None
    assert within(1, lambda: 7) == 7
    assert time.monotonic() - began < 0.9


ABORT_BLOCKS = """
import time
from gan_mpi.lifecycle import watchdog
watchdog.LAST_RESORT = 2
watchdog.abort = lambda code: exec("while True: pass")
"""


@pytest.mark.launch
@pytest.mark.slow
def test_an_abort_that_does_not_return_ends_all_the_same(launch):
    code = ABORT_BLOCKS + MAIN
    done = launch(*TRAIN, "--hang-timeout", 2, *inject("loop"), size=2, fresh=True, code=code)
    assert done.returncode != 0 and "Error: rank 1 on " in done.stderr


def test_what_takes_long_moves_with_each_piece():
    """An evaluation, of which a rank may do much without a word to others."""
    comm = SimpleNamespace(rank=0, world_size=1)
    comm.agree, comm.allgather, comm.sum_in_place = lambda f: f(), lambda x: [x], lambda x: None
    rows, weights = np.ones((3 * kernel.ROWS, 2)), np.ones((3 * kernel.ROWS, 1))
    for piece, pieces in (
        (lambda: in_chunks(comm, 3 * CHUNK, lambda lo, hi: (np.zeros(hi - lo),)), 3),
        (lambda: kernel._sum_over_pairs(comm, rows, rows, weights, weights), 3),
        (lambda: list(neighbours._blocks(comm, rows[: 2 * neighbours.ROWS], rows)), 2),
        (lambda: POINTS.extract(rows), 1),
    ):
        before = HERE.moves
        piece()
        assert HERE.moves == before + pieces


@pytest.mark.parametrize("moves_on", [True, False])
def test_a_rank_that_moves_on_after_all_is_not_ended(tmp_path, monkeypatch, moves_on):
    ended = threading.Event()
    monkeypatch.setattr(watchdog, "GRACE", 0.4)
    monkeypatch.setattr(watchdog, "_end_process", ended.set)
    with Watchdog(OneRank(), tmp_path, 1, 0.5):
        stacks = folder_of(tmp_path, 1) / "0.stacks"
        until = time.monotonic() + 10
        while not stacks.exists():
            assert time.monotonic() < until
        if moves_on:
            HERE.move()
        assert ended.wait(1.5) != moves_on
        assert [stacks.exists(), stacks.with_suffix(".hangs").exists()] == [not moves_on] * 2
        assert bool(last_word(tmp_path)) != moves_on
        HERE.move()


def test_a_rank_that_was_asked_goes_on_once_none_asks_any_more(tmp_path, monkeypatch):
    """One that stalled asks for the end, moves after all, and the others wait for nothing else."""
    ended = threading.Event()
    monkeypatch.setattr(watchdog, "GRACE", 0.4)
    monkeypatch.setattr(watchdog, "_end_process", ended.set)
    with Watchdog(OneRank(), tmp_path, 1, 30) as dog:
        dog._pause = 0.1
        asks, other = (folder_of(tmp_path, 1) / name for name in ("7.hangs", "5.stacks"))
        asks.touch()
        other.touch()  # of another that was asked
        stacks = folder_of(tmp_path, 1) / "0.stacks"
        until = time.monotonic() + 10
        while not stacks.exists():
            assert time.monotonic() < until
        asks.unlink()
        assert not ended.wait(1.5)
        assert not stacks.exists()
        asks.touch()
        assert ended.wait(10), "and ends if one asks"
        asks.unlink()
        HERE.move()
