"""Classes by their names: of one folder, of its splits, and of sites that number them otherwise."""

import json

import numpy as np
import pytest
from test_folders import load, save

from gan_mpi.options.params import ClassList


def test_a_name_is_one_class_however_its_letters_are_composed(tmp_path):
    """As macOS writes it, and as others do; in a file of names too."""
    composed, apart = "caf\u00e9", "cafe\u0301"
    save(tmp_path / "train" / composed / "0.png"), save(tmp_path / "test" / apart / "0.png")
    save(tmp_path / "train" / "tea" / "0.png"), save(tmp_path / "test" / "tea" / "0.png")
    both = [load(tmp_path, split) for split in ("train", "test")]
    assert both[0].classes == both[1].classes == (composed, "tea")
    assert both[0].labels.tolist() == both[1].labels.tolist() == [0, 1]
    assert ClassList().convert(f"{apart},tea", None, None) == [composed, "tea"]


def test_classes_keep_the_order_of_names_as_they_lie_there(tmp_path):
    """By which runs have numbered them; composed, the second would come after the third."""
    for name in ("zoo", "e\u0301cole", "bar"):
        save(tmp_path / name / "0.png")
    assert load(tmp_path).classes == ("bar", "\u00e9cole", "zoo")


def test_classes_that_differ_in_capitals_are_said(tmp_path):
    for name in ("Dog", "dog", "emu"):
        save(tmp_path / name / "0.png")
    data = load(tmp_path)
    assert data.classes == ("Dog", "dog", "emu")
    assert data.notes == ("classes that differ in capitals alone are two: Dog and dog",)


@pytest.fixture
def sites(tmp_path):
    """Two sites that have one class in common."""
    for site, names in enumerate((("cat", "dog"), ("dog", "emu"))):
        for name in names:
            for n in range(8):
                value = {"cat": 10, "dog": 128, "emu": 240}[name]
                save(tmp_path / f"site-{site}" / name / f"{n}.png", value)
                save(tmp_path / f"site-{site}" / "test" / name / f"{n}.png", value)
    return tmp_path


def moved(tmp_path):
    for site in (0, 1):
        root = tmp_path / f"site-{site}"
        (root / "train").mkdir()
        for path in list(root.iterdir()):
            if path.name not in ("train", "test"):
                path.rename(root / "train" / path.name)


FEDERATED = ("--preset", "federated", "--datadir", "site-{rank}", "--conditional", "--batch", "4")


def test_sites_agree_on_the_union_of_their_classes(gan_mpi, sites):
    moved(sites)
    done = gan_mpi("train", *FEDERATED, "--steps", "4", "--run-dir", "r", size=2)
    assert done.returncode == 0, done.stderr
    assert "classes: cat, dog, emu\n" in done.stdout
    data = json.loads((sites / "r" / "config.json").read_text())["data"]
    assert data["class_names"] == ["cat", "dog", "emu"] and data["label_counts"] == [8, 16, 8]
    again = gan_mpi("train", *FEDERATED, "--steps", "8", "--run-dir", "r", size=2)
    assert again.returncode == 0, again.stderr
    done = gan_mpi("sample", "r", "--class", "emu,cat", "--seeds", "0-2", "--format", "npz")
    assert done.returncode == 0, done.stderr
    with np.load(sites / "samples.npz") as drawn:
        assert drawn["labels"].tolist() == [2, 2, 2, 0, 0, 0]
        assert drawn["class_names"].tolist() == ["cat", "dog", "emu"]
    assert gan_mpi("export", "r", "--out", "g.safetensors").returncode == 0
    data = (sites / "g.safetensors").read_bytes()
    about = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    assert json.loads(about["class_names"]) == ["cat", "dog", "emu"]
    wrong = gan_mpi("sample", "r", "--class", "owl")
    assert wrong.returncode == 2 and "knows the classes cat, dog, emu, not owl." in wrong.stderr
    (sites / "site-1" / "train" / "emu").rename(sites / "site-1" / "train" / "fox")
    (sites / "site-1" / "test" / "emu").rename(sites / "site-1" / "test" / "fox")
    wrong = gan_mpi("train", *FEDERATED, "--steps", "12", "--run-dir", "r", size=2)
    assert wrong.returncode == 2 and wrong.stderr.count("Error") == 1
    assert "are cat, dog, fox, and this run was trained on cat, dog, emu" in wrong.stderr


def test_names_and_numbers_do_not_mix_between_sites(gan_mpi, tmp_path):
    save(tmp_path / "site-0" / "cat" / "0.png", size=28)
    (tmp_path / "site-1").mkdir()
    archive = tmp_path / "site-1" / "train.npz"
    np.savez(archive, images=np.zeros((4, 32, 32), np.uint8), labels=np.zeros(4, np.uint8))
    done = gan_mpi("train", *FEDERATED, "--steps", "4", "--run-dir", "r", size=2)
    assert done.returncode == 2 and done.stderr.count("Error") == 1
    assert "name them there in a file classes.txt" in done.stderr
    (tmp_path / "site-1" / "classes.txt").write_text("cat\n")
    done = gan_mpi("train", *FEDERATED, "--steps", "4", "--run-dir", "r", size=2)
    assert done.returncode == 0, done.stderr


def test_a_class_without_training_images_is_not_drawn(gan_mpi, tmp_path):
    for n in range(8):
        save(tmp_path / "in" / "train" / "cat" / f"{n}.png", n)
        save(tmp_path / "in" / "train" / "emu" / f"{n}.png", n)
    save(tmp_path / "in" / "test" / "dog" / "0.png", 5)
    words = ("--datadir", "in", "--run-dir", "r", "--steps", "2", "--conditional")
    assert gan_mpi("train", *words).returncode == 0
    wrong = gan_mpi("sample", "r", "--class", "cat,dog")
    assert wrong.returncode == 2 and "is of the class dog." in wrong.stderr
    assert gan_mpi("sample", "r", "--format", "npz").returncode == 0
    with np.load(tmp_path / "samples.npz") as drawn:
        assert set(drawn["labels"]) == {0, 2}
    wrong = gan_mpi("sample", "r", "--grid", "3x1")
    assert wrong.returncode == 2 and "has 1 rows, and the classes take 2; give 3x2" in wrong.stderr
