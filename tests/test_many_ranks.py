"""Far more ranks than cores."""

import re

import pytest
from test_resume import apart, last_state

RANKS = 64
BASIC = ("train", "--glyphs", "2000", "--precision", "fp64", "--steps", "20")


@pytest.mark.long
def test_64_ranks_compute_what_one_does(gan_mpi, tmp_path):
    one = gan_mpi(*BASIC, "--run-dir", "one")
    assert one.returncode == 0, one.stderr
    many = gan_mpi(*BASIC, "--run-dir", "many", size=RANKS, timeout=500)
    assert many.returncode == 0, many.stderr[-2000:]
    assert "batch 1024: 16 images on each rank in every update" in many.stdout
    phases = "started in .* s: python .*, MPI .*, imports .*, data .*, networks .*, first"
    print(re.search(phases + ".*", many.stdout)[0])
    gap = apart(last_state(tmp_path / "one"), last_state(tmp_path / "many"))
    print(f"{gap:.1e} apart")
    assert gap < 1e-9
