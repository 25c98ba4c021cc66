"""Training in bfloat16: near fp32 on any number of ranks, and resumed to the bit; and in TF32."""

import pytest
import torch
from conftest import MAIN

from gan_mpi.cluster import processors
from gan_mpi.runs.checkpoint import read_checkpoint

SMALL = {"batch": 12}
CASES = {
    "basic": {"preset": "basic", **SMALL},
    "small": {"preset": "small", **SMALL},  # conditional, with a penalty
    "spectral": {"preset": "lightning", "d_norm": "spectral", **SMALL},
    "penalised": {"preset": "lightning", "gradient_penalty": 1.0, **SMALL},
}


@pytest.fixture(scope="module")
def found(mpirun):
    calls = [["in_bfloat16", options] for options in CASES.values()]
    everyone = mpirun(3, "several", calls, timeout=250)
    return dict(zip(CASES, everyone[0], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_fp32_to_its_rounding(found, name):
    """Its numbers have 8 bits: one in 256."""
    (rounding, together, alone), *_ = found[name]
    assert rounding < 1e-3, "fp32 on one rank and on three"
    assert 1e-4 < together < 0.03 and 1e-4 < alone < 0.03, "bfloat16 was not used, or for too much"


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_weights_statistics_and_sums_stay_in_float32(found, name):
    assert found[name][1] == ["torch.float32"]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_resumed_run_is_the_same_to_the_bit(found, name):
    same, gap, where = found[name][2]
    assert same and gap == 0, where


@pytest.mark.parametrize("flags", ["fpu sse2 avx512f", "fpu avx512f avx512_bf16", "amx_bf16"])
def test_a_processor_without_it_is_warned_of(gan_mpi, tmp_path, monkeypatch, flags):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"model name\t: One\nflags\t\t: {flags}\n")
    monkeypatch.setattr(processors, "CPUINFO", cpuinfo)
    assert processors.has_bfloat16() == ("bf16" in flags)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    assert not processors.has_bfloat16()
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    code = (
        "from pathlib import Path; from gan_mpi.cluster import processors; "
        f"known, processors.CPUINFO = processors.CPUINFO, Path({str(cpuinfo)!r})\n"
        "from gan_mpi.__main__ import main\n"
        "try: main()\nfinally: processors.CPUINFO = known"
    )
    command = ("train", "--glyphs", 20, "--batch", 4, "--steps", 1, "--precision", "bf16")
    done = gan_mpi(*command, size=2, code=code)
    assert done.returncode == 0, done.stderr
    warned = "without instructions for bfloat16"
    assert done.stderr.count(warned) == ("bf16" not in flags)


def test_tf32_is_fp32_on_a_cpu_which_is_said_once(gan_mpi, tmp_path):
    for precision, size in (("fp32", None), ("tf32", 2)):
        command = ("train", "--glyphs", 60, "--batch", 12, "--steps", 3, "--run-dir", precision)
        done = gan_mpi(*command, "--precision", precision, size=size)
        assert done.returncode == 0, done.stderr
        said = (
            "--precision tf32 is for GPUs of compute capability 8.0 and more; on a CPU it is fp32"
        )
        assert done.stderr.count(said) == (precision == "tf32")
    weights = [
        read_checkpoint(tmp_path / p / "checkpoint-000003.pt")["G"] for p in ("fp32", "tf32")
    ]
    for name, weight in weights[0].items():
        assert torch.allclose(weight, weights[1][name], rtol=0, atol=1e-6), name


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_a_gpu_rounds_to_tf32_in_the_turns_of_such_a_run_alone(gan_mpi, precision):
    """Forward, backward and update are within; a sample is not."""
    code = (
        """
import torch
from gan_mpi.game import updates
from gan_mpi.recording import gallery
def told(place, name):
    plain = getattr(place, name)
    def say(*arguments, **more):
        flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        print(name, *map(int, flags))
        return plain(*arguments, **more)
    setattr(place, name, say)
told(updates, "_backward")
told(gallery, "generate")
"""
        + MAIN
    )
    command = ("train", "--glyphs", 60, "--batch", 12, "--steps", 1, "--precision", precision)
    done = gan_mpi(*command, code=code)
    assert done.returncode == 0, done.stderr
    flags = "1 1" if precision == "tf32" else "0 0"
    assert done.stdout.count(f"_backward {flags}\n") == 5
    assert done.stdout.count("generate 0 0\n") == 2
