"""The classifier that images are compared by: how good, how small, of what, and one file."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import write_glyphs

from gan_mpi.datasets.dataset import Source
from gan_mpi.datasets.drawn import draw_glyphs
from gan_mpi.datasets.find import load_dataset
from gan_mpi.evaluation.extractor import Extractor, bundled, read_classifier, save_classifier
from gan_mpi.evaluation.lenet import LeNet
from gan_mpi.evaluation.reference import Reference
from gan_mpi.runs.record import DataRecord


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_bundled_classifier_knows_mnist(mnist):
    path = bundled()["mnist"]
    extractor = read_classifier(path.read_bytes(), path)
    test = load_dataset(Source(str(mnist)), "test")
    parts = np.array_split(test.images, 10)
    found = np.concatenate([extractor.extract(part)[1].argmax(1) for part in parts])
    right = (found == test.labels).mean()
    assert right == extractor.accuracy >= 0.985


@pytest.mark.long
def test_the_first_minute_trains_a_classifier_as_good_as_the_bundled_one(gan_mpi, tmp_path, mnist):
    for size in (1, 2):
        out = tmp_path / f"on{size}.safetensors"
        command = ("train-classifier", "--datadir", mnist, "--out", out)
        assert gan_mpi(*command, size=size, timeout=200).returncode == 0
        accuracy = read_classifier(out.read_bytes(), out).accuracy
        print(f"on {size} rank(s): {accuracy:.2%}")
        assert accuracy >= 0.985


def test_a_classifier_that_knows_next_to_nothing_is_said(gan_mpi, tmp_path):
    networks = {classes: LeNet((1, 28, 28), classes) for classes in (2, 10)}
    for classes, accuracy, knows in ((10, 0.18, 0), (10, 0.2, 1), (2, 0.54, 0), (2, 0.56, 1)):
        extractor = Extractor("x", "a", accuracy, (1, 28, 28), networks[classes])
        assert (extractor.doubt == "") == knows
    about = {"name": "x", "data": "a", "shape": "[1, 28, 28]", "classes": "10", "accuracy": "0.1"}
    (tmp_path / "c.safetensors").write_bytes(save_classifier(networks[10], about))
    given = ("--steps", "1", "--evaluate-every", "1", "--classifier", "c.safetensors")
    write_glyphs(tmp_path / "data", 0, 40, tests=20)
    data = ("--datadir", "data", "--batch", "32")
    done = gan_mpi("train", *data, *given, "--samples", "12", size=2)
    assert done.returncode == 0, done.stderr
    said = "Warning: the classifier x has 10.0% of the test images right, of 10 classes: figures "
    assert done.stderr.count(said) == 1


def test_small_images_are_named_before_a_classifier_is_trained(gan_mpi, tmp_path):
    (tmp_path / "small").mkdir()
    for split in ("train", "test"):
        images, labels = draw_glyphs(20)
        np.savez(tmp_path / "small" / split, images=images[:, 0, :24:3, :24:3], labels=labels)
    few = ("train", "--datadir", "small", "--batch", "8", "--steps", "1", "--run-dir", "run")
    assert gan_mpi(*few).returncode == 0
    said = "holds images of 8x8, and the classifier that images are compared by takes 12 pixels"
    for words in (("train-classifier", "--datadir", "small"), ("evaluate", "run")):
        done = gan_mpi(*words, size=2)
        assert (done.returncode, done.stderr.count(said)) == (2, 1), done.stderr
    LeNet((1, 12, 12), 2)
    with pytest.raises(ValueError, match="11x12 is too small"):
        LeNet((1, 11, 12), 2)


@pytest.mark.parametrize(
    ("asked", "judged", "learned", "by_number"),
    [
        (("apple", "banana"), (), False, False),  # of the bundled classifier, say: not judged
        (("apple", "banana"), (), True, True),
        ((), (), True, True),
        ((), (), False, True),
        ((), ("cat", "dog"), False, True),
    ],
)
def test_classes_without_names_are_of_the_images_that_were_learned(
    asked, judged, learned, by_number
):
    reference = object.__new__(Reference)
    reference.extractor = Extractor("c", "a", 0.9, (1, 28, 28), LeNet((1, 28, 28), 2))
    reference.class_names, reference.learned = list(judged or (asked if learned else ())), learned
    places = reference.places((5, 5), asked)
    assert (places is not None) == by_number
    data = DataRecord("x", "x", None, None, shape=(1, 28, 28), sha256="", count=10)
    doubts = reference.doubts(replace(data, label_counts=(5, 5), class_names=asked))
    warned = by_number and not learned
    assert any("learned other images" in each for each in doubts) == warned
    assert any("is not measured" in each for each in doubts) != by_number


def test_one_classifier_is_one_file():
    """The library puts what is said of it in another order each time."""
    about = {name: name for name in ("name", "data", "shape", "classes", "accuracy")}
    network = LeNet((1, 28, 28), 10)
    files = {save_classifier(network, about) for _ in range(10)}
    assert len(files) == 1
    (header,) = (data[8 : 8 + int.from_bytes(data[:8], "little")] for data in files)
    assert len(header) % 8 == 0 and json.loads(header)["__metadata__"]["shape"] == "shape"
