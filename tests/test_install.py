"""What launch/README.md says of installing where there is no internet."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]


@pytest.mark.cluster
def test_a_folder_of_wheels_installs_without_a_network(tmp_path):
    """The README's two commands, the second one where there is no network at all."""
    text = (TOP / "launch" / "README.md").read_text()
    make, install = re.findall(r"^pip (wheel .*|install --no-index .*)$", text, re.MULTILINE)
    source = tmp_path / "source"
    shutil.copytree(TOP / "gan_mpi", source / "gan_mpi")
    for name in ("setup.py", "setup.cfg", "README.md", "LICENSE", "constraints.txt"):
        shutil.copy(TOP / name, source)
    subprocess.run([sys.executable, "-m", "venv", "venv"], cwd=source, check=True)
    path = f"{source / 'venv' / 'bin'}:{os.environ['PATH']}"
    has_classifier = "from gan_mpi.evaluation.extractor import bundled; bundled()['mnist']"
    for command in (
        f"pip {make}",
        f"unshare --net pip {install}",
        f'python -c "{has_classifier}"',
        "gan-mpi doctor",
    ):
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=source,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    assert "found nothing wrong" in done.stdout
