"""gan-mpi bench: what it times, counts and refuses."""

import csv
import functools
import json
import os

import pytest

from gan_mpi.cluster.cores import oversubscribed

SMALL = ("--glyphs", 60, "--batch", 12)
ONE_CORE = "import os; os.sched_getaffinity = lambda process: {0}\n"
KEEP = "import os; known = os.sched_getaffinity\n"
MAIN = "from gan_mpi.__main__ import main\ntry: main()\nfinally: os.sched_getaffinity = known"
# Operations of a step of basic for an image: two of a D update and one of G's.  Every product is
# one forward, one for the weights and one for the inputs, but not for inputs without a gradient.
G_LAYERS, D_LAYERS = (2 * 100 * 128, 2 * 128 * 784), (2 * 784 * 128, 2 * 128)
OF_D = sum(G_LAYERS) + 2 * (2 * sum(D_LAYERS) + D_LAYERS[1])
OF_G = 2 * sum(G_LAYERS) + G_LAYERS[1] + 2 * sum(D_LAYERS)


@pytest.fixture
def gan_mpi(gan_mpi):
    """The same with small matrices, whose product takes a moment."""
    code = "from gan_mpi.bench import rates; rates.SIDE = 64; from gan_mpi.__main__ import main; "
    return functools.partial(gan_mpi, code=code + "main()")


@pytest.fixture(scope="module")
def swept(gan_mpi_in, tmp_path_factory):
    """What three ranks print and write."""
    folder = tmp_path_factory.mktemp("bench")
    options = ("--sweep", "--oversubscribe", "--seconds", 0.01, "--json", "j", "--csv", "c.csv")
    done = gan_mpi_in(folder, "bench", *options, "--", *SMALL, size=3)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((folder / "c.csv").read_text().splitlines()))
    return folder, done.stdout, json.loads((folder / "j").read_text()), rows


@pytest.mark.slow
def test_a_sweep_times_powers_of_two_and_all_ranks(swept):
    _, said, found, rows = swept
    timed = [(each["scaling"], each["ranks"], each["batch"]) for each in found["lines"]]
    strong, weak = [("strong", n, 12) for n in (1, 2, 3)], [("weak", n, 4 * n) for n in (1, 2, 3)]
    assert timed == strong + weak
    assert [(r["scaling"], int(r["ranks"]), int(r["batch"])) for r in rows] == timed
    for line in found["lines"]:
        assert len(line["seconds"]) >= 10 and line["images"] == 2 * line["batch"]
    assert "strong       3      12" in said


@pytest.mark.slow
def test_efficiency_is_the_speed_of_a_rank_beside_that_of_one_alone(swept):
    *_, rows = swept
    for kind in ("strong", "weak"):
        mine = [row for row in rows if row["scaling"] == kind]
        speeds = [float(row["images_per_second"]) / int(row["ranks"]) for row in mine]
        for row, speed in zip(mine, speeds, strict=True):
            assert float(row["efficiency"]) == pytest.approx(speed / speeds[0])
            hours = 1e6 / float(row["images_per_second"]) / 3600
            assert float(row["node_hours_per_million_images"]) == pytest.approx(hours)


@pytest.mark.slow
def test_phases_are_parts_of_a_step(swept):
    _, said, found, _ = swept
    for line in found["lines"]:
        whole = [sum(times) for times in zip(*line["phases"].values(), strict=True)]
        assert min(line["phases"]["forward"]) > 0
        assert all(w == pytest.approx(s) for w, s in zip(whole, line["seconds"], strict=True))
        for phase in ("saving", "batch_norm", "batch_norm_sums"):  # of which basic has none
            assert not any(line["phases"][phase])
    assert "  communication" in said and "  forward" in said


@pytest.mark.slow
def test_sums_are_timed_by_size(swept):
    _, said, found, _ = swept
    sizes = [each["bytes"] for each in found["allreduce"]]
    assert sizes[0] == 4 and sizes[-1] == 4 * 8_388_608 and sizes == sorted(sizes)
    assert found["allreduce"][0]["seconds"] < found["allreduce"][-1]["seconds"]
    assert "Allreduce on 3 ranks:" in said


@pytest.mark.slow
def test_arithmetic_is_that_of_the_layers(swept, gan_mpi, tmp_path):
    """On three ranks each has a third of the batch."""
    *_, found, _ = swept
    assert found["rates"]["of_step"] == pytest.approx(4 * (2 * OF_D + OF_G) / 1e9)
    assert found["rates"]["layer"].startswith("Linear of 4x")
    done = gan_mpi("bench", "--seconds", 0.01, "--json", "j", "--", *SMALL, "--precision", "bf16")
    assert done.returncode == 0, done.stderr
    assert "Allreduce" not in done.stdout, "there is nobody to sum with"
    alone = json.loads((tmp_path / "j").read_text())
    assert alone["rates"]["of_step"] == pytest.approx(12 * (2 * OF_D + OF_G) / 1e9)


@pytest.mark.slow
def test_what_onednn_computes_is_counted_too(gan_mpi, tmp_path):
    code = "import gan_mpi.training.start as s\nfrom unittest.mock import patch\n"
    code += "from gan_mpi.__main__ import main\n"
    code += "with patch.object(s, 'linear_library', lambda: 'onednn'): main()"
    done = gan_mpi("bench", "--seconds", 0.01, "--json", "j", "--", *SMALL, code=code)
    assert done.returncode == 0 and "linear layers are oneDNN's" in done.stdout, done.stderr
    found = json.loads((tmp_path / "j").read_text())
    assert found["rates"]["of_step"] == pytest.approx(12 * (2 * OF_D + OF_G) / 1e9)
    assert found["rates"]["of_layer"] > 0
    for precision in ("fp64", "bf16"):
        more = (*SMALL, "--precision", precision)
        done = gan_mpi("bench", "--seconds", 0.01, "--", *more, code=code)
        assert done.returncode == 0 and "linear layers" not in done.stdout, done.stdout


@pytest.mark.slow
def test_a_penalty_is_timed_and_counted(gan_mpi, tmp_path):
    options = ("--seconds", 0.01, "--json", "j", "--")
    for more in ((), ("--r1", 1)):
        done = gan_mpi("bench", *options, *SMALL, *more)
        assert done.returncode == 0, done.stderr
        counted = json.loads((tmp_path / "j").read_text())["rates"]["of_step"]
        if not more:
            plain = counted
    assert counted > 1.2 * plain


@pytest.mark.slow
def test_ranks_are_marked_one_by_one_where_they_share_cores(swept):
    """As far as this machine has fewer than three cores for them."""
    _, said, found, rows = swept
    cores = len(os.sched_getaffinity(0))
    marked = [row["ranks"] for row in rows if row["oversubscribed"] == "True"]
    assert marked == [row["ranks"] for row in rows if int(row["ranks"]) > cores]
    assert found["oversubscribed"] == bool(marked)
    lines = [line for line in said.splitlines() if line.startswith(("strong", "weak"))]
    timed, predicted = lines[: len(rows)], lines[len(rows) :]
    assert [line.endswith(" *") for line in timed] == [int(r["ranks"]) > cores for r in rows]
    if marked == ["3", "3"]:
        assert "more threads than cores on 3 rank(s): each slows the others down (*)" in said
        assert predicted and found["predictions"], "one rank and two had cores of their own"


@pytest.mark.slow
def test_files_for_other_programs_say_the_same(swept):
    _, _, found, rows = swept
    for line, row in zip(found["lines"], rows, strict=True):
        assert {name: str(line[name]) for name in row} == row


def test_a_generator_alone_is_measured_by_its_fakes(gan_mpi, tmp_path):
    more = ("--train", "generator", "--schedule", "steps")
    done = gan_mpi("bench", "--seconds", 0.01, "--csv", "c", "--", *SMALL, *more)
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader((tmp_path / "c").read_text().splitlines())
    speed = float(row["images_per_second"])
    assert speed == pytest.approx(12 / float(row["seconds_per_step"]))
    hours = float(row["node_hours_per_million_images"])
    assert hours == pytest.approx(1e6 / speed / 3600) and "nan" not in done.stdout


@pytest.mark.slow
def test_what_is_timed_is_named_and_its_batch_norm_apart_from_sums(gan_mpi):
    network = ("--network", "lightning", "--batch", 12)
    for size, with_sums in ((None, False), (2, True)):
        more = ("--seconds", 0.01, "--oversubscribe", "--", "--glyphs", 60, "--resolution", 64)
        done = gan_mpi("bench", *more, *network, size=size)
        assert done.returncode == 0, done.stderr
        assert "data: 60 images of 1x28x28 from 60 drawn glyphs" in done.stdout
        assert "--resolution 64 is for folders of pictures" in done.stdout
        assert "\n  batch norm  " in done.stdout
        assert ("\n  batch norm sums  " in done.stdout) == with_sums


@pytest.mark.slow
def test_what_was_timed_is_said_with_the_figures(swept):
    *_, found, _ = swept
    assert found["data"]["name"] == "glyphs" and found["data"]["count"] == 60
    where = found["where"]
    assert where["ranks"] == 3 and where["versions"]["torch"].startswith("2.")
    assert where["processors"] and where["date"].startswith("20") and where["arithmetic"] >= 2


def test_files_that_cannot_be_written_are_found_before_minutes_are_spent(gan_mpi, tmp_path):
    (tmp_path / "file").write_text("")
    for options, said in (
        (("--json", "file/x.json"), "--json: cannot make file"),
        (("--json", "x", "--csv", "./x"), "--json and --csv name one file, x; give two."),
    ):
        done = gan_mpi("bench", "--seconds", 600, *options, "--", *SMALL, size=2, timeout=20)
        assert done.returncode in (1, 2) and said in done.stderr, done.stderr


def test_networks_that_diverge_have_no_checkpoint_here(gan_mpi):
    options = ("bench", "--seconds", 0.2, "--", *SMALL, "--optimizer", "sgd", "--lr", 1e30)
    done = gan_mpi(*options, size=2)
    assert done.returncode == 76 and "diverged while they were timed" in done.stderr, done.stderr
    assert "checkpoint" not in done.stderr


@pytest.mark.slow
def test_no_run_is_made(swept):
    folder, *_ = swept
    assert sorted(path.name for path in folder.iterdir()) == ["c.csv", "j"]


@pytest.mark.parametrize("leave", [(), ("--oversubscribe",)])
def test_more_ranks_than_cores_need_leave_and_are_marked(gan_mpi, leave):
    code = KEEP + ONE_CORE + MAIN
    options = (*leave, "--seconds", 0.01)
    done = gan_mpi("bench", *options, "--", *SMALL, size=2, code=code)
    if leave:
        assert done.returncode == 0, done.stderr
        assert "more threads than cores on 2 rank(s)" in done.stdout
    else:
        assert done.returncode == 2 and done.stderr.count("Error: ") == 1, done.stderr
        assert "2 ranks have 1 core(s) on " in done.stderr and "--oversubscribe" in done.stderr


def test_an_option_of_train_before_the_dashes_is_told_where_it_belongs(gan_mpi):
    done = gan_mpi("bench", "--preset", "dcgan")
    assert done.returncode == 2
    assert "No such option '--preset'; options of train follow --." in done.stderr


def test_a_network_that_does_not_fit_is_named_on_all_ranks_of_a_sweep(gan_mpi, tmp_path):
    """Found by the first rank while the other waits for its turn."""
    data = ("--glyphs", 60, "--conditional", "--network", "lightning", "--preset", "paddle-uniform")
    done = gan_mpi("bench", "--oversubscribe", "--sweep", "--", *data, size=2, timeout=30)
    assert done.returncode != 0 and done.stderr.count("Error: ") == 1, done.stderr


def test_a_batch_that_leaves_a_rank_without_images_is_timed(gan_mpi, tmp_path):
    options = ("--oversubscribe", "--seconds", 0.01, "--json", "j")
    done = gan_mpi("bench", *options, "--", "--glyphs", 60, "--batch", 1, size=2)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "j").read_text())["rates"]["of_layer"] > 0


@pytest.mark.slow
def test_small_shares_are_timed_with_two_images_for_batch_norms_sake(gan_mpi, tmp_path):
    sweep = ("--sweep", "--seconds", 0.01, "--json", "j", "--oversubscribe")
    done = gan_mpi("bench", *sweep, "--", "--preset", "small", "--glyphs", 60, "--batch", 2, size=2)
    assert done.returncode == 0, done.stderr
    lines = json.loads((tmp_path / "j").read_text())["lines"]
    assert {each["batch"] for each in lines} == {2}


def test_ranks_and_cores():
    both = frozenset({0, 1})
    assert oversubscribed([both] * 2, [1, 1]) == ""
    assert oversubscribed([frozenset({0}), frozenset({1})], [1, 1]) == ""
    assert oversubscribed([both] * 3, [1] * 3).startswith("3 ranks have 2 core(s) on ")
    assert oversubscribed([both] * 2, [2, 2]).startswith("2 ranks with 4 threads have 2 core(s) on")
    assert oversubscribed([both], [4]).startswith("1 rank with 4 threads has 2 core(s) on ")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--run-dir", "x"), "--run-dir does not go with bench"),
        (("--explain",), "--explain does not go with bench"),
        (("--datadir", "nowhere"), "nowhere"),
        (("--average", "weights"), "--average weights trains each rank by itself"),
        (("--batch", "0"), "of the options of train: Invalid value for '--batch'"),
    ],
)
def test_what_cannot_be_timed_is_named(gan_mpi, options, said):
    data = () if "--datadir" in options else ("--glyphs", 60)
    leave = ("--oversubscribe", "--sweep")
    done = gan_mpi("bench", *leave, "--", *data, *options, size=2, timeout=30)
    assert done.returncode in (1, 2)
    assert done.stderr.count("Error: ") == 1 and said in done.stderr
