"""Ranks on unlike processors train one model: by one instruction set, or by root's tensors."""

import shutil
import subprocess
import sys

import pytest
from conftest import MPIEXEC, environment
from test_resume import assert_same_bits, last_state

from gan_mpi.cluster import processors
from gan_mpi.runs.segments import changes, read_segments

AVX512 = "avx2 fma avx512f avx512bw avx512vl avx512dq"

pytestmark = pytest.mark.launch
LEAST = {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
EVERYWHERE = {**LEAST, "ONEDNN_MAX_CPU_ISA": "SSE41"}
SMALL = ("--glyphs", "100", "--batch", "12", "--latent-dim", "8", "--checkpoint-every", "1")
OFTEN = ["basic", *(pytest.param(name, marks=pytest.mark.long) for name in ("small", "federated"))]
RUNS = {
    "basic": ("--d-norm", "spectral", "--steps", "6"),
    "small": ("--preset", "small", "--steps", "3"),
    "federated": ("--preset", "federated", "--every", "2", "--steps", "4"),
}
MAIN = "from gan_mpi.__main__ import main\n{}\nsys.exit(main())"
UNSETTLED = "import gan_mpi.cluster.processors as p; p.settle_processors = lambda comm: ''"
UNSEEN = f"{UNSETTLED}\nimport gan_mpi.training.replicas as r; r.compute_alike = lambda *_: True"


def train(folder, *options, patch="", on=(1,), variables=LEAST):
    """Train on two ranks, of which those in `on` have the least of a processor's instructions."""
    words = [sys.executable, "-c", "import sys\n" + MAIN.format(patch), "train", *SMALL, *options]
    least = ["env", *(f"{name}={value}" for name, value in variables.items())]
    ranks = [["-n", "1", *(least if rank in on else []), *words] for rank in range(2)]
    return subprocess.run(
        [*MPIEXEC, *ranks[0], ":", *ranks[1]],
        cwd=folder,
        env={**environment(), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", OFTEN)
def test_all_ranks_use_the_least_instruction_set_that_one_has(tmp_path, name):
    """And then train, to the bit, what ranks do that all have the least."""
    mixed = train(tmp_path, *RUNS[name], "--run-dir", "mixed")
    assert mixed.returncode == 0, mixed.stderr
    said = "different instruction sets; all use those of ATEN_CPU_CAPABILITY=default"
    assert mixed.stderr.count(said) == 1
    least = train(tmp_path, *RUNS[name], "--run-dir", "least", on=(0, 1), variables=EVERYWHERE)
    assert least.returncode == 0 and said not in least.stderr
    assert_same_bits(last_state(tmp_path / "mixed"), last_state(tmp_path / "least"))
    (segment,) = read_segments(tmp_path / "mixed")
    assert segment["processors"] == [f"{processors.processor()} (DEFAULT)"]


@pytest.mark.slow
@pytest.mark.parametrize("name", OFTEN)
def test_where_that_does_not_help_all_get_roots_tensors(tmp_path, name):
    result = train(tmp_path, *RUNS[name], "--run-dir", "run", patch=UNSETTLED)
    assert result.returncode == 0, result.stderr
    if name != "federated":
        assert result.stdout.count("the ranks' processors do not compute alike: after every") == 1
    (segment,) = read_segments(tmp_path / "run")
    assert len(segment["processors"]) == 2 and segment["state"] == "done"


@pytest.mark.long
def test_a_difference_that_comes_of_it_is_called_by_its_name(tmp_path):
    """Without what keeps them alike; else these tests could not fail."""
    result = train(tmp_path, *RUNS["basic"], "--run-dir", "run", patch=UNSEEN)
    assert result.returncode == 1
    assert "on rank 1 is not what it is on rank 0" in result.stderr
    assert "its rank computes on another kind of processor" in result.stderr


def test_what_is_not_as_before_is_said_when_a_run_goes_on():
    before = {"ranks": 3, "threads": [1, 1, 1], "processors": ["A (AVX2)"], "devices": ["cpu"]}
    before["versions"] = {"torch": "2.13.0", "numpy": "2.4.6", "mpi": "MPICH 5.0.2"}
    assert changes(before, before) == changes({"ranks": 3, "devices": ["cpu"]}, before) == []
    assert changes(before, {**before, "devices": ["cuda:0", "cuda:1"]}) == [
        "device (cuda:0, cuda:1)"
    ]
    two = {**before, "ranks": 2, "threads": [2, 2], "processors": ["B (AVX512)"]}
    assert changes(before, two) == ["ranks (2, before 3)", "processor (B (AVX512))"]
    other = {
        **before,
        "threads": [1, 1, 2],
        "versions": {**before["versions"], "mpi": "Open MPI 5"},
    }
    assert changes(before, other) == ["threads", "mpi (Open MPI 5, before MPICH 5.0.2)"]
    parts = {**before, "micro_batch": 64}
    assert changes(before, parts) == ["--micro-batch (64 at once)"]
    assert changes(parts, before) == ["--micro-batch (all at once)"]
    newer = {**before, "arithmetic": 2}
    assert changes(before, newer) == ["arithmetic of gan-mpi (2, before 1)"], "1 is not written"
    pair = {**before, "ranks": 2, "threads": [1, 1]}
    assert changes(pair, {**pair, "versions": other["versions"]}) == [], "one order of two numbers"
    pieces = {**before, "pieces": True}
    assert changes(before, pieces) == ["sums of gradients (in pieces)"]
    on_cards = {**pieces, "cuda_aware": True}
    assert changes(pieces, on_cards) == ["sums of gradients (in pieces, on GPUs)"]
    assert changes(on_cards, pieces) == ["sums of gradients (in pieces)"]
    assert changes(pair, {**pair, "pieces": True, "cuda_aware": True}) == []


def test_an_instruction_set_is_the_least_of_processor_and_variables(monkeypatch, tmp_path):
    for name in processors.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(processors, "CPUINFO", tmp_path / "cpuinfo")
    assert processors._level() == 0, "no file"
    (tmp_path / "cpuinfo").write_text("model name\t: X 1\nflags\t\t: sse2 avx2 fma\n")
    assert (processors.processor(), processors._level()) == ("X 1", 1)
    monkeypatch.setenv("MKL_ENABLE_INSTRUCTIONS", "avx512")
    assert processors._level() == 1
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert processors._level() == 0


@pytest.mark.parametrize(
    ("vendor", "flags", "variables", "library"),
    [
        ("GenuineIntel", AVX512, {}, "mkl"),
        ("AuthenticAMD", AVX512, {}, "onednn"),
        ("AuthenticAMD", "avx2 fma", {}, "mkl"),
        ("AuthenticAMD", AVX512, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "mkl"),
        ("GenuineIntel", AVX512, {"MKL_ENABLE_INSTRUCTIONS": "AVX2"}, "onednn"),
        ("GenuineIntel", AVX512, dict.fromkeys(processors.VARIABLES, "AVX2"), "mkl"),
        ("GenuineIntel", "sse2", {}, "mkl"),
        ("", "", {}, "mkl"),
    ],
)
def test_linear_layers_are_by_what_uses_most_of_a_processor(
    monkeypatch, tmp_path, vendor, flags, variables, library
):
    for name in processors.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processors, "CPUINFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text(f"vendor_id\t: {vendor}\nflags\t\t: {flags}\n")
    assert processors.linear_library() == library


OF = "import gan_mpi.training.start as s\nfrom unittest.mock import patch\n"
OF += "from gan_mpi.__main__ import main\n"
OF += "with patch.object(s, 'linear_library', lambda: '{}'): main()"


@pytest.mark.parametrize("preset", ["basic", pytest.param("federated", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("first", "then"), [("onednn", "mkl"), ("mkl", "onednn")])
def test_a_run_goes_on_with_the_library_that_it_began_with(gan_mpi, tmp_path, preset, first, then):
    """And says so on a processor for which another would be chosen, and is the same to the bit."""
    words = ("train", "--preset", preset, "--glyphs", 60, "--batch", 12, "--checkpoint-every", 2)
    words += ("--every", "2") if preset == "federated" else ()
    whole = gan_mpi(*words, "--steps", 4, "--run-dir", "whole", size=2, code=OF.format(first))
    assert whole.returncode == 0, whole.stderr
    began = "linear layers are oneDNN's: MKL leaves instructions of this processor unused."
    assert (began in whole.stdout) == (first == "onednn")
    gan_mpi(*words, "--steps", 2, "--run-dir", "again", size=2, code=OF.format(first))
    for there, told in ((first, 0), (then, 1)):
        shutil.copytree(tmp_path / "again", tmp_path / there)
        more = ("train", "--resume", there, "--steps", 4)
        done = gan_mpi(*more, size=2, code=OF.format(there))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("linear layers") == told
        assert_same_bits(last_state(tmp_path / "whole"), last_state(tmp_path / there))
    names = {"onednn": "oneDNN", "mkl": "MKL"}
    assert f"linear layers go on with {names[first]}, with which this run began" in done.stdout
    assert f"a new one would take {names[then]}." in done.stdout
    kept = [v for k, v in last_state(tmp_path / "whole").items() if "kernels" in str(k)]
    assert kept == (["onednn"] if first == "onednn" else [])
