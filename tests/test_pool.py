"""The ranks that stay for all tests: what one job does, the next one does not find."""

import re
import time

import pytest
from conftest import FORKS, MAIN, MPIEXEC, environment
from ranks.pool import JobFailed, Pool


@pytest.fixture(scope="module")
def pool():
    with Pool(2, MPIEXEC, FORKS.python, environment) as pool:
        yield pool


def do(pool, size, function, *arguments, timeout=20):
    job = {"function": function, "arguments": arguments, "folder": "."}
    return [report["answer"] for report in pool.run(size, job, timeout)]


def told(caught, rank, what):
    """Return what a failure says of a rank."""
    return str(caught.value).partition(f"-- rank {rank}, {what}:")[2].partition("\n-- ")[0]


def test_a_job_has_the_ranks_that_it_asks_for(pool):
    assert do(pool, 1, "sizes") == [[1, 1]]
    assert do(pool, 2, "sizes") == [[2, 2]] * 2


def test_a_deadlock_ends_within_its_limit_with_the_stacks_of_both_ranks(pool):
    """One waits in a collective that the other never calls."""
    do(pool, 2, "sizes")
    begin = time.monotonic()
    with pytest.raises(JobFailed, match="not done in 1 s") as caught:
        do(pool, 2, "deadlock", timeout=1)
    assert time.monotonic() - begin < 10
    for rank, place in ((0, "allgather"), (1, "wait_elsewhere")):
        stacks = told(caught, rank, "hangs")
        assert f" in {place}\n" in stacks and " in deadlock\n" in stacks
    assert do(pool, 2, "sizes") == [[2, 2]] * 2


@pytest.mark.slow
def test_a_failure_of_one_rank_is_shown_with_the_stacks_of_the_other(pool):
    with pytest.raises(JobFailed, match="rank 1 failed") as caught:
        do(pool, 2, "failure", 1)
    assert "ValueError: a failure of the test" in told(caught, 1, "failed")
    assert " in allgather\n" in told(caught, 0, "hangs")
    assert do(pool, 2, "sizes") == [[2, 2]] * 2


def test_a_rank_that_is_gone_is_named(pool):
    with pytest.raises(JobFailed, match="this rank is gone"):
        do(pool, 2, "escape")
    assert do(pool, 2, "sizes") == [[2, 2]] * 2


def test_an_abort_is_a_failure_with_what_was_said(pool):
    """Rank 1 has another option, which ends the job of a real launcher."""
    code = (
        "import sys; from gan_mpi.mpi import launcher\n"
        f"if launcher.rank() == 1: sys.argv[1:] = ['train', '--batch', 'x']\n{MAIN}"
    )
    words = ["train", "--glyphs", "20", "--steps", "1"]
    with pytest.raises(JobFailed, match="aborts the job with code 2") as caught:
        pool.run(2, {"code": code, "arguments": words, "folder": "."}, 20)
    assert "'x' is not a whole number" in told(caught, 1, "err")


def test_what_a_job_changes_is_put_back(pool):
    before = do(pool, 2, "look_around")
    assert do(pool, 2, "leave_a_mess") == [True, True], "a window is left"
    after = do(pool, 2, "look_around")
    for one, other in zip(before, after, strict=True):
        assert one == other
    pids = do(pool, 2, "process_id")
    assert do(pool, 2, "process_id") == pids, "the same ranks"


@pytest.mark.slow
def test_ranks_that_cannot_be_put_back_are_replaced(pool):
    pids = do(pool, 2, "leave_a_thread")
    assert not {*pids} & {*do(pool, 2, "process_id")}


def test_communicators_are_given_back(pool):
    """MPICH has 2048 of them."""
    pids = do(pool, 2, "process_id")
    for _ in range(6):
        do(pool, 2, "drop_communicators", 300)
    assert do(pool, 2, "process_id") == pids


def test_variables_are_those_of_the_caller_now(pool, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    for found in do(pool, 2, "look_around"):
        assert found["environment"]["XDG_CACHE_HOME"] == "/elsewhere"
    monkeypatch.delenv("XDG_CACHE_HOME")
    for found in do(pool, 2, "look_around"):
        assert "XDG_CACHE_HOME" not in found["environment"]


@pytest.mark.parametrize("size", [1, 2])
def test_the_launcher_says_how_many_ranks_the_job_has(pool, size):
    code = "from gan_mpi.mpi import launcher as l; print(l.rank(), l.process_count())"
    job = {"code": code, "arguments": [], "folder": "."}
    reports = pool.run(size, job, 20)
    assert [report["out"] for report in reports] == [f"{n} {size}\n" for n in range(size)]
    (alone,) = pool.run(1, {**job, "alone": True}, 20)
    assert alone["out"] == "None 1\n"


def test_ranks_that_do_not_come_up_are_a_failure(tmp_path):
    with (
        Pool(2, ["sh", "-c", "echo no such launcher; exit 1"], FORKS.python, environment) as pool,
        pytest.raises(JobFailed, match="did not come up:\nno such launcher"),
    ):
        do(pool, 2, "sizes")


def test_a_fresh_start_needs_its_mark(request):
    with pytest.raises(AssertionError, match="not marked"):
        request.getfixturevalue("start")


def essence(text):
    """Return what a run says but for its seconds and speeds, and without Open MPI's obituary."""
    text = text.partition("-" * 74)[0]
    return re.sub(r"(?<=started in ).*|\d+ img/s|comm \d+%|\d+:\d\d", "", text)


@pytest.mark.slow
@pytest.mark.launch
@pytest.mark.parametrize("words", [["tain"], ["train", "--glyphs", "20", "--steps", "1"]])
def test_a_job_of_the_pool_ends_as_a_launch_does(launch, gan_mpi_in, tmp_path_factory, words):
    one, other = (
        launch(*words, size=2, fresh=True),
        gan_mpi_in(tmp_path_factory.mktemp("x"), *words, size=2),
    )
    assert one.returncode == other.returncode
    for stream in ("stdout", "stderr"):
        texts = [essence(getattr(each, stream)) for each in (one, other)]
        assert texts[0] == texts[1]
