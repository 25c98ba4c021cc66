"""No rank dies alone: whatever fails on one ends all, promptly, with a code and one sentence."""

import subprocess
import time

import pytest
from conftest import FORKS, IS_MPICH, MPIEXEC, environment, write_idx

from gan_mpi.mpi import launcher
from gan_mpi.mpi.comm import free_bytes

# Rank 1 of a training on real files does this in the middle of step 3, or before MPI starts.
IN_A_STEP = """
import faulthandler, os, sys, time
from pathlib import Path
faulthandler.dump_traceback_later(40, exit=True)
from gan_mpi.__main__ import main
sys.argv[1:] = ["train", "--glyphs", "50", "--batch", "30", "--steps", "5", "--quiet"]
from gan_mpi.training.turn import Turn
calls, play = [], Turn.play
def failing(turn):
    calls.append(turn)
    if turn.comm.rank == 1 and len(calls) == 3:
        Path("failed").touch()
        {failure}
    return play(turn)
Turn.play = failing
main()
"""
BEFORE_MPI = """
import os, sys
rank = os.environ.get("PMI_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK")
sys.argv[1:] = ["train", "--glyphs", "50", "--steps", "5", "--quiet"]
if rank == "1":
    sys.modules["gan_mpi.commands.sample"] = None
from gan_mpi.__main__ import main
main()
"""
ONE_WRONG_OPTION = """
import os, sys
rank = os.environ.get("PMI_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK")
sys.argv[1:] = ["train", "--glyphs", "50", "--batch", "x" if rank == "1" else "30"]
from gan_mpi.__main__ import main
main()
"""
FAILURES = {
    "exception": "raise ValueError('failed in step ' + str(3))",
    "click": "import click; raise click.ClickException('failed in step ' + str(3))",
    "exit 3": "sys.exit(3)",
    "exit 0": "sys.exit(0)",
}
CODES = {"exception": 1, "click": 1, "exit 3": 3, "exit 0": 1}


@pytest.mark.launch
@pytest.mark.parametrize(
    "kind",
    [
        "exception",
        "exit 0",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("click", "exit 3")),
    ],
)
def test_a_rank_that_fails_in_a_step_ends_the_job(launch, tmp_path, kind):
    result = launch(size=2, code=IN_A_STEP.format(failure=FAILURES[kind]), timeout=40)
    assert result.returncode == CODES[kind], result.stderr
    assert time.time() - (tmp_path / "failed").stat().st_mtime < 10
    assert result.stderr.count("failed in step 3") == (kind in ("exception", "click"))
    assert "Rank 1 on " in result.stderr


@pytest.mark.launch
@pytest.mark.parametrize("code", [BEFORE_MPI, ONE_WRONG_OPTION], ids=["import", "option"])
def test_a_rank_that_fails_before_mpi_ends_the_job(launch, code):
    begin = time.monotonic()
    result = launch(size=3, code=code, timeout=40, fresh=True)
    assert result.returncode in (1, 2), result.stderr
    assert time.monotonic() - begin < 10


@pytest.mark.launch
def test_a_usage_error_is_printed_once(launch, tmp_path):
    for arguments in (("train", "--batch", "0"), ("sample", "--grid", "x"), ("tain",)):
        result = launch(*arguments, size=3, fresh=True)
        assert result.returncode == 2
        assert result.stderr.count("Error: ") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_said_once_without_a_traceback(gan_mpi, tmp_path):
    result = gan_mpi("train", "--datadir", "absent", size=3)
    assert result.returncode == 1
    assert result.stderr.count("--datadir: absent does not exist; sought were") == 1
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_bad_files_are_named_on_all_ranks_and_leave_nothing_behind(mpirun, tmp_path):
    """Each case of test_datasets.py as a run sees it; every rank raises the same sentence."""
    runs, expected = [], []

    def case(name, said, prepare):
        folder = tmp_path / name
        folder.mkdir()
        prepare(folder)
        runs.append({"datadir": name})
        expected.append(said)

    def cut(folder):
        write_idx(folder)
        path = folder / "train-images-idx3-ubyte"
        path.write_bytes(path.read_bytes()[:-9])

    text = "Train-28x28_cntk_text.txt"
    case(
        "empty",
        "empty holds no data; sought were train-images-idx3-ubyte",
        lambda f: None,
    )
    case("cut", "train-images-idx3-ubyte is truncated: 47031 bytes of data", cut)
    case("folder", "folder holds no data", lambda f: (f / "train-images-idx3-ubyte").mkdir())
    case("size", "images of 20x20 pixels", lambda f: write_idx(f, side=20))
    case(
        "text",
        f"{text}, line 1: 'features' has 783 values, not 784",
        lambda f: (f / text).write_text("|labels 0:1 |features " + "0 " * 783),
    )
    (tmp_path / "file").write_text("")
    runs += [{"glyphs": 20, "outdir": "file/runs"}, {"glyphs": 20, "run_dir": "text"}]
    expected += [
        "--outdir: cannot make a folder in file/runs: Not a directory",
        "holds files",
    ]
    answers = mpirun(3, "train_outcomes", runs, str(tmp_path))
    assert answers[0] == answers[1] == answers[2]
    for (message, code, on_all_ranks), said in zip(answers[0], expected, strict=True):
        assert said in message
        assert (code, on_all_ranks) == (1, True)
    assert not list(tmp_path.rglob("*.pt"))
    assert not (tmp_path / "runs").exists()


def test_a_full_disk_is_noticed_before_the_first_step(tmp_path, gan_mpi):
    """A file system of 512 KiB holds no checkpoint of 863 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        result = gan_mpi("train", "--glyphs", "50", "--outdir", disk, size=2)
        left = [path.name for path in disk.rglob("*.pt")]
    finally:
        subprocess.run(["umount", disk], check=True)
    assert result.returncode == 1
    assert result.stderr.count("checkpoint-000000.pt: No space left on device.") == 1
    assert "Traceback" not in result.stderr
    assert left == []


@pytest.mark.launch
def test_the_launcher_of_another_mpi_is_refused(launch, tmp_path):
    """As N singletons see it: a launcher that says 3, and a world of 1."""
    for variables in (
        {"PMI_SIZE": "3", "PMI_RANK": "0"},
        {"SLURM_STEP_NUM_TASKS": "3"},
    ):
        if IS_MPICH and "PMI_SIZE" in variables:
            continue  # its own launcher's variable
        for command in (("train", "--glyphs", "20"), ("sample",)):
            result = launch(*command, **variables)
            assert result.returncode == 64
            assert "the launcher started 3 processes for another MPI" in result.stderr
            assert launcher.matching_mpiexec() in result.stderr
            assert list(tmp_path.iterdir()) == []


def test_free_bytes():
    assert free_bytes("/") > 0
    assert free_bytes("/no/such/folder") == 0


SIGNALLED = """
import os, signal, sys
from gan_mpi.__main__ import main
if sys.argv[-1] == "--tell":
    sys.argv.pop()
    from gan_mpi.training.turn import Turn
    play = Turn.play
    def signalled(turn):
        if turn.comm.rank == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        return play(turn)
    Turn.play = signalled
main()
"""
OPTIONS = {0: (), 2: ("--batch", "0"), 75: ("--tell",), 76: ("--lr", "1e38")}


@pytest.mark.launch
@pytest.mark.parametrize(
    "code", [*(pytest.param(c, marks=pytest.mark.slow) for c in (0, 2, 76)), 75]
)
def test_all_ranks_leave_with_one_code(tmp_path, code):
    """MPICH's mpiexec combines the codes of its ranks bit by bit: 75 and 76 would make 79."""
    own = '"$@"; code=$?; echo $code > code-$$; exit $code'
    train = ("train", "--glyphs", "50", "--batch", "30", "--steps", "8", *OPTIONS[code])
    words = ("sh", "-c", own, "sh", *FORKS.python(SIGNALLED), *train)
    done = subprocess.run(
        [*MPIEXEC, "-n", "3", *words],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    codes = [path.read_text().strip() for path in tmp_path.glob("code-*")]
    assert set(codes) == {str(code)}
    if IS_MPICH:  # Open MPI's ends the shells of others once the first leaves with a code
        assert len(codes) == 3
