"""The lesson's commands print what it shows, word for word but for times and '...'."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MPIEXEC, environment

DOCS = Path(__file__).parents[1] / "docs"
FENCE = re.compile(r"^```(sh|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)
WORDS = {
    "mpiexec": MPIEXEC,
    "gan-mpi": [sys.executable, "-m", "gan_mpi"],
    "python": [sys.executable],
}


def section(number):
    """Return the commands of a section of the lesson, with the lines shown after them."""
    (text,) = re.findall(
        rf"^## {number}\. .*?(?=^## |\Z)",
        (DOCS / "lesson.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    steps = []
    for kind, body in FENCE.findall(text):
        if kind == "sh":
            steps.append((body.splitlines(), []))
        else:
            steps[-1][1].extend(body.splitlines())
    return steps


def output(command, folder):
    words = [part for word in shlex.split(command) for part in WORDS.get(word, [word])]
    variables = {**environment(), "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        words,
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def follow(number, folder):
    """Run the commands of a section in a folder; check that what they print is what is shown."""
    (folder / "docs").symlink_to(DOCS)
    steps = section(number)
    assert steps
    for commands, shown in steps:
        lines = iter("".join(output(c, folder) for c in commands).splitlines())
        for line in shown:
            pattern = ".*".join(map(re.escape, line.split("...")))
            found = any(re.fullmatch(pattern, printed) for printed in lines)
            assert found, f"{commands}: no such line, in this order: {line}"


@pytest.mark.long
@pytest.mark.parametrize("number", [2, 3])
def test_the_first_minute_of_the_lesson(tmp_path, number):
    follow(number, tmp_path)


def told(name):
    """Return the numbers in the row of the lesson's table that begins with `name`."""
    (row,) = re.findall(rf"^\| `{name}` \|(.*)\|$", (DOCS / "lesson.md").read_text(), re.MULTILINE)
    return [float(cell) for cell in row.split("|")]


@pytest.mark.long
def test_the_lessons_studies(tmp_path):
    follow(4, tmp_path)
    batches, latents = (
        {each["setting"]: each for each in json.loads(path.read_text())}
        for path in (tmp_path / name / "study.json" for name in ("minibatches", "latents"))
    )
    for name, result in batches.items():
        updates, distance, _ = told(name)
        print(name, result["figures"])
        assert result["step"] == updates
        assert result["figures"][-1] == pytest.approx(distance, rel=1 / 3)
    for name, result in latents.items():
        early, last = told(name)
        print(name, result["figures"])
        assert [result["figures"][2], result["figures"][-1]] == pytest.approx(
            [early, last], rel=1 / 3
        )
    ten, hundred = latents["latent-dim10"], latents["latent-dim100"]
    assert ten["figures"][2] < hundred["figures"][2]
    assert ten["figures"][-1] > hundred["figures"][-1]
