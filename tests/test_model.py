"""What gan-mpi bench predicts of more ranks, by hand and beside what two of them take."""

import json
import math

import pytest
from PIL import Image
from test_bench import KEEP, MAIN, ONE_CORE, SMALL

from gan_mpi.bench.model import Link, Model, fit_fixed, fit_link, make_model


def test_a_link_is_found_again():
    link = Link(latency=2e-6, bandwidth=3e9)
    seconds = {size: link.seconds(size, 2) for size in (4, 1000, 10**6, 10**8)}
    found = fit_link(seconds)
    assert found.latency == pytest.approx(2e-6) and found.bandwidth == pytest.approx(3e9)


def test_a_link_of_noise_has_no_negative_numbers():
    found = fit_link({4: 5e-6, 1024: 3e-6, 4096: 4e-6})
    assert found.latency > 0 and found.bandwidth > 0


def test_a_sum_over_many_ranks_takes_a_tree_of_halves():
    link = Link(latency=1e-6, bandwidth=1e9)
    assert link.seconds(10**6, 2) == pytest.approx(1e-6 + 1e-3)
    assert link.seconds(10**6, 8) == pytest.approx(3e-6 + 2 * 7 / 8 * 1e-3)
    assert link.seconds(0, 5) == pytest.approx(3e-6)


@pytest.mark.parametrize(
    ("points", "fixed"),
    [
        ([(10, 3.0), (20, 4.0)], 2.0),
        ([(10, 3.0)], 0.0),
        ([(10, 3.0), (20, 2.9)], 0.0),  # noise
        ([(10, 1.0), (20, 4.0)], 0.0),  # more than memory near the processor holds
    ],
)
def test_computing_passes_through_what_was_timed(points, fixed):
    model = make_model({share: [seconds] for share, seconds in points}, Link(1, 1), ())
    assert model.fixed == fit_fixed(points) == pytest.approx(fixed)
    for share, seconds in points:
        assert model.computing(share) == pytest.approx(seconds)
    few, least = points[0]
    assert model.computing(few // 2) == pytest.approx((fixed + least) / 2)
    many, most = points[-1]
    assert model.computing(3 * many) == pytest.approx(3 * most)


def test_the_slowest_of_many_is_as_late_as_the_largest_of_as_many_draws():
    link = Link(1e-6, 1e9)
    model = Model(((1, 1.0),), 0.0, (1.0, 2.0, 3.0), link, ())
    assert model.waiting(1) == pytest.approx(0.0)
    assert model.waiting(2) == pytest.approx((1 * 1 + 2 * 3 + 3 * 5) / 9 - 2)
    assert model.waiting(4096) == pytest.approx(1.0)


def test_a_step_is_computing_waiting_and_sending():
    model = make_model({8: [1.0] * 10, 16: [1.5] * 10}, Link(1e-3, 1e6), [1000, 2000])
    assert model.seconds(1, 16) == pytest.approx(1.5)
    assert model.seconds(2, 16) == pytest.approx(1.0 + 2e-3 + 3e-3)
    found = {(each.scaling, each.ranks): each for each in model.predict(16, 8)}
    assert max(ranks for kind, ranks in found if kind == "strong") == 16, "an image each"
    assert max(ranks for kind, ranks in found if kind == "weak") == 4096
    assert found["weak", 4].batch == 32 and found["strong", 4].batch == 16
    assert found["strong", 2].efficiency == pytest.approx(1.5 / 1.005 / 2)
    assert found["weak", 2].efficiency == pytest.approx(1.0 / 1.005)


@pytest.fixture(scope="module")
def swept(gan_mpi_in, tmp_path_factory):
    """What two ranks say, write and draw."""
    folder = tmp_path_factory.mktemp("model")
    options = ("--sweep", "--seconds", 0.5, "--json", "j", "--plot", "p.png")
    done = gan_mpi_in(folder, "bench", *options, "--", *SMALL, size=2)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, json.loads((folder / "j").read_text())


@pytest.mark.slow
def test_a_sweep_predicts_and_says_so(swept):
    _, said, found = swept
    assert found["model"]["messages"] == found["lines"][-1]["messages"]
    parameters = {"D": 784 * 128 + 128 + 128 + 1, "G": 100 * 128 + 128 + 128 * 784 + 784}
    sizes = [size // 4 for size in found["model"]["messages"]]
    assert len(sizes) == 3, "D, D and G of a step of basic"
    for size, player in zip(sizes, "DDG", strict=True):
        assert 0 < size - parameters[player] < 20, "and some figures"
    assert [(p["scaling"], p["ranks"]) for p in found["predictions"][:3]] == [
        ("strong", 2),
        ("strong", 4),
        ("strong", 8),
    ]
    assert "predicted, not measured, from steps of one rank (3 sum(s) of" in said
    assert "between two ranks of one node, no farther" in said


@pytest.mark.slow
def test_two_ranks_are_predicted_roughly(swept):
    """A tenth of a millisecond of work, on a machine that does other things besides."""
    *_, found = swept
    measured = {(line["scaling"], line["ranks"]): line["seconds"] for line in found["lines"]}
    for each in found["predictions"]:
        seconds = measured.get((each["scaling"], each["ranks"]))
        if seconds:
            ratio = sorted(seconds)[len(seconds) // 2] / each["seconds"]
            assert 1 / 3 < ratio < 3, each
            assert math.isfinite(each["efficiency"])


@pytest.mark.slow
def test_it_is_drawn(swept):
    folder, *_ = swept
    with Image.open(folder / "p.png") as picture:
        assert picture.size == (880, 550)
        assert json.loads(picture.info["config"])["preset"] == "basic"


def test_a_plot_wants_a_sweep(gan_mpi):
    done = gan_mpi("bench", "--plot", "p.png", "--", *SMALL)
    assert done.returncode == 2 and "give --sweep too" in done.stderr


@pytest.mark.slow
def test_ranks_that_share_cores_predict_nothing(gan_mpi, tmp_path):
    """Two do if there is one core; the third, on two cores, is only marked: test_bench.py."""
    options = ("--sweep", "--oversubscribe", "--seconds", 0.01, "--json", "j")
    code = KEEP + ONE_CORE + MAIN
    done = gan_mpi("bench", *options, "--", *SMALL, size=2, code=code)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "j").read_text())
    assert found["model"] is None and found["predictions"] == []
    assert "nothing is predicted: two ranks have more threads than cores" in done.stdout


@pytest.mark.slow
def test_nothing_is_predicted_where_steps_train_one_player_or_the_other(gan_mpi):
    options = ("--preset", "paddle-uniform", "--batch", 8)
    done = gan_mpi("bench", "--sweep", "--seconds", 0.05, "--", *options, size=2)
    assert done.returncode == 0, done.stderr
    assert "nothing is predicted: with --schedule balance a step trains" in done.stdout
    assert "predicted, not measured" not in done.stdout
    assert "GFLOP a step and rank" in done.stdout
