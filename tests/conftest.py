"""Ranks for plain pytest, which itself never initialises MPI."""

import functools
import gc
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from ranks.forks import Forks
from ranks.laptop import LAPTOP
from ranks.pool import Pool

HERE = Path(__file__).parent
BESIDE = Path(sys.executable).parent / "mpiexec"
MPIEXEC = shlex.split(os.environ.get("MPIEXEC", str(BESIDE) if BESIDE.exists() else "mpiexec"))
IS_MPICH = (
    "HYDRA"
    in subprocess.run([*MPIEXEC, "--version"], capture_output=True, text=True, check=False).stdout
)
RANKS = 5  # that stay
MAIN = "from gan_mpi.__main__ import main; main()"
# The same with few points in place of 10,000, which take seconds, and without their pictures.
MAIN_WITH_FEW_POINTS = (
    "from gan_mpi.datasets import find; from gan_mpi.recording import gallery, monitor\n"
    "find.DRAWN_TEST = gallery.POINTS = monitor.POINTS = 500\n"
    "gallery.draw_points = lambda *_: b''\n" + MAIN
)
WITH_STACKS = "import faulthandler; faulthandler.dump_traceback_later({}, exit=True); " + MAIN


SESSIONS = tempfile.TemporaryDirectory(prefix="gan-mpi-open-mpi-")


def environment():
    """Return the variables of a program started now, LAPTOP's and a folder for Open MPI.

    A killed mpiexec leaves ompi.PID there, on which a later one with the same PID fails.
    """
    return {**LAPTOP, "PRTE_MCA_prte_tmpdir_base": SESSIONS.name, **os.environ}


FORKS = Forks(HERE, environment)
STAY = Pool(RANKS, MPIEXEC, FORKS.python, environment)


def pytest_collection_modifyitems(items):
    """Mark what starts ranks; the others are the same with any MPI."""
    for item in items:
        starts_its_own = vars(item.module).get("MPIEXEC") is MPIEXEC
        if starts_its_own or {"ranks", "start"} & {*item.fixturenames}:
            item.add_marker("mpi")


def pytest_sessionstart(session):
    """Let the ranks come up while tests are collected, of which those of clusters take none."""
    if not session.config.option.collectonly and session.config.option.markexpr != "cluster":
        STAY.launch()  # and with it what forks


def pytest_collection_finish():
    """Keep what was imported out of the collector's way, in processes forked later too."""
    gc.freeze()


def pytest_sessionfinish(session):
    if STAY.process is not None:
        STAY.kill()
    FORKS.end()


@pytest.fixture(scope="session")
def ranks():
    """Do a job of ranks/main.py on the first of the ranks that stay, or on more of its own."""

    def run(size, job, timeout=60):
        if size <= STAY.size:
            return STAY.run(size, job, timeout)
        with Pool(size, MPIEXEC, FORKS.python, environment) as pool:
            return pool.run(size, job, timeout)

    return run


@pytest.fixture(scope="session")
def mpirun(ranks):
    """Run a function of a module of tests/ranks on `size` ranks; return the list of their answers.

    A deadlock ends with the stacks of all ranks.
    """

    def run(size, function, *arguments, timeout=60, charts=False):
        job = {"function": function, "arguments": arguments, "folder": str(HERE)}
        reports = ranks(size, {**job, "charts": charts}, timeout)
        for report in reports:
            assert report["out"] == "", "what runs quietly prints nothing"
        return [report["answer"] for report in reports]

    return run


def but_slow(names, quick):
    """Return parameters, of which those that are not quick are marked slow."""
    return [each if each in quick else pytest.param(each, marks=pytest.mark.slow) for each in names]


@pytest.fixture(scope="session")
def answer(mpirun):
    """Return what rank 0 answers to one of many cases (name: options) on 2 and 3 ranks, 4 steps.

    All quick ones are asked at once, and so are all others.
    """
    kept = {}

    def find(function, cases, quick, name):
        asked = function, name in quick
        if asked not in kept:
            named = [(n, given) for n, given in cases.items() if (n in quick) == asked[1]]
            kept[asked] = mpirun(3, function, [2, 3], 4, named, timeout=100)[0]
        return kept[asked][name]

    return find


@pytest.fixture
def start(request, tmp_path):
    """Start `gan-mpi ARGUMENTS` anew in tmp_path, under mpiexec if `size` is given.

    Only for tests marked launch: it takes seconds where `gan_mpi` takes none.  The processes are
    forks of one that has imported torch, unless they should be `fresh`: then they import it.
    """
    assert request.node.get_closest_marker("launch"), "not marked as a test that starts its own"
    started = []

    def run(*arguments, size=None, timeout=60, code=None, fresh=False, **variables):
        launch = [] if size is None else [*MPIEXEC, "-n", str(size)]
        folder = tempfile.mkdtemp(dir=SESSIONS.name)
        code = code or WITH_STACKS.format(timeout)
        python = [sys.executable, "-c", code] if fresh else FORKS.python(code)
        process = subprocess.Popen(
            [*launch, *python, *map(str, arguments)],
            cwd=tmp_path,
            env={**environment(), "PRTE_MCA_prte_tmpdir_base": str(folder), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def launch(start):
    """Run `gan-mpi ARGUMENTS` anew to its end; return the completed process."""

    def run(*arguments, timeout=60, **options):
        process = start(*arguments, timeout=timeout, **options)
        out, err = process.communicate(timeout=2 * timeout)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def gan_mpi_in(ranks):
    """Run `gan-mpi ARGUMENTS` in a folder on ranks that stay; return what a process would be.

    Without `size` it is as if there were no mpiexec.  `code` may change something for the time
    of main(), which it calls.  Without `charts` losses.png is empty: drawing it takes longer
    than most of these trainings.
    """

    def run(folder, *arguments, size=None, timeout=60, code=MAIN, charts=False, **variables):
        words = [*map(str, arguments)]
        job = {"code": code, "arguments": words, "folder": str(folder), "alone": size is None}
        reports = ranks(size or 1, {**job, "charts": charts, "variables": variables}, timeout)
        codes = {report["answer"] for report in reports}
        out, err = ("".join(report[name] for report in reports) for name in ("out", "err"))
        assert len(codes) == 1, f"the ranks left with {codes}:\n{out}{err}"
        return subprocess.CompletedProcess(words, *codes, out, err)

    return run


@pytest.fixture
def gan_mpi(gan_mpi_in, tmp_path):
    """Run `gan-mpi ARGUMENTS` in tmp_path as gan_mpi_in() does."""
    return functools.partial(gan_mpi_in, tmp_path)


def cluster_script(name, *arguments):
    """Call a script of tests/cluster; skip if it cannot, or fail where CI requires it."""
    command = [HERE / "cluster" / name, *arguments]
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        said = f"{name} failed: {done.stderr.strip()[-500:]}"
        if os.environ.get("GAN_MPI_CLUSTER") == "required":
            pytest.fail(said)
        pytest.skip(said)
    return done.stdout


def real_data(name):
    if not os.environ.get("GAN_MPI_DATA"):
        pytest.skip(f"GAN_MPI_DATA does not name a folder with {name}/ in it")
    return Path(os.environ["GAN_MPI_DATA"]).resolve() / name


@pytest.fixture(scope="session")
def mnist():
    """The folder of real MNIST, $GAN_MPI_DATA/mnist."""
    return real_data("mnist")


@pytest.fixture(scope="session")
def cifar10():
    """The folder of real CIFAR-10, or the first of it, $GAN_MPI_DATA/cifar-10-batches-bin."""
    return real_data("cifar-10-batches-bin")


@pytest.fixture(scope="session")
def mpich():
    """Only with MPICH's mpiexec."""
    if not IS_MPICH:
        pytest.skip("only MPICH's mpiexec passes on SIGINT and SIGTERM without a deadline")


@pytest.fixture
def idx_folder(tmp_path):
    """A folder with 60 small-valued images and labels as IDX files."""
    folder = tmp_path / "data"
    folder.mkdir()
    write_idx(folder)
    return folder


def write_idx(folder, count=60, side=28):
    pixels = np.arange(count * side * side) % 251
    labels = np.arange(count) % 10
    write_idx_files(folder, "train", pixels.reshape(count, side, side), labels)


def write_idx_files(folder, prefix, images, labels):
    """Write images (N, H, W) and labels (N,) as IDX files; `prefix` is train or t10k."""
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = bytes([0, 0, 8, array.ndim])
        header += b"".join(size.to_bytes(4, "big") for size in array.shape)
        data = header + array.astype(np.uint8).tobytes()
        (folder / f"{prefix}-{kind}-ubyte").write_bytes(data)


def write_glyphs(folder, first, count, tests=0, labels=range(10)):
    """Write glyphs `first` to `first + count` of these labels, and so many test glyphs, as npz."""
    from gan_mpi.datasets.drawn import draw_glyphs
    from gan_mpi.datasets.npz import bytes_of

    folder.mkdir(parents=True)
    images, known = draw_glyphs(first + count)
    images, labels = (each[np.isin(known, list(labels))] for each in (images, known))
    (folder / "train.npz").write_bytes(bytes_of(images[first:], labels[first:]))
    if tests:
        (folder / "test.npz").write_bytes(bytes_of(images[:tests], labels[:tests]))
