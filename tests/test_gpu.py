"""The checks of tests/gpu run from end to end with the CPU in both roles."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).parent / "gpu" / "check.py"


@pytest.mark.hours
@pytest.mark.parametrize("stage", ["parity", "paths", "speed"])
def test_a_stage_passes_with_the_cpu_in_both_roles(stage, tmp_path):
    command = [sys.executable, CHECK, stage, "--device", "cpu", "--steps", "3", "--out", tmp_path]
    done = subprocess.run(command, text=True, capture_output=True, timeout=900, check=False)
    found = json.loads((tmp_path / f"gpu-{stage}.json").read_text())
    assert done.returncode == 0 and found["passed"], done.stdout
    assert len(found["checks"]) > 7 and all(each["passed"] for each in found["checks"])
