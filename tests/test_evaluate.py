"""Generators are compared with test images, alone or on many ranks, after training or during it."""

import json
import shutil

import pytest
from conftest import MAIN_WITH_FEW_POINTS, write_idx_files
from PIL import Image

from gan_mpi.datasets.drawn import draw_glyphs
from gan_mpi.runs.directory import list_checkpoints
from gan_mpi.runs.evaluations import best_evaluation, comparable, read_evaluations


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory):
    """A folder with 499 training and 300 test images of glyphs."""
    folder = tmp_path_factory.mktemp("glyphs")
    for prefix, count, first in (("train", 499, 0), ("t10k", 300, 10_000)):
        images, labels = draw_glyphs(count, first)
        write_idx_files(folder, prefix, images[:, 0], labels)
    return folder


@pytest.fixture
def small(glyphs):
    """Options of a run that takes a moment."""
    return "--datadir", str(glyphs), "--batch", "32"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder for classifiers, with that of `glyphs` once `classifier` has made it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, cache):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture
def classifier(gan_mpi, cache, glyphs):
    """The classifier of `glyphs`, in the cache."""
    folder = cache / "gan-mpi"
    if not folder.exists():
        result = gan_mpi("train-classifier", "--datadir", glyphs, "--epochs", 8, size=2)
        assert result.returncode == 0, result.stderr
        assert "epoch 8/8: loss" in result.stdout
        assert "of 300 test images right, SHA-256" in result.stdout
    (path,) = folder.glob("classifier-*.safetensors")
    return path


@pytest.mark.slow
def test_any_number_of_ranks_evaluates_alike(mpirun, gan_mpi, tmp_path, classifier, small):
    """1, 2 and 3 ranks, an odd number of samples, images and points."""
    images = ("train", *small, "--steps", "30", "--run-dir", "images")
    points = ("train", "--preset", "paddle-uniform", "--steps", "5")
    for command in (images, (*points, "--run-dir", "points")):
        assert gan_mpi(*command, code=MAIN_WITH_FEW_POINTS).returncode == 0
    runs = [str(tmp_path / "images"), str(tmp_path / "points")]
    found = mpirun(3, "evaluations_on_sizes", [1, 2, 3], runs, None)[0]
    for number, figures_of_run in enumerate(found["1"]):
        for size in ("2", "3"):
            other = found[size][number]
            for kind in ("figures", "floor"):
                for name, value in figures_of_run[kind].items():
                    near = pytest.approx(value, rel=1e-9, abs=1e-9)
                    assert other[kind][name] == near, name
    images, points = found["1"]
    assert images["extractor"]["name"].startswith("glyphs")
    counts = [images[name] for name in ("samples", "floor_samples", "real")]
    assert counts == [499, 499, 300]
    assert images["figures"]["frechet"] > 3 * images["floor"]["frechet"] > 0
    assert 0 <= images["floor"]["kl_uniform"] < 0.1
    assert images["floor"]["memorised"] == pytest.approx(0.01, abs=0.004)
    assert points["extractor"]["name"] == "points"
    assert "histogram" not in points["figures"] and points["floor"]["density"] > 0.8
    assert len(read_evaluations(tmp_path / "images")) == 1, "the last of three"
    with Image.open(tmp_path / "images" / "nearest-000030.png") as picture:
        assert picture.info["extractor"] == images["extractor"]["sha256"]
        assert picture.info["step"] == "30"
    assert not (tmp_path / "points" / "nearest-000005.png").exists()


def test_the_figures_are_printed_beside_their_floor(gan_mpi, tmp_path, classifier, small):
    gan_mpi("train", *small, "--steps", "3", "--run-dir", "run")
    result = gan_mpi("evaluate", "run", size=2)
    assert result.returncode == 0, result.stderr
    record = read_evaluations(tmp_path / "run")[-1]
    shown = {line.split("  ")[0]: line.split() for line in result.stdout.splitlines()}
    assert shown["Frechet distance"][2] == f"{record['figures']['frechet']:.4f}"
    assert shown["Frechet distance"][3] == f"{record['floor']['frechet']:.4f}"
    assert shown["recall"][1:] == [f"{record[kind]['recall']:.4f}" for kind in ("figures", "floor")]
    assert f"SHA-256 {record['extractor']['sha256'][:16]}" in result.stdout
    in_floors = record["figures"]["frechet"] / record["floor"]["frechet"]
    assert f"  {in_floors:.2f} floors (499, 300)\n" in result.stdout
    assert f"± {record['figures']['kernel_error']:.6f}, 95 %" in result.stdout
    as_json = gan_mpi("evaluate", "run", "--json").stdout
    assert json.loads(as_json)["figures"]["density"] == pytest.approx(record["figures"]["density"])


def test_another_number_of_samples_has_a_distance_and_no_floors(gan_mpi, classifier, small):
    """Both carry a bias that falls with the number; of a few images it is all there is."""
    gan_mpi("train", *small, "--steps", "3", "--run-dir", "run")
    some = gan_mpi("evaluate", "run", "--samples", "300").stdout
    assert "Frechet distance" in some and "floors (" not in some
    assert "no floors: they are of 499 training images, and want as many samples" in some
    few = gan_mpi("evaluate", "run", "--samples", "255").stdout
    assert "Frechet distance   " not in few and "kernel distance   " in few
    assert "no Frechet distance: it wants 256 samples, training and test images or more" in few


def test_an_average_and_the_weights_themselves_are_told_apart(gan_mpi, tmp_path, classifier, small):
    gan_mpi("train", *small, "--ema", "1", "--lr", "0.01", "--steps", "3", "--run-dir", "run")
    for words in ((), ("--no-ema",)):
        done = gan_mpi("evaluate", "run", *words)
        assert done.returncode == 0, done.stderr
        assert ("499 samples by G's own weights against" in done.stdout) == bool(words)
    of_average, own = read_evaluations(tmp_path / "run")
    assert own["own_weights"] and "own_weights" not in of_average
    assert of_average["figures"]["kernel"] != own["figures"]["kernel"]
    assert comparable([of_average, own]) == [of_average]
    page = gan_mpi("report", "run")
    assert page.returncode == 0, page.stderr
    text = (tmp_path / "report.html").read_text()
    assert "<th>3 (best)</th>" in text and "<th>3 (own weights)</th>" in text


def test_the_classifier_that_is_proposed_is_that_of_the_data_compared_with(
    gan_mpi, tmp_path, glyphs, classifier
):
    gan_mpi("train", "--glyphs", "60", "--batch", "32", "--steps", "1", "--run-dir", "run")
    shutil.copytree(glyphs, tmp_path / "other data")
    labels = tmp_path / "other data" / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\0")
    done = gan_mpi("evaluate", "run", "--datadir", "other data")
    assert done.returncode == 1
    assert "gan-mpi train-classifier --datadir 'other data'" in done.stderr


def test_what_cannot_be_evaluated_is_named(
    mpirun, gan_mpi, tmp_path, idx_folder, classifier, glyphs
):
    once = {"batch": 32, "steps": 1}
    trained = [
        {**once, "datadir": str(idx_folder), "run_dir": "untested"},
        {**once, "glyphs": 60, "run_dir": "new"},
        {**once, "datadir": str(glyphs), "run_dir": "known"},
        {**once, "datadir": str(idx_folder), "run_dir": "early", "evaluate_every": 1},
    ]
    *codes, early = mpirun(2, "train_outcomes", trained, str(tmp_path))[0]
    assert codes == [0, 0, 0]
    assert early[1:] == [1, True] and "holds no test images" in early[0]
    assert not (tmp_path / "early").exists()
    (tmp_path / "cut.safetensors").write_bytes(classifier.read_bytes()[:900])
    cases = [
        (
            "untested",
            None,
            None,
            "data holds no test images; sought were t10k-images",
            1,
        ),
        ("new", None, None, "gan-mpi train-classifier --glyphs 60", 1),
        ("known", None, "cut.safetensors", "is damaged, or no classifier", 1),
        ("known", None, "absent", "a file of gan-mpi train-classifier, or", 1),
        ("known", 7, None, "holds no step 7, but 1, 0", 2),
        ("absent", None, None, "there is no run or checkpoint 'absent'", 2),
    ]
    calls = [case[:3] for case in cases]
    everyone = mpirun(2, "evaluate_outcomes", calls, str(tmp_path))
    assert everyone[0] == everyone[1]
    for (*_, sentence, code), (text, found, on_all) in zip(cases, everyone[0], strict=True):
        assert sentence in text and (found, on_all) == (code, True), text
    assert not (tmp_path / "known" / "metrics.jsonl").exists()
    few = gan_mpi("evaluate", "known", "--samples", "5", size=2)
    assert (few.returncode, few.stderr.count("5 is not in the range x>=6")) == (2, 1)


@pytest.mark.slow
def test_training_keeps_the_best_and_a_resume_repeats_the_figures(
    mpirun, tmp_path, classifier, glyphs
):
    given = {"datadir": str(glyphs), "batch": 32, "evaluate_every": 10}
    runs = [
        {**given, "steps": 60, "run_dir": "whole"},
        {**given, "steps": 25, "run_dir": "parts"},
    ]
    assert mpirun(2, "train_outcomes", runs, str(tmp_path), charts=True)[0] == [0, 0]
    # As if it had been killed after step 25 and before anything later was saved.
    again = [{**given, "steps": 60, "run_dir": "parts"}]
    assert mpirun(2, "train_outcomes", again, str(tmp_path))[0] == [0]
    whole, parts = (read_evaluations(tmp_path / name) for name in ("whole", "parts"))
    assert [record["step"] for record in whole] == [0, 10, 20, 30, 40, 50, 60]
    assert [record["step"] for record in parts] == [0, 10, 20, 25, 30, 40, 50, 60]
    for record in whole:
        (same,) = (each for each in parts if each["step"] == record["step"])
        assert same["figures"] == record["figures"]
    best = best_evaluation(whole)["step"]
    kept = {step for step, _ in list_checkpoints(tmp_path / "whole")}
    assert kept == {40, 50, 60, best}
    with Image.open(tmp_path / "whole" / "losses.png") as picture:
        assert picture.info["extractor"] == whole[0]["extractor"]["sha256"]
        assert (picture.info["preset"], picture.info["step"]) == ("basic", "60")
    log = (tmp_path / "whole" / "log.txt").read_text()
    assert f"evaluation of step {best}: Frechet" in log
    assert "evaluation" in next(li for li in log.splitlines() if "started in" in li)


def test_the_best_is_kept_among_what_compares():
    def record(step, distance, extractor="a"):
        about = {"data": "mnist", "extractor": {"sha256": extractor}, "samples": 10}
        return {"step": step, "figures": {"frechet": distance}, **about}

    records = [record(1, 5.0), record(2, 1.0, "b"), record(3, 4.0), record(4, 6.0)]
    assert best_evaluation(records)["step"] == 3
    assert best_evaluation([]) is None
    assert best_evaluation(records, ("mnist", "b", 10, False))["step"] == 2
    own = {**record(4, 1.0), "own_weights": True}  # by evaluate --no-ema, later
    assert best_evaluation([*records, own])["step"] == 3
    assert best_evaluation([own])["step"] == 4


def test_a_step_that_is_evaluated_again_has_its_last_figures(tmp_path):
    def line(step, samples, distance):
        extractor = {"name": "x", "sha256": "a", "accuracy": None}
        about = {"data": "mnist", "extractor": extractor, "floor": {"frechet": 1.0}, "kimg": 0.0}
        about |= {"real": 10, "floor_samples": 10, "seconds": 1.0}
        figures = {"figures": {"frechet": distance, "kernel": 0.0}}
        return json.dumps({"step": step, "samples": samples, **about, **figures})

    lines = [line(1, 10, 5.0), line(2, 10, 4.0), line(1, 20, 3.0), line(1, 10, 2.0)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    found = read_evaluations(tmp_path)
    assert [each["figures"]["frechet"] for each in found] == [4.0, 3.0, 2.0]


def test_a_run_that_goes_on_is_evaluated_and_kept_as_before(gan_mpi, tmp_path, classifier, small):
    """Nobody has to repeat the options, and what one evaluated besides decides nothing."""
    run = ("--run-dir", "run", "--checkpoint-every", "1")
    first = ("--evaluate-every", "2", "--samples", "300", "--steps", "4")
    assert gan_mpi("train", *small, *run, *first).returncode == 0
    metrics = tmp_path / "run" / "metrics.jsonl"
    records = read_evaluations(tmp_path / "run")
    best = {**records[1], "figures": {**records[1]["figures"], "frechet": 1e-3}}
    other = {**records[1], "samples": 50}
    lines = [json.dumps(each) + "\n" for each in (records[0], best, other)]
    metrics.write_text("".join(lines) + '{"step": 4, "cut off')
    result = gan_mpi("train", "--resume", "run", "--steps", "8")
    assert result.returncode == 0, result.stderr
    steps = [each["step"] for each in read_evaluations(tmp_path / "run")]
    assert steps == [0, 2, 2, 4, 6, 8], "the one of step 4 was owed"
    kept = [step for step, _ in list_checkpoints(tmp_path / "run")]
    assert kept == [8, 6, 4, 2]


def test_too_few_training_images_are_named(gan_mpi, tmp_path, glyphs, classifier):
    images, labels = draw_glyphs(4)
    for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        (tmp_path / name).write_bytes((glyphs / name).read_bytes())
    write_idx_files(tmp_path, "train", images[:, 0], labels)
    options = ("--batch", "4", "--steps", "1", "--evaluate-every", "1")
    options += ("--classifier", classifier, "--datadir", tmp_path)
    result = gan_mpi("train", *options, size=2)
    assert result.returncode == 2
    assert result.stderr.count("4 training and 300 test images are too few") == 1


def test_equal_images_have_no_spread_to_compare_with(gan_mpi, tmp_path):
    images, labels = draw_glyphs(1)
    write_idx_files(tmp_path, "train", images[:, 0], labels)
    options = ("--batch", "4", "--steps", "1", "--run-dir", "run")
    result = gan_mpi("train", *options, "--datadir", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "spread" not in json.loads((tmp_path / "run" / "stats.jsonl").read_text())


def test_all_checkpoints_are_kept_if_asked(gan_mpi, tmp_path, small):
    command = ("train", *small, "--steps", "12", "--checkpoint-every", "2")
    assert gan_mpi(*command, "--keep", "all", "--run-dir", "run").returncode == 0
    steps = [step for step, _ in list_checkpoints(tmp_path / "run")]
    assert steps == [12, 10, 8, 6, 4, 2, 0]


def renamed(path, out, places, names):
    """Write a classifier with its classes in another order, under these names."""
    from safetensors import safe_open
    from safetensors.torch import load, save

    tensors = load(path.read_bytes())
    with safe_open(path, "pt") as file:
        about = file.metadata()
    for name in ("classify.weight", "classify.bias"):
        tensors[name] = tensors[name][places].contiguous()
    out.write_bytes(save(tensors, {**about, "class_names": json.dumps(names)}))
    return out


def test_samples_are_judged_by_the_names_of_classes(gan_mpi, tmp_path, glyphs, small, classifier):
    """The same classifier with its classes in another order says the same of each name."""
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    shutil.copytree(glyphs, tmp_path / "named")
    (tmp_path / "named" / "classes.txt").write_text("\n".join(names))
    given = ("--datadir", tmp_path / "named", *small[2:], "--conditional", "--steps", "30")
    assert gan_mpi("train", *given, "--run-dir", "run").returncode == 0
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    found = []
    for places in (range(10), order):
        other = renamed(classifier, tmp_path / "c", list(places), [names[n] for n in places])
        done = gan_mpi("evaluate", "run", "--classifier", other, "--samples", 400, "--json")
        assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
        evaluation = json.loads(done.stdout)
        assert evaluation["class_names"] == [names[n] for n in places]
        found.append(evaluation["figures"])
    for figure in ("agreement", "histogram"):
        assert found[1][figure] == [found[0][figure][n] for n in order]
    assert found[0]["agreement"] != found[1]["agreement"]
    other = renamed(classifier, tmp_path / "c", list(range(10)), [*names[:9], "dog"])
    done = gan_mpi("evaluate", "run", "--classifier", other, "--samples", 400, "--json")
    assert "agreement" not in json.loads(done.stdout)["figures"]
    assert "dog: whether samples are of the class that was asked for is not measur" in done.stderr
    about = ("--conditional", "--batch", "32", "--steps", "1", "--run-dir", "x")
    (tmp_path / "named" / "classes.txt").write_text("\n".join(names[::-1]))
    done = gan_mpi("train", "--datadir", tmp_path / "named", *about, "--transfer", "run")
    assert done.returncode == 2 and "--transfer: the classes of run/checkpoint" in done.stderr


def test_a_classifier_that_learned_other_labels_is_not_taken(gan_mpi, tmp_path, glyphs, classifier):
    shutil.copytree(glyphs, tmp_path / "mended")
    labels = tmp_path / "mended" / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\0")
    words = ("--batch", "32", "--steps", "1", "--evaluate-every", "1", "--run-dir", "run")
    done = gan_mpi("train", "--datadir", tmp_path / "mended", *words)
    assert done.returncode == 1 and "there is no classifier for these images yet" in done.stderr
    done = gan_mpi("train", "--datadir", glyphs, *words)
    assert done.returncode == 0, done.stderr
