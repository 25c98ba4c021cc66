"""Folders of pictures as people have them: what is a class, what is read, and what is said."""

import os

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import write_idx
from PIL import Image

from gan_mpi.cli import cli
from gan_mpi.datasets.dataset import Source, like_training
from gan_mpi.datasets.find import load_dataset
from gan_mpi.errors import UserError


def load(folder, split="train", **options):
    return load_dataset(Source(str(folder), **options), split)


def save(path, value=0, mode="L", size=40, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (size, size), value).save(path, **options)
    return path


def info(folder):
    done = CliRunner().invoke(cli, ["data", "info", str(folder)], catch_exceptions=False)
    return done.output


def test_files_and_folders_of_systems_are_no_data(tmp_path):
    save(tmp_path / "cat" / "0.png"), save(tmp_path / "dog" / "0.png")
    for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir", ".cat", "lost+found"):
        save(tmp_path / name / "0.png")
    for name in ("._0.png", "Thumbs.db", ".DS_Store"):
        (tmp_path / "cat" / name).write_bytes(b"\0\5\x16\7")
    said = info(tmp_path)
    assert "labels: 0: 1, 1: 1\nclasses: 0 cat, 1 dog\n" in said
    assert "left out" not in said


def test_one_split_may_have_classes_and_the_other_none(gan_mpi, tmp_path):
    for n in range(12):
        save(tmp_path / "kaggle" / "train" / f"class{n % 2}" / f"{n}.png", n)
        save(tmp_path / "kaggle" / "test" / f"{n}.png", n)
        save(tmp_path / "other" / "train" / f"{n}.png", n)
        save(tmp_path / "other" / "test" / f"class{n % 2}" / f"{n}.png", n)
    train, test = (load(tmp_path / "kaggle", split) for split in ("train", "test"))
    assert train.labels.sum() == 6 and train.classes == ("class0", "class1")
    assert test.labels is None and len(test.images) == 12
    train, test = (load(tmp_path / "other", split) for split in ("train", "test"))
    assert train.labels is None and test.labels.sum() == 6
    few = ("--batch", "4", "--steps", "1", "--run-dir", "r")
    assert gan_mpi("train", "--datadir", "other", *few).returncode == 0
    done = gan_mpi("train", "--datadir", "other", *few[:4], "--average", "weights", size=2)
    assert done.returncode == 0, done.stderr
    done = gan_mpi("evaluate", "r", size=2)
    assert done.returncode == 1
    assert done.stderr.count("Error: --classifier: there is none for these images, and ") == 1
    done = gan_mpi("train-classifier", "--datadir", "kaggle", "--out", "c.safetensors")
    assert done.returncode == 1 and "kaggle has no labels beside it" in done.stderr


@pytest.mark.parametrize(("of_train", "of_test"), [("RGB", "L"), ("L", "RGB")])
def test_one_picture_in_colour_does_not_part_the_splits(tmp_path, of_train, of_test):
    for split, mode in (("train", of_train), ("test", of_test)):
        save(tmp_path / split / "0.png", 7), save(tmp_path / split / "1.png", 9)
        colour = (5, 5, 5) if mode == "RGB" else 5
        save(tmp_path / split / "2.png", colour, mode)
    train, test = (load(tmp_path, split) for split in ("train", "test"))
    assert train.shape != test.shape
    alike = like_training(train, test)
    assert alike.shape == train.shape and alike.images.flags.c_contiguous
    assert alike.images[:, 0, 0, 0].tolist() == [7, 9, 5]
    save(tmp_path / "test" / "3.png", (5, 6, 7), "RGB")
    if of_train == "L":
        with pytest.raises(UserError, match="test images of 3x32x32, and the training images are"):
            like_training(train, load(tmp_path, "test"))


def test_a_large_folder_is_not_listed_whole(tmp_path):
    for n in range(30):
        save(tmp_path / f"{n:02d}.png", size=2)
    assert "files: 00.png, 01.png, " in info(tmp_path)
    assert "11.png and 18 more\n" in info(tmp_path)


def test_what_is_not_read_is_counted_and_named(tmp_path):
    save(tmp_path / "train" / "cat" / "0.png")
    save(tmp_path / "train" / "dog" / "big" / "0.png"), save(tmp_path / "train" / "dog" / "1.png")
    save(tmp_path / "val" / "cat" / "0.png"), save(tmp_path / "val" / "cat" / "1.png")
    (tmp_path / "train" / "dog" / "about.txt").write_text("")
    (tmp_path / "train" / "emu").mkdir()
    (tmp_path / "licence").write_text("")
    (said,) = load(tmp_path).notes
    parts = set(said.removeprefix("left out: ").split(", "))
    assert parts == {
        "2 files in the folder val",
        "1 file in the folder dog/big",
        "1 file .txt",
        "nothing in the folder emu",
        "1 file beside the splits",
    }
    assert said in info(tmp_path)


@pytest.mark.parametrize(
    "ending", ["png", "jpg", "webp", "bmp", "tif", "gif", "ppm", "TIFF", "jp2"]
)
def test_every_usual_format_is_read(tmp_path, ending):
    for n, name in enumerate(("cat", "dog")):
        save(tmp_path / name / f"a.{ending}", 100 * n)
    found = load(tmp_path)
    assert found.labels.tolist() == [0, 1] and found.images.mean((1, 2, 3)) == pytest.approx(
        [0, 100], abs=3
    )


def test_programs_are_not_called_for_a_picture(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(UserError, match="b.png is no picture, or damaged"):
        load(tmp_path)
    os.rename(tmp_path / "b.png", tmp_path / "b.eps")
    assert load(tmp_path).notes == ("left out: 1 file .eps",)


@pytest.mark.parametrize("names", [("Train", "Test"), ("TRAIN", "testing"), ("training", "TEST")])
def test_splits_are_known_in_any_case(tmp_path, names):
    for split, value in zip(names, (10, 20), strict=True):
        save(tmp_path / split / "cat" / "0.png", value)
    assert (load(tmp_path).images == 10).all() and len(load(tmp_path).images) == 1
    assert (load(tmp_path, "test").images == 20).all()
    assert load(tmp_path).classes == ("cat",)


def test_two_folders_of_one_split_are_refused(tmp_path):
    save(tmp_path / "train" / "0.png"), save(tmp_path / "Train" / "0.png")
    with pytest.raises(UserError, match="holds both Train and train; one of them"):
        load(tmp_path)


def test_pictures_that_lie_deeper_are_pointed_at(tmp_path):
    save(tmp_path / "images" / "cat" / "0.png")
    with pytest.raises(UserError, match="no data at its top, but pictures in .*images/cat; give"):
        load(tmp_path)


def test_classes_that_are_numbers_are_in_their_order(tmp_path):
    for name in ("2", "10", "1"):
        save(tmp_path / name / "0.png", int(name))
    found = load(tmp_path)
    assert found.classes == ("1", "2", "10")
    assert sorted(zip(found.labels.tolist(), found.images[:, 0, 0, 0].tolist(), strict=True)) == [
        (0, 1),
        (1, 2),
        (2, 10),
    ]


@pytest.mark.parametrize(("most", "bits"), [(255, 8), (1023, 10), (4095, 12), (65535, 16)])
def test_sixteen_bits_are_as_many_as_are_used(tmp_path, most, bits):
    """The range is that of the whole folder, of both splits."""
    for split, value in (("train", most // 2), ("test", most)):
        (tmp_path / split).mkdir()
        Image.fromarray(np.full((8, 8), value, np.uint16)).save(tmp_path / split / "a.png")
    found = load(tmp_path)
    assert (found.images == 127).all()
    assert (load(tmp_path, "test").images == 255).all()
    said = f"pictures of 16 bits are taken as of {bits}, since none goes beyond"
    assert found.notes == (() if bits == 16 else (said,))


def test_numbers_of_unknown_range_are_refused(tmp_path):
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match="a.tif holds floating-point numbers, of whose range"):
        load(tmp_path)
    Image.fromarray(np.full((8, 8), -5, np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match="a.tif holds numbers below 0"):
        load(tmp_path)


def write_wide(path, value):
    """Write a PNG with colours of 16 bits, which Pillow does not write."""
    import struct
    import zlib

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + struct.pack(">H", value) * 24 for _ in range(8))
    head = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def test_dark_colours_of_sixteen_bits_are_refused(tmp_path):
    write_wide(tmp_path / "a.png", 0x0FFF)
    with pytest.raises(UserError, match="a.png holds colours of 16 bits that end below 4096"):
        load(tmp_path)
    write_wide(tmp_path / "a.png", 0x3FFF)
    (said,) = load(tmp_path).notes
    assert said.startswith("colours of 16 bits end below 16384 in all pictures that have them")
    write_wide(tmp_path / "b.png", 0x8000)
    assert load(tmp_path).images.max() == 0x80


def test_what_is_transparent_is_white(tmp_path):
    """A hidden colour does not show."""
    save(tmp_path / "a.png", (200, 0, 0, 0), "RGBA")
    assert load(tmp_path).shape == (3, 32, 32) and (load(tmp_path).images == 255).all()
    save(tmp_path / "a.png", (0, 0, 0, 128), "RGBA")
    assert (abs(load(tmp_path).images.astype(int) - 127) < 2).all()
    save(tmp_path / "a.png", (40, 0), "LA")
    assert load(tmp_path).shape == (1, 32, 32) and (load(tmp_path).images == 255).all()


def test_a_palette_of_greys_is_grey(tmp_path):
    grey = Image.new("P", (8, 8), 1)
    grey.putpalette([0, 0, 0, 90, 90, 90])
    grey.save(tmp_path / "a.png")
    assert load(tmp_path).shape == (1, 32, 32) and (load(tmp_path).images == 90).all()
    grey.putpalette([0, 0, 0, 90, 91, 90])
    grey.save(tmp_path / "a.png")
    assert load(tmp_path).shape == (3, 32, 32)


def test_a_picture_with_damaged_exif_is_read_unturned(tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "maker", 6
    damaged = bytearray(exif.tobytes())
    damaged[17] = 1  # the maker's type: bytes, and not text
    save(tmp_path / "a.jpg", 70, exif=bytes(damaged)), save(tmp_path / "b.jpg", 70)
    found = load(tmp_path)
    assert (abs(found.images.astype(int) - 70) < 3).all() and len(found.images) == 2
    assert found.notes == (f"{tmp_path}/a.jpg has damaged EXIF and is not turned by it",)


def test_of_moving_pictures_the_first_frame_is_read(tmp_path):
    frames = [Image.new("L", (8, 8), value) for value in (50, 100)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    found = load(tmp_path)
    assert (found.images == 50).all()
    assert found.notes == (f"{tmp_path}/a.gif has several frames, of which the first is read",)


def test_training_and_test_images_of_two_shapes_are_refused(gan_mpi, tmp_path):
    for n in range(12):
        save(tmp_path / "in" / "train" / str(n % 2) / f"{n}.png", n)
        save(tmp_path / "in" / "test" / str(n % 2) / f"{n}.png", (n, 0, 0), "RGB")
    said = "holds test images of 3x32x32, and the training images are of 1x32x32."
    done = gan_mpi("train-classifier", "--datadir", "in", "--out", "c.safetensors", size=2)
    assert done.returncode == 2 and done.stderr.count(said) == 1
    assert gan_mpi("train", "--datadir", "in", "--run-dir", "r", "--steps", "1").returncode == 0
    done = gan_mpi("evaluate", "r", "--samples", "8")
    assert done.returncode == 2 and done.stderr.count(said) == 1


def test_a_pipe_is_no_picture(tmp_path):
    """Which would be waited for without end."""
    save(tmp_path / "0.png")
    os.mkfifo(tmp_path / "1.png")
    data = load(tmp_path)
    assert len(data.images) == 1 and data.notes == ("left out: 1 file .png",)


def test_splits_of_several_sets_are_no_classes(tmp_path):
    """As CycleGAN's data and COCO's lie: the test images would be trained on, as a class."""
    for one, other in (("trainA", "testA"), ("train2017", "val2017"), ("Train-x", "test-x")):
        folder = tmp_path / one
        save(folder / one / "0.png"), save(folder / other / "0.png")
        with pytest.raises(
            UserError, match="look like splits of one set and not like classes"
        ) as e:
            load(folder)
        assert one in str(e.value) and other in str(e.value)
    for name in ("trains", "tests", "testa"):
        save(tmp_path / "classes" / name / "0.png")
    assert load(tmp_path / "classes").classes == ("testa", "tests", "trains")


def test_a_link_to_nothing_is_a_picture_that_cannot_be_read(tmp_path):
    save(tmp_path / "0.png")
    (tmp_path / "1.png").symlink_to("gone.png")
    with pytest.raises(UserError, match="cannot read .*1.png: No such file or directory"):
        load(tmp_path)


def test_data_of_another_layout_beside_are_said(tmp_path):
    """MNIST's files are read, whatever an archive beside them is."""
    write_idx(tmp_path)
    (tmp_path / "train.npz").write_bytes(b"no archive")
    save(tmp_path / "0.png")
    data = load(tmp_path)
    said = "holds MNIST's files, read, and a NumPy archive and pictures, not read"
    assert data.notes == (f"{tmp_path} {said}",) and len(data.images) == 60
    assert data.notes[0] in info(tmp_path)


def test_data_in_folders_beside_the_one_that_is_read_are_said(tmp_path):
    inside = tmp_path / "cifar-10-batches-bin"
    for folder in (inside, tmp_path / "mnist", tmp_path / "notes"):
        folder.mkdir()
    (inside / "data_batch_1.bin").write_bytes(bytes(3 * 3073))
    write_idx(tmp_path / "mnist")
    said = f"{tmp_path} holds CIFAR-10's batches, read, and the folder mnist, not read"
    assert load(tmp_path).notes == (said,)
    assert load(inside).notes == ()
