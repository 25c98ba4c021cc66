"""A grid of settings ends in a table and a plot, and goes on where it was stopped."""

import functools
import json
import re

import pytest
from conftest import MAIN_WITH_FEW_POINTS
from PIL import Image

from gan_mpi.bench.report import lines_of
from gan_mpi.bench.steps import Timing
from gan_mpi.commands.study import METRICS
from gan_mpi.errors import UserError
from gan_mpi.lifecycle.stopping import StopRequest
from gan_mpi.programs import study as programs_study
from gan_mpi.programs.study import Setting, read_result, settings, table
from gan_mpi.runs.directory import list_checkpoints
from gan_mpi.runs.evaluations import read_evaluations

GRID = ("--vary", "batch=16", "--vary", "ranks=1,2")
HEAD_OF_BENCH = (
    "ranks batch ms a step quarter to 3 quarters images/s efficiency node-hours a million"
)
POINTS = ("--", "--preset", "paddle-uniform", "--samples", "300", "--kimg", "0.3")


@pytest.fixture
def study(gan_mpi):
    """Run `gan-mpi study` on two ranks."""
    return functools.partial(gan_mpi, "study", size=2, code=MAIN_WITH_FEW_POINTS)


def test_the_grid_is_every_combination():
    grid = settings({"batch": ["16", "32"], "ranks": ["1", "2"]}, world_size=2)
    assert [each.name for each in grid] == [
        "batch16-ranks1",
        "batch16-ranks2",
        "batch32-ranks1",
        "batch32-ranks2",
    ]
    assert grid[3] == Setting({"batch": "32", "ranks": "2"}, ranks=2)
    assert grid[3].arguments() == ["--batch", "32"]
    assert settings({"seed": ["0"]}, world_size=3)[0].ranks == 3
    with pytest.raises(UserError, match="ranks=3, but mpiexec started 2"):
        settings({"ranks": ["3"]}, world_size=2)


def test_every_figure_can_be_asked_for():
    assert set(METRICS) == set(programs_study.METRICS)


def test_time_is_that_of_training_alone(tmp_path):
    more = {"epoch": 0.1, "images_per_second": 1.0, "time": 0.0}
    records = [
        {"step": 10, "kimg": 1.0, "seconds_per_step": 0.5, **more},
        {"step": 30, "kimg": 3.0, "seconds_per_step": 0.1, **more},
    ]
    extractor = {"name": "x", "sha256": "a", "accuracy": None}
    about = {"data": "x", "kimg": 0.0, "samples": 9, "extractor": extractor}
    about |= {"real": 9, "floor_samples": 9, "seconds": 1.0}
    evaluations = [
        {
            "step": step,
            "figures": {"frechet": value, "kernel": 0.0},
            "floor": {"frechet": 0.1},
            **about,
        }
        for step, value in ((0, 9.0), (10, 2.0), (20, 1.0), (30, 3.0))
    ]
    for name, lines in (("stats", records), ("metrics", evaluations)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / f"{name}.jsonl").write_text(text)
    result = read_result(tmp_path, "frechet")
    assert result["seconds"] == pytest.approx(7.0)
    assert result["seconds_at"] == pytest.approx([0.0, 5.0, 6.0, 7.0])
    assert (result["best"], result["steps"][2]) == (2, 20)
    assert table([result], "frechet")[1].split()[1:] == [
        *("3.0", "0:07", "429", "1.0000", "20", "0:06", "3.0000")
    ]
    assert read_result(tmp_path, "score") is None


def test_a_study_of_two_options(study, tmp_path):
    first = study(*GRID, "--only", "2", *POINTS)
    assert first.returncode == 0, first.stderr
    assert "1/1: batch16-ranks2 on 2 rank(s)" in first.stdout
    assert "1 run(s) of 19 steps, 0 thousand real images in all; --kimg or" in first.stdout
    whole = study(*GRID, *POINTS)
    assert whole.returncode == 0, whole.stderr
    rows = [line.split() for line in whole.stdout.splitlines() if "batch" in line]
    rows = [row for row in rows if len(row) == 8]
    assert {row[0] for row in rows} == {"batch16-ranks1", "batch16-ranks2"}
    figures = [float(row[4]) for row in rows]
    assert figures == sorted(figures)
    _, _, scaling = whole.stdout.partition(
        "\nsteps while they trained, the median of status lines, batch16, "
    )
    threads, head, *lines = scaling.splitlines()
    assert re.fullmatch(r"threads a rank \d+, \d+:", threads)
    assert head.split() == HEAD_OF_BENCH.split()
    of_ranks = [line.replace(" to ", " ").replace(" %", "%").split() for line in lines]
    assert [row[:3] for row in of_ranks] == [["strong", "1", "16"], ["strong", "2", "16"]]
    results = json.loads((tmp_path / "study" / "study.json").read_text())
    for result in results:
        run = tmp_path / "study" / result["setting"]
        steps = [each["step"] for each in read_evaluations(run)]
        assert result["steps"] == steps and len(steps) >= 6
        segments = (run / "segments.jsonl").read_text().splitlines()
        ranks = int(result["setting"][-1])
        assert [json.loads(line)["ranks"] for line in segments] == [ranks]
        assert json.loads(segments[0])["seconds"] < 30, "of this setting alone"
    with Image.open(tmp_path / "study" / "study.png") as picture:
        assert picture.info["study"] == "study"


def test_ranks_compare_where_their_threads_are_alike():
    def timing(ranks, threads, seconds):
        return Timing(ranks, 1, threads, batch=16, images=32, seconds=[seconds] * 3)

    lines = lines_of("strong", [timing(4, 1, 0.5), timing(1, 1, 1.0), timing(2, 1, 0.5)])
    assert [(line.steps.ranks, line.efficiency) for line in lines] == [(1, 1), (2, 1), (4, 0.5)]
    unlike = lines_of("strong", [timing(1, 2, 1.0), timing(2, 1, 1.0)])
    assert [line.efficiency for line in unlike] == [1, None]
    assert lines_of("strong", [timing(2, 1, 1.0)])[0].efficiency is None


def test_what_is_wrong_with_a_study_is_said_before_any_work(study, tmp_path):
    cases = {
        ("--vary", "batch"): ("'batch' is not like batch=32,128,512", 2),
        ("--vary", "batch=16", "--vary", "batch=32"): ("names one option twice", 2),
        ("--vary", "bach=16"): ("of the options of train: No such option", 2),
        ("--vary", "batch=16,x"): ("'x' is not a whole number", 2),
        ("--vary", "ranks=1,4"): ("ranks=4, but mpiexec started 2", 2),
        ("--vary", "seed=0", "--only", "2"): ("--only: 2, but there are 1 settings", 2),
        ("--vary", "seed=0", "--", "--run-dir", "x"): ("--run-dir does not go with", 2),
        ("--vary", "seed=0", "--", "-n"): ("--dry-run trains nothing", 2),
    }
    for arguments, (sentence, code) in cases.items():
        result = study(*arguments)
        assert (result.returncode, result.stderr.count(sentence)) == (code, 1), (
            arguments,
            result.stderr,
        )
        assert "Usage: gan-mpi train" not in result.stderr
    assert not (tmp_path / "study").exists()


def test_a_study_stops_in_time(study, tmp_path):
    options = ("--vary", "seed=0,1", *POINTS, "--time-limit", "0:05")
    result = study(*options)
    assert result.returncode == 1
    assert result.stderr.count("--time-limit 0:05 leaves") == 1


def test_a_collapse_of_one_setting_is_forgotten_in_the_next():
    stop = StopRequest()
    stop.request_for_collapse()
    stop.forget_collapse()
    assert not stop.requested and not stop.collapsed
    stop.asked = "SIGUSR1"
    for _ in range(2):
        stop.request_for_collapse()
        assert (stop.reason, stop.collapsed) == ("SIGUSR1", True)
        stop.forget_collapse()
        assert stop.requested and not stop.collapsed


# As if the job ended soon after so many settings of a study have begun.
LATE = """
from gan_mpi.lifecycle import stopping
from gan_mpi.programs import train
class Late(stopping.Lookout):
    begun = []
    def check_room(self, slowest_save):
        if len(Late.begun) == {}:
            raise stopping.NoRoom("the limit leaves 1 s")
        Late.begun.append(self)
train.Lookout = Late
"""


def test_the_next_setting_goes_on_in_another_job_if_this_one_did_some(gan_mpi, tmp_path):
    command = ("study", "--vary", "seed=0,1", *POINTS)
    late = gan_mpi(*command, size=2, code=LATE.format(1) + MAIN_WITH_FEW_POINTS)
    assert late.returncode == 75, late.stderr
    assert "2/2: seed1" in late.stdout and "stopped early; the same command" in late.stdout
    never = gan_mpi(*command, size=2, code=LATE.format(0) + MAIN_WITH_FEW_POINTS)
    assert never.returncode == 1 and never.stderr.count("the limit leaves 1 s") == 1
    whole = gan_mpi(*command, size=2, code=MAIN_WITH_FEW_POINTS)
    assert whole.returncode == 0, whole.stderr
    assert len(json.loads((tmp_path / "study" / "study.json").read_text())) == 2


@pytest.mark.parametrize(("seeds", "code"), [("0", 0), ("0,1", 75)])
def test_a_stop_after_the_last_setting_stops_nothing(gan_mpi, tmp_path, seeds, code):
    asked = (
        "from gan_mpi.programs import study\n"
        "def train(part, given, stop, *more, train=study.train):\n"
        "    code = train(part, given, stop, *more)\n"
        "    stop.asked = 'SIGUSR1'\n"
        "    return code\n"
        "study.train = train\n"
    )
    command = ("study", "--vary", f"seed={seeds}", *POINTS)
    done = gan_mpi(*command, size=2, code=asked + MAIN_WITH_FEW_POINTS)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "study" / "study.json").exists() == (code == 0)


def test_a_setting_that_diverges_is_noted_and_the_others_go_on(study, tmp_path):
    options = ("--vary", "lr=1e38,1e-4", *POINTS)
    result = study(*options)
    assert result.returncode == 0, result.stderr
    assert "lr1e38: diverged: what the generator draws" in result.stdout
    assert [step for step, _ in list_checkpoints(tmp_path / "study" / "lr1e38")] == [0]
    rows = [line for line in result.stdout.splitlines() if line.startswith("lr1e-4 ")]
    assert len(rows) == 1
