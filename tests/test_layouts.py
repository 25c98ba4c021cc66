"""Folders of pictures and NumPy archives, and from one layout to another."""

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import MAIN
from PIL import Image

from gan_mpi.cli import cli
from gan_mpi.datasets import idx
from gan_mpi.datasets.convert import convert
from gan_mpi.datasets.dataset import Source
from gan_mpi.datasets.find import load_dataset
from gan_mpi.errors import UserError

# Data do not care how large a network is.
SMALL_DCGAN = f"from gan_mpi.networks import dcgan; dcgan.FILTERS, dcgan.DENSE = 8, 16; {MAIN}"


def load(folder, split="train", **options):
    return load_dataset(Source(str(folder), **options), split)


def pictures(folder, classes=("cat", "dog"), each=6, mode="RGB", ending="png"):
    """Write pictures of different sizes, those of a class in a folder of its name."""
    numbers = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for n in range(each):
            shape = (20 + n, 40) if mode == "L" else (20 + n, 40, 3)
            pixels = numbers.integers(0, 256, shape, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{n}.{ending}")
    return folder


def test_pictures_are_cropped_to_their_middle_and_resized(tmp_path):
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 10:20] = 200
    Image.fromarray(wide).save(tmp_path / "a.png")
    found = load(tmp_path, resolution=16)
    assert found.images.shape == (1, 1, 16, 16)
    assert (abs(found.images[..., 2:-2].astype(int) - 200) < 5).all()  # Lanczos rings
    assert found.labels is None
    assert load(tmp_path).images.shape == (1, 1, 32, 32)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_sub_folders_are_classes_in_the_order_of_their_names(tmp_path, ending):
    found = load(pictures(tmp_path, ("dog", "cat", "eel"), ending=ending))
    assert found.images.shape == (18, 3, 32, 32)
    assert found.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert found.images.flags.c_contiguous


def test_one_coloured_picture_makes_all_of_them_coloured(tmp_path):
    pictures(tmp_path, ("a",), mode="L")
    assert load(tmp_path).shape == (1, 32, 32)
    pictures(tmp_path, ("b",), mode="RGB")
    assert load(tmp_path).shape == (3, 32, 32)


def test_train_and_test_may_lie_beside_each_other(tmp_path):
    pictures(tmp_path / "train"), pictures(tmp_path / "test", each=2)
    assert len(load(tmp_path).images) == 12
    test = load(tmp_path, "test")
    assert len(test.images) == 4 and test.labels.tolist() == [0, 0, 1, 1]


def test_a_class_has_one_number_in_both_splits(tmp_path):
    pictures(tmp_path / "train", ("cat", "dog", "eel"))
    pictures(tmp_path / "test", ("eel",), each=2)
    assert load(tmp_path, "test").labels.tolist() == [2, 2]
    (tmp_path / "only").mkdir()
    assert load(pictures(tmp_path / "only", ("cat",))).labels.tolist() == [0] * 6


def test_sixteen_bits_are_not_clipped(tmp_path):
    pixels = np.full((8, 8), 0x80FF, np.uint16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (load(tmp_path).images == 0x80).all()


def test_a_classifier_is_made_at_the_resolution_of_a_run(gan_mpi, tmp_path):
    pictures(tmp_path / "in" / "train", each=40)
    pictures(tmp_path / "in" / "test", each=20)
    words = ("--datadir", "in", "--resolution", "16")
    made = gan_mpi("train-classifier", *words, "--epochs", "1", "--out", "c.safetensors")
    assert made.returncode == 0, made.stderr
    words += ("--classifier", "c.safetensors", "--samples", "40", "--run-dir", "r")
    done = gan_mpi("train", *words, "--steps", "2", "--batch", "8", "--evaluate-every", "2")
    assert done.returncode == 0 and "kernel distance" in done.stdout, done.stderr


def archive(folder, **arrays):
    folder.mkdir(exist_ok=True)
    np.savez(folder / "train.npz", **arrays)
    return folder


GREY = np.arange(5 * 28 * 28, dtype=np.int64).reshape(5, 28, 28).astype(np.uint8)


@pytest.mark.parametrize(
    ("images", "shape"),
    [
        (GREY, (1, 28, 28)),
        (GREY[..., None], (1, 28, 28)),
        (np.zeros((5, 8, 12, 3), np.uint8), (3, 8, 12)),
        (np.zeros((5, 3, 8, 12), np.uint8), (3, 8, 12)),
    ],
)
def test_archives_hold_images_with_channels_first_or_last(tmp_path, images, shape):
    found = load(archive(tmp_path, images=images, labels=np.arange(5)))
    assert found.shape == shape and found.labels.tolist() == [0, 1, 2, 3, 4]
    assert found.images.sum() == images.sum()


def broken(folder):
    pictures(folder)
    (folder / "dog" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")


def cut_off(folder):
    pictures(folder)
    whole = (folder / "dog" / "3.png").read_bytes()
    (folder / "dog" / "3.png").write_bytes(whole[: len(whole) // 2])


def loose(folder):
    pictures(folder)
    Image.fromarray(GREY[0]).save(folder / "z.png")


def truncated(folder):
    archive(folder, images=GREY)
    data = (folder / "train.npz").read_bytes()
    (folder / "train.npz").write_bytes(data[:100])


def not_an_archive(folder):
    (folder / "train.npz").write_text("hello")


OBJECTS = np.array([np.zeros(3), np.zeros(4)], dtype=object)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (broken, "dog/3.png"),
        (cut_off, "cannot read"),
        (loose, "z.png lies beside the sub-folders of the classes"),
        (truncated, "truncated or no NumPy archive"),
        (not_an_archive, "truncated or no NumPy archive"),
        (lambda f: archive(f, images=OBJECTS), "holds Python objects"),
        (lambda f: archive(f, x=GREY), "has no array 'images'; it has x"),
        (lambda f: archive(f, images=GREY, labels=np.arange(4)), "4 labels for 5"),
        (lambda f: archive(f, images=GREY, labels=np.arange(5) - 1), "in 0..255"),
        (lambda f: archive(f, images=GREY / 255), "float64, not uint8"),
        (lambda f: archive(f, images=GREY[0]), "28x28, and should be"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, make, said):
    make(tmp_path)
    with pytest.raises(UserError, match="^[^\n]+$") as error:
        load(tmp_path)
    assert said in str(error.value)


@pytest.mark.parametrize("layout", ["idx", "ctf", "npz"])
def test_there_and_back_is_the_identity(tmp_path, idx_folder, layout):
    before = load(idx_folder)
    there = Source(str(tmp_path / "there"))
    files = convert(Source(str(idx_folder)), tmp_path / "there", layout, print)
    assert all(file.exists() for file in files)
    back = convert(there, tmp_path / "back", "idx", print)
    assert [p.name for p in back] == [
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
    ]
    for path in back:
        assert path.read_bytes() == (idx_folder / path.name).read_bytes()
    assert load(tmp_path / "there").sha256 == before.sha256


def test_convert_refuses_what_a_layout_cannot_hold_and_overwrites_nothing(tmp_path):
    pictures(tmp_path / "in")
    run = CliRunner().invoke
    done = run(cli, ["data", "convert", f"{tmp_path}/in", f"{tmp_path}/out", "--to", "npz"])
    assert done.exit_code == 0 and "train.npz" in done.output
    again = run(cli, ["data", "convert", f"{tmp_path}/in", f"{tmp_path}/out", "--to", "npz"])
    assert "exists; give another folder" in str(again.exception)
    for layout in ("idx", "ctf"):
        wrong = run(cli, ["data", "convert", f"{tmp_path}/in", f"{tmp_path}/x", "--to", layout])
        assert "holds grey images of 28x28, not 3x32x32" in str(wrong.exception)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("layout", ["pictures", "npz"])
def test_such_data_train_and_sample_on_two_ranks(gan_mpi, tmp_path, layout):
    pictures(tmp_path / "in", each=40)
    folder = tmp_path / "in"
    if layout == "npz":
        folder = tmp_path / "out"
        convert(Source(str(tmp_path / "in")), folder, "npz", print)
    words = ("--preset", "dcgan", "--steps", "2", "--batch", "8", "--conditional")
    small = {"size": 2, "code": SMALL_DCGAN}
    train = gan_mpi("train", "--datadir", folder, "--run-dir", "r", *words, **small)
    assert train.returncode == 0, train.stderr
    done = gan_mpi("sample", "r", "--class", "dog", "--grid", "3x1", **small)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.mode == "RGB"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("cat\n", "names 1 classes, and a label is 1"),
        ("cat\ncat\n", "names cat twice"),
        ("cat\n\ndog\n", "a name of a class a line"),
        ("\n".join(map(str, range(257))), "names 257 classes; at most 256"),
    ],
)
def test_a_wrong_file_of_names_is_refused(tmp_path, content, said):
    labels = np.array([0, 1], np.uint8)
    np.savez(tmp_path / "train.npz", images=np.zeros((2, 8, 8), np.uint8), labels=labels)
    (tmp_path / "classes.txt").write_text("cat\ndog\n\n")
    assert load(tmp_path).classes == ("cat", "dog")
    (tmp_path / "classes.txt").write_text(content)
    with pytest.raises(UserError, match=f"classes.txt.*{said}"):
        load(tmp_path)


def test_names_go_with_the_data_into_other_layouts(tmp_path):
    for n, name in enumerate(("dog", "cat")):
        (tmp_path / "in" / name).mkdir(parents=True)
        Image.new("L", (28, 28), n).save(tmp_path / "in" / name / "0.png")
    words = ["data", "convert", str(tmp_path / "in"), str(tmp_path / "out"), "--to", "idx"]
    done = CliRunner().invoke(cli, [*words, "--resolution", "28"], catch_exceptions=False)
    assert done.exit_code == 0 and "classes.txt" in done.output
    assert load(tmp_path / "out").classes == ("cat", "dog")


def idx_bytes(count=40):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    return idx.bytes_of(pixels)


@pytest.mark.parametrize(
    "names",
    [
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte"),
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),  # a browser unpacked them
        *(
            (f"{a}train-images-idx3-ubyte", f"{a}train-labels-idx1-ubyte")
            for a in ("raw/", "MNIST/raw/")
        ),
        (
            "train-images-idx3-ubyte/train-images-idx3-ubyte",
            "train-labels-idx1-ubyte/train-labels-idx1-ubyte",
        ),
        (
            "train-images.idx3-ubyte/train-images-idx3-ubyte",
            "train-labels-idx1-ubyte",
        ),
    ],
)
def test_mnist_is_read_as_people_have_it(tmp_path, names):
    for name, data in zip(
        names, (idx_bytes(), idx.bytes_of(np.arange(40, dtype=np.uint8) % 10)), strict=True
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    found = load(tmp_path)
    assert len(found.images) == 40 and found.labels.tolist() == [n % 10 for n in range(40)]


IMAGES, COLUMN = np.zeros((4, 28, 28), np.uint8), np.arange(4, dtype=np.uint8)[:, None]


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("pathmnist.npz", ("train_images", "train_labels", "test_images", "test_labels")),
        ("mnist.npz", ("x_train", "y_train", "x_test", "y_test")),
        ("train.npz", ("images", "labels", "other", "more")),
        ("train.npz", ("x_train", "y_train", "x_test", "y_test")),
    ],
)
def test_archives_of_medmnist_and_keras_are_read(tmp_path, name, names):
    np.savez(
        tmp_path / name, **dict(zip(names, (IMAGES, COLUMN, IMAGES[:2], COLUMN[:2]), strict=True))
    )
    assert load(tmp_path).labels.tolist() == [0, 1, 2, 3]
    if name != "train.npz":
        assert load(tmp_path, "test").labels.tolist() == [0, 1]
