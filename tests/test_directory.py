"""Run directories as jobs leave them, and what is said where nobody can hear it."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import MAIN, environment, write_glyphs, write_idx
from test_claim import wait_for

from gan_mpi.cli import cli
from gan_mpi.errors import UserError, printable
from gan_mpi.runs import directory

TRAIN = ("train", "--glyphs", "64", "--batch", "16")


def test_numbers_are_taken_once_by_any_number_of_starts(tmp_path):
    """Of any description; a run is named by its number."""
    with ThreadPoolExecutor(8) as starts:
        made = list(starts.map(lambda n: directory.make_numbered(tmp_path, f"r{n}"), range(8)))
    assert sorted(path.name[:5] for path in made) == [f"{n:05d}" for n in range(8)]
    assert sorted(tmp_path.iterdir()) == sorted(made)


def test_numbers_go_on_beyond_five_digits(tmp_path):
    (tmp_path / "99999-x").mkdir()
    names = [directory.make_numbered(tmp_path, "x").name for _ in range(2)]
    assert names == ["100000-x", "100001-x"]


def test_a_start_that_gets_no_number_gives_up(tmp_path, monkeypatch):
    monkeypatch.setattr(directory, "_claim", lambda *_: None)
    with pytest.raises(UserError, match="--outdir: others took 100 numbers"):
        directory.make_numbered(tmp_path, "x")


@pytest.mark.parametrize(
    "name",
    [".config.json.node17-4242.tmp", "slurm-17.out", "tee.log", ".nfs0001", "job.o17", ".DS_Store"],
)
def test_what_a_killed_start_and_others_write_is_no_foreign_file(tmp_path, name):
    (tmp_path / name).write_text("{")
    assert directory.make_named(tmp_path, "--run-dir") == tmp_path
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="holds files, such as thesis.tex, but no run"):
        directory.make_named(tmp_path, "--run-dir")


@pytest.mark.parametrize("option", ["--run-dir", "--resume"])
def test_the_config_of_another_program_is_no_run_and_stays(gan_mpi, tmp_path, option):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"architectures": ["Other"]}')
    done = gan_mpi("train", "--glyphs", 20, "--steps", 1, option, "model", size=2)
    assert done.returncode == 1
    said = f"Error: {option}: model holds files, such as config.json, but no run; name a"
    assert done.stderr.count(said) == 1
    assert [path.name for path in model.iterdir()] == ["config.json"]
    assert (model / "config.json").read_text() == '{"architectures": ["Other"]}'
    assert "config.json is damaged, or not a run's." in gan_mpi("status", "model").stderr


def test_checkpoints_alone_are_a_run(gan_mpi, tmp_path):
    few = ("train", "--glyphs", 20, "--batch", 4, "--run-dir")
    assert gan_mpi(*few, "run", "--steps", 1).returncode == 0
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "run" / "checkpoint-000001.pt", tmp_path / "copy")
    done = gan_mpi("train", "--resume", "copy", "--steps", 2)
    assert done.returncode == 0 and "2 of 2 steps, 1 of them in" in done.stdout, done.stderr


def test_a_folder_beside_a_named_one_is_said_to_do_nothing(gan_mpi, tmp_path):
    few = ("train", "--glyphs", 20, "--batch", 4, "--steps", 1, "--run-dir", "r", "--outdir", "o")
    done = gan_mpi(*few, size=2)
    said = "Warning: --outdir does nothing where the run directory is named"
    assert (done.returncode, done.stderr.count(said)) == (0, 1), done.stderr
    assert not (tmp_path / "o").exists()


def test_a_damaged_config_of_a_finished_run_is_mended_as_its_error_says(gan_mpi, tmp_path):
    run = tmp_path / "my run"
    few = ("train", "--glyphs", 20, "--batch", 4, "--steps", 1, "--keep", "all")
    assert gan_mpi(*few, "--run-dir", run).returncode == 0
    before = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text("{")
    said = gan_mpi("status", run).stderr
    assert f"is damaged; gan-mpi train --resume '{run}' writes it anew." in said
    assert "is finished" in gan_mpi("train", "--resume", run, "--keep", "all").stdout
    assert json.loads((run / "config.json").read_text()) == before


def test_a_start_that_could_not_say_what_it_is_leaves_no_foreign_files(gan_mpi, tmp_path):
    few = ("train", "--glyphs", 20, "--batch", 4, "--steps", 1, "--run-dir", tmp_path / "run")
    refuse = (
        "from gan_mpi.errors import UserError; from gan_mpi.runs import directory\n"
        "def write_config(*_): raise UserError('no room')\n"
        "directory.write_config = write_config\n"
    )
    failed = gan_mpi(*few, size=1, code=refuse + MAIN)
    assert failed.returncode == 1 and "no room" in failed.stderr
    assert gan_mpi(*few).returncode == 0


def test_a_terminal_that_goes_away_does_not_end_a_run(tmp_path):
    """As when ssh is cut off, in a run without mpiexec, which has a bar."""
    master, terminal = os.openpty()
    program = f"""
import time
from pathlib import Path
from gan_mpi.runs.log import Log
log = Log(speaks=True, quiet=False)
with log.progress(0, 100) as bar:
    Path({str(tmp_path / "begun")!r}).touch()
    time.sleep(1.5)
    for step in range(100):
        bar.advance_to(step)
Path({str(tmp_path / "ended")!r}).touch()
"""
    with open(tmp_path / "stderr", "w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=terminal,
            stderr=errors,
            env={**environment(), "TERM": "xterm"},
        )
    os.close(terminal)
    wait_for((tmp_path / "begun").exists)
    os.read(master, 10)
    os.close(master)
    assert process.wait(30) == 0, (tmp_path / "stderr").read_text()
    assert (tmp_path / "ended").exists()


@pytest.mark.launch
def test_training_goes_on_without_anybody_to_read(start, tmp_path):
    code = "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1); "
    code += "from gan_mpi.__main__ import main; main()"
    process = start(*TRAIN, "--steps", "4", "--run-dir", "r", code=code)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    warning = "standard output: No space left on device; what is said goes to log.txt alone"
    assert said == f"Warning: {warning}\n"
    log = (tmp_path / "r" / "log.txt").read_text()
    assert f"Warning: {warning}\n" in log and "done: 4 of 4 steps" in log
    process = start("presets", code=code)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said == "Error: cannot write to standard output: No space left on device.\n"


@pytest.mark.slow
@pytest.mark.launch
def test_a_folder_whose_name_is_not_utf8_is_trained_on(start, tmp_path):
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    write_idx(folder)
    process = start(*TRAIN[:1], "--batch", "16", "--steps", "2", "--datadir", folder)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "caf\\udce9" in out
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "config.json").read_text())["data"]["datadir"] == str(folder)


def test_control_characters_are_shown_and_not_sent():
    assert printable("a\x1b[31m\x9b\u202eb\n") == "a\\x1b[31m\\x9b\\u202eb\n"
    assert str(UserError("no\nfile\x07")) == "no\\nfile\\x07"


@pytest.mark.parametrize(
    "words",
    [
        *(["--flip", "nan"], ["--kimg", "nan"], ["--kimg", "inf"], ["--lr", "inf"]),
        *(["--warmup", "inf"], ["--ema", "nan"], ["--grid", "99999x99999"]),
    ],
)
def test_numbers_that_are_not_finite_or_too_large_are_refused(words):
    done = CliRunner().invoke(cli, ["train", *words])
    assert done.exit_code == 2 and f"Invalid value for '{words[0]}'" in done.output


def test_too_many_seeds_are_refused():
    done = CliRunner().invoke(cli, ["sample", "--seeds", "0-1000000000"])
    assert done.exit_code == 2 and "is more than 1000000 seeds" in done.output


LINES = ["[1, 2]", '{"step": "four"}', "7", '{"step": 4, "loss_G": NaN}', '{"date": 1}']


@pytest.mark.parametrize(
    "name",
    [
        "stats.jsonl",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("segments.jsonl", "metrics.jsonl")),
    ],
)
def test_a_damaged_record_stops_nobody(gan_mpi, tmp_path, name):
    done = gan_mpi(*TRAIN, "--steps", "4", "--run-dir", "whole")
    assert done.returncode == 0, done.stderr
    for number, line in enumerate(LINES):
        run = tmp_path / f"run-{number}"
        shutil.copytree(tmp_path / "whole", run)
        with (run / name).open("a") as file:
            file.write(line + "\n")
        for words in (["status", run], ["report", run], ["train", "--resume", run, "--steps", "5"]):
            done = gan_mpi(*words)
            assert done.returncode == 0, done.stderr


def test_a_run_that_lost_its_statistics_has_a_status(gan_mpi, tmp_path):
    """The node lost power: what was not synced is empty."""
    done = gan_mpi(*TRAIN, "--steps", "2", "--run-dir", "r")
    assert done.returncode == 0, done.stderr
    segments = tmp_path / "r" / "segments.jsonl"
    segments.write_text(segments.read_text().replace('"done"', '"running"'))
    (tmp_path / "r" / "stats.jsonl").write_text("")
    done = gan_mpi("status", "r")
    assert done.returncode == 0 and "state      running" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("sample", "r", "--interpolate", "0:1", "--frames", "2", "--out", "new/a.png"),
        ("sample", "r", "--timelapse", "--grid", "1x1", "--out", "new/a.gif"),
        ("export", "r", "--out", "new/a.safetensors"),
        ("report", "r", "--out", "new/a.html"),
        ("data", "info", "data", "--grid", "1x1", "--out", "new/a.png"),
    ],
    ids=lambda words: words[0],
)
def test_what_is_written_has_a_folder_made_for_it(gan_mpi, tmp_path, small_run, words):
    for name in ("r", "data"):
        shutil.copytree(small_run / name, tmp_path / name)
    done = gan_mpi(*words)
    assert done.returncode == 0, done.stderr
    assert len([*(tmp_path / "new").iterdir()]) == 1
    (tmp_path / "file").touch()
    done = gan_mpi(*words[:-1], f"file/{Path(words[-1]).name}")
    assert done.returncode == 1 and done.stderr.startswith("Error: --out: cannot make file: ")


@pytest.fixture(scope="module")
def small_run(gan_mpi_in, tmp_path_factory):
    """A folder with a run r of two steps, and its data."""
    folder = tmp_path_factory.mktemp("small")
    write_glyphs(folder / "data", 0, 20)
    words = (*TRAIN[:1], "--datadir", "data", "--batch", "4", "--steps", "2", "--run-dir", "r")
    assert gan_mpi_in(folder, *words).returncode == 0
    return folder


def test_a_user_without_a_home_has_no_cache(monkeypatch, tmp_path):
    import os

    from gan_mpi.files import cache_folder

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for an unknown user
    assert cache_folder() is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "gan-mpi"
