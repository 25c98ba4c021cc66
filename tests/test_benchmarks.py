"""The programs of benchmarks/ run, and print a line for each contestant."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LAPTOP, MPIEXEC

pytestmark = pytest.mark.long  # half a minute each; .ci/run runs it
TOP = Path(__file__).parents[1]
SHORT = ("--batch", 12, "--pairs", 1, "--steps", 12, "--seconds", 0.1)


def run(words):
    """Return what a program prints."""
    done = subprocess.run(
        list(map(str, words)),
        env={**LAPTOP, **os.environ},
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_hidden_is_measured(tmp_path):
    program = [*MPIEXEC, "-n", 2, sys.executable, TOP / "benchmarks" / "overlap.py"]
    options = ["--blocks", 1, "--steps", 3, "--json", tmp_path / "found.json"]
    said = run([*program, *options, "--", "--glyphs", 60, "--batch", 12])
    assert "weights equal to the bit: True" in said
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["same"] and len(found["on"]["step"]) == len(found["off"]["step"]) == 3
    assert min(found["on"]["ahead"]) > max(found["off"]["ahead"]), "nothing is made ahead then"


@pytest.mark.parametrize(
    ("program", "preset", "contestants"),
    [
        (
            ("compare.py", "--peers", "ddp,each_tensor,lightning_ddp"),
            "basic",
            ["gan-mpi", "ddp", "each_tensor", "lightning_ddp"],
        ),
        (("compare.py", "--peers", "plain", "--ranks", 1), "basic", ["gan-mpi", "plain"]),
        (("self.py", "HEAD", "--here", "--seed 1"), "basic", ["this tree --seed 1", "HEAD"]),
        (
            ("beside.py",),
            "basic",
            ["2 ranks", "2 alone, a share each", "2 alone, a batch each"],
        ),
    ],
    ids=["peers", "plain", "self", "beside"],
)
def test_contestants_run_in_turn(tmp_path, program, preset, contestants):
    if program[0] == "self.py" and not (TOP / ".git").exists():
        pytest.skip("compares commits, and this is no clone")
    if "lightning_ddp" in contestants and importlib.util.find_spec("lightning") is None:
        pytest.skip("pip install -e '.[bench]' brings Lightning, which is not installed")
    name, *options = program
    command = [sys.executable, TOP / "benchmarks" / name, *options, "--preset", preset, *SHORT]
    command += ["--json", tmp_path / "found.json"]
    said = run(command)
    written = json.loads((tmp_path / "found.json").read_text())
    assert written["preset"] == "basic" and written["versions"]["torch"].startswith("2.")
    found = written["contestants"]
    assert list(found) == contestants
    assert all(each["seconds_per_step"] == [each["median"]] for each in found.values())
    assert all(each["median"] == each["least"] > 0 for each in found.values())
    assert found[contestants[0]]["median_times_the_first"] == 1
    lines = said.splitlines()
    assert [line[:28].strip() for line in lines[2:][: len(contestants)]] == contestants
    efficiencies = [line.partition(":")[0] for line in lines[2:][len(contestants) :]]
    assert efficiencies == (["weak efficiency", "strong efficiency"] * (name == "beside.py"))
    assert "1.000 (1.000 to 1.000)" in lines[2]


def test_a_peer_that_is_none_is_refused_before_anything_is_timed():
    command = [sys.executable, TOP / "benchmarks" / "compare.py", "--peers", "ddp,foo"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "'foo' is none of ddp, lightning_ddp," in done.stderr


def test_peers_have_torchs_own_layers(monkeypatch):
    monkeypatch.syspath_prepend(TOP / "benchmarks" / "peers")
    loop = importlib.import_module("loop")
    for preset in ("basic", "dcgan", "dcgan-206b", "lightning"):
        for network in loop.networks(loop.new_config({"preset": preset}), (1, 28, 28)):
            weighty = [layer for layer in network if [*layer.parameters()]]
            assert weighty and {type(layer).__module__.split(".")[0] for layer in weighty} == {
                "torch"
            }
