"""Every gan-mpi command in the README's and docs' code blocks runs, on less data and for less long.

Those of the lesson are run, and their output compared, by test_lesson.py; those of the set-up by
.ci/run.
"""

import functools
import os
import pty
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from conftest import MPIEXEC, environment, write_idx_files
from test_claim import wait_for

from gan_mpi.datasets.drawn import draw_glyphs
from gan_mpi.runs.segments import read_segments

pytestmark = pytest.mark.long  # a minute; .ci/run runs it
TOP = Path(__file__).parents[1]
ELSEWHERE = {  # what is run by other tests, as it is written or nearly so
    "python3 -m venv": ".ci/run",
    "git clone": ".ci/run",
    "data download": "test_download.py",
    "doctor": "test_doctor.py",
    "--submit": "test_slurm.py",
    "setsid": "below",
    "supervise": "test_supervise.py and test_hosts.py",
    "paddle-cifar": "test_cifar10.py, which makes a folder of it",
}
LONG = {"--steps": 1, "--kimg": 1, "--full": 0, "--fast": 0, "--evaluate-every": 1, "--batch": 1}


def commands():
    """Return (document, number of ranks, words after gan-mpi) of each command."""
    found = []
    for path in (TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))):
        if path.name == "lesson.md":
            continue
        for block in re.findall(r"^```sh\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                _, known, rest = line.partition("gan-mpi ")
                if known and not any(each in line for each in ELSEWHERE):
                    ranks = re.search(r"mpiexec .*?-n (\d+)", line)
                    words = tuple(shlex.split(rest, comments=True))
                    found.append((path.name, min(3, int(ranks[1])) if ranks else None, words))
    return list(dict.fromkeys(found))


def shortened(words):
    """Return a command with what makes it long left out, and the places filled in."""
    kept, skip = [], 0
    for word in words:
        if skip:
            skip -= 1
        elif word in LONG:
            skip = LONG[word]
        else:
            kept.append({"DIR": "data", "RUN": "run"}.get(word, word))
    kept = [word for word in kept if word != "..."]
    if kept[0] == "train":
        kept += ["--steps", "2", "--batch", "6"]
    if kept[0] == "study":
        kept += ["--steps", "2", "--samples", "300"]
    if kept[0] == "train-classifier" and "--datadir" not in kept:
        kept += ["--glyphs", "300", "--epochs", "1"]
    if kept[0] == "bench":
        kept[1:1] = ["--oversubscribe", "--seconds", "0.01"]
        kept += ["--batch", "6"]
    if kept[0] == "evaluate":
        kept += ["--samples", "300"]
    return kept


@pytest.fixture(scope="module")
def trained(gan_mpi_in, tmp_path_factory):
    """A folder with data, a run that is also the newest, and the classifier of its data."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "data").mkdir()
    for prefix, count, first in (("train", 300, 0), ("t10k", 300, 10_000)):
        images, labels = draw_glyphs(count, first)
        write_idx_files(folder / "data", prefix, images[:, 0], labels)
    run = functools.partial(gan_mpi_in, folder)
    few = ("--preset", "small", "--glyphs", "300", "--steps", "2", "--keep", "all")
    assert run("train", *few, "--checkpoint-every", "1").returncode == 0
    shutil.copytree(next((folder / "runs").iterdir()), folder / "run")
    return folder


@pytest.mark.parametrize(("document", "size", "words"), commands(), ids=lambda x: str(x)[:60])
def test_a_command_runs(gan_mpi_in, trained, tmp_path, monkeypatch, document, size, words):
    monkeypatch.setenv("XDG_CACHE_HOME", str(trained / "cache"))
    folder = tmp_path / "here"
    shutil.copytree(trained, folder)
    run = functools.partial(gan_mpi_in, folder)
    if words[0] in ("evaluate", "study") or "--evaluate-every" in words:
        for data in (("--glyphs", "300"), ("--datadir", "data")):
            if not (trained / "cache" / data[1]).exists():
                made = run("train-classifier", *data, "--epochs", "1")
                assert made.returncode == 0, made.stderr
                (trained / "cache" / data[1]).touch()
    if "sites/site-{rank}" in words:
        assert run("data", "split", "data", "sites", "--sites", "2").returncode == 0
    if words[0] == "bench":
        size = 2  # more than cores only wait for each other
    result = run(*shortened(words), size=size)
    assert result.returncode == 0, (document, result.stderr)


def test_the_list_is_not_empty():
    assert len(commands()) >= 18
    assert {document for document, _, _ in commands()} >= {"README.md", "sites.md", "quality.md"}


def test_a_run_in_a_session_of_its_own_outlives_its_terminal(tmp_path):
    """The line of docs/runs.md, typed into a shell whose terminal is then closed."""
    (line,) = re.findall(r"^setsid .*$", (TOP / "docs" / "runs.md").read_text(), re.MULTILINE)
    launcher = " ".join([*MPIEXEC, "-n", "2"])
    program = f"{launcher} {sys.executable} -m gan_mpi train --glyphs 64 --batch 16 --steps 20000"
    line = line.replace("mpiexec -n 4 gan-mpi train", program).replace("RUN", "run")
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(tmp_path)
        os.execvpe("bash", ["bash", "--norc", "-i"], environment())
    os.write(terminal, f"{line}\n".encode())
    stats = tmp_path / "run" / "stats.jsonl"
    wait_for(lambda: stats.exists() and stats.stat().st_size)
    os.close(terminal)
    os.waitpid(process, 0)
    size = stats.stat().st_size
    wait_for(lambda: stats.stat().st_size > size)
    (tmp_path / "run" / "STOP").touch()
    wait_for(lambda: read_segments(tmp_path / "run")[0]["state"].startswith("stopped"))
