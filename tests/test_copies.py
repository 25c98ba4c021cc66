"""Gradients of several ranks' devices cross in pieces, beside what is computed."""

import json

import pytest
from conftest import MAIN, but_slow

BASE = {"batch": 10, "latent_dim": 10}
CASES = {
    "basic": BASE,
    "dcgan": {"preset": "dcgan", "batch": 6},
    "local batch norm": {"network": "dcgan", "batch_norm": "local", "latent_dim": 8, "batch": 6},
    "separate updates": BASE | {"d_update": "separate", "ema": 0.1, "optimizer": "adam"},
    "in parts on some ranks": BASE | {"micro_batch": 3},
    "balance": BASE | {"schedule": "balance"},
    "G alone": BASE | {"train": "generator"},
    "more ranks than images": BASE | {"batch": 2},
}
QUICK = ("basic", "in parts on some ranks")


@pytest.fixture
def found(answer, name):
    return answer("staged", CASES, QUICK, name)


@pytest.mark.parametrize("size", ["2", "3"])
@pytest.mark.parametrize("name", but_slow(CASES, QUICK))
def test_what_a_device_copies_late_makes_the_same_model(found, name, size):
    """Nothing is looked at, summed or changed before its copy is there."""
    apart, where = found[size]["host"]
    assert apart < 1e-11, where
    assert found[size]["late"] == [0, 0], "copies that are late, and no overlap, are the same"


@pytest.mark.parametrize("size", ["2", "3"])
@pytest.mark.parametrize("name", but_slow(CASES, QUICK))
def test_an_mpi_that_reads_memory_of_devices_makes_the_same_model(found, name, size):
    apart, where = found[size]["direct"]
    assert apart < 1e-12, where


@pytest.mark.parametrize("name", but_slow(CASES, QUICK))
def test_pieces_are_copied_while_a_backward_goes_on(found, name):
    """On 3 ranks root has one part only."""
    assert found["3"]["within"] > 0
    on_host, *on_device = found["3"]["messages"]
    assert len(set(on_device)) == 1 and on_device[0] > on_host


ON_A_DEVICE = (
    """
from gan_mpi.parallel import staging
from gan_mpi.training import replicas
from ranks.copies import LateCopies
staging.is_host = lambda device: False
staging.copies_of = LateCopies
staging.reads_devices = lambda: True
"""
    + MAIN
)


def test_a_run_whose_gradients_mpi_reads_is_the_one_whose_gradients_are_copied(gan_mpi, tmp_path):
    options = ("--glyphs", 60, "--batch", 12, "--steps", 4, "--run-dir")
    for name, more in (("copied", ()), ("read", ("--cuda-aware",))):
        done = gan_mpi("train", *options, name, *more, size=2, code=ON_A_DEVICE)
        assert done.returncode == 0, done.stderr
        assert ("MPI reads gradients in the GPUs' memory" in done.stdout) == (name == "read")
    one, other = (tmp_path / name / "checkpoint-000004.pt" for name in ("copied", "read"))
    assert one.read_bytes() == other.read_bytes()
    records = [
        json.loads((tmp_path / n / "segments.jsonl").read_text()) for n in ("copied", "read")
    ]
    assert [each.get("cuda_aware", False) for each in records] == [False, True]
    assert all(each["pieces"] for each in records)


@pytest.mark.parametrize(
    ("code", "options", "exit_code", "why"),
    [
        (MAIN, (), 1, "it is for GPUs, and ranks compute on CPUs; leave it out."),
        (MAIN, ("--average", "weights"), 2, "it is for sums of gradients, and --average weights"),
        (
            ON_A_DEVICE.replace("True", "False"),
            (),
            1,
            "this MPI says that it reads no memory of GPUs; leave it out.",
        ),
        (
            "from gan_mpi.parallel import staging\n"
            "staging.device_array = lambda tensor: tensor.numpy().copy()\n" + ON_A_DEVICE,
            (),
            1,
            "MPI summed 1 of 1 numbers of a GPU's memory wrongly; leave it out, and gradients",
        ),
    ],
)
def test_an_mpi_that_cannot_read_gradients_is_not_given_them(
    gan_mpi, tmp_path, code, options, exit_code, why
):
    options = ("--glyphs", 20, "--batch", 4, "--cuda-aware", "--run-dir", "run", *options)
    done = gan_mpi("train", *options, size=2, code=code)
    assert done.returncode == exit_code
    assert done.stderr.count("Invalid value for '--cuda-aware': ") == 1 and why in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (("--cuda-aware",), 1),
        (("--cuda-aware", "--device", "cuda"), 1),
        (("--cuda-aware", "--device", "cuda:0"), 0),
        (("--no-cuda-aware", "--device", "cuda"), 0),
    ],
)
def test_an_mpi_that_reads_gradients_sees_one_gpu(gan_mpi, options, shown):
    code = "from gan_mpi.commands import train\ntrain.show_own_card = lambda: print('shown')\n"
    done = gan_mpi("train", "--glyphs", 20, *options, size=1, code=code + MAIN)
    assert done.returncode == 1
    assert done.stdout.count("shown") == shown
