"""What goes wrong at random moments of real runs costs no more than is said; see faults.py."""

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]


@pytest.mark.launch
@pytest.mark.hours
def test_two_hundred_faults_at_random_moments():
    command = [sys.executable, "-m", "tests.faults", "--trials", "200", "--seed", "1"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "200 of 200 are as they should be" in done.stdout
