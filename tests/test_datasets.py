"""IDX, CNTK text and glyphs: what is read, and what is said of what cannot be."""

import gzip
import hashlib
import time

import numpy as np
import PIL
import pytest

from gan_mpi.datasets import cntk_text, drawn, idx
from gan_mpi.datasets import find as datasets
from gan_mpi.datasets.dataset import Source
from gan_mpi.datasets.drawn import draw_glyphs
from gan_mpi.datasets.find import find_source, load_dataset
from gan_mpi.errors import UserError

GLYPHS_SHA256 = "050e2cb2dd724e31e4b13e299e4193996b4f4e9abb41740eaeb61d5b3b89dd2a"


def sentence(function, *arguments):
    with pytest.raises(UserError) as caught:
        function(*arguments)
    return str(caught.value)


def text_file(tmp_path, text):
    path = tmp_path / cntk_text.FILES["train"]
    path.write_text(text, newline="")
    return path


def line(label=3, pixels=None, **options):
    one_hot = " ".join(str(int(label == digit)) for digit in range(10))
    pixels = " ".join(map(str, range(200) if pixels is None else pixels))
    features = f"{pixels} {'0 ' * (784 - len(pixels.split()))}".rstrip()
    return f"|labels {one_hot} |features {features}\n"


def test_idx_plain_and_compressed_give_the_same(idx_folder):
    plain = load_dataset(Source(str(idx_folder)))
    for path in list(idx_folder.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    compressed = load_dataset(Source(str(idx_folder)))
    assert plain.images.shape == (60, 1, 28, 28)
    assert plain.labels.tolist() == [i % 10 for i in range(60)]
    assert plain.sha256 == compressed.sha256
    assert plain.name == "data"


def test_idx_labels_are_optional(idx_folder):
    (idx_folder / idx.LABELS["train"]).unlink()
    assert load_dataset(Source(str(idx_folder))).labels is None


def test_bad_idx_files_are_named_with_what_is_wrong(idx_folder):
    images, labels = idx_folder / idx.IMAGES["train"], idx_folder / idx.LABELS["train"]
    good = images.read_bytes()

    def said(content):
        images.write_bytes(content)
        message = sentence(load_dataset, Source(str(idx_folder)))
        assert message.startswith(str(images)) or str(images) in message
        return message

    assert "truncated: 47000 bytes of data for 60x28x28 = 47040" in said(good[:47016])
    assert "too long" in said(good + b"x")
    assert "truncated: 0 bytes, less than its header" in said(b"")
    assert "magic number is 0x00000801, not 0x00000803" in said(b"\0\0\x08\x01" + good[4:])
    shape = b"".join(n.to_bytes(4, "big") for n in (120, 28, 14))
    assert "images of 28x14 pixels, not of 28x28" in said(good[:4] + shape + good[16:])
    shape = b"".join(n.to_bytes(4, "big") for n in (0, 28, 28))
    assert "holds no images" in said(good[:4] + shape)
    images.unlink()
    images.mkdir()
    assert "holds no data" in sentence(load_dataset, Source(str(idx_folder)))
    images.rmdir()
    compressed = images.with_name(images.name + ".gz")
    compressed.write_bytes(gzip.compress(good)[:500])
    assert f"{compressed} is truncated or damaged" in sentence(
        load_dataset, Source(str(idx_folder))
    )
    compressed.write_bytes(b"\x1f\x8b" + good)
    assert "cannot read" in sentence(load_dataset, Source(str(idx_folder)))
    compressed.unlink()
    images.write_bytes(good)
    labels.write_bytes(b"\0\0\x08\x01" + (59).to_bytes(4, "big") + bytes(59))
    assert "holds 59 labels for 60 images" in sentence(load_dataset, Source(str(idx_folder)))


def test_a_folder_without_data_names_the_files_sought(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        message = sentence(load_dataset, Source(str(folder)))
        for name in (
            "--datadir",
            str(folder),
            idx.IMAGES["train"],
            idx.LABELS["train"],
            cntk_text.FILES["train"],
        ):
            assert name in message


def test_text_of_any_form_gives_the_arrays_of_the_regular_one(tmp_path):
    """Ids, order, tabs, CRLF, comments, sparse values, blank lines, no last line end."""
    regular = line(3) + line(5, range(50, 250)) + line(7, [0, 9, 255])
    images, labels = cntk_text.read(text_file(tmp_path, regular))
    assert labels.tolist() == [3, 5, 7]
    assert images[0].ravel()[:3].tolist() == [0, 1, 2]
    one, two, _ = regular.splitlines()
    one_labels, one_features = one.split(" |features")
    odd = (
        f"100\t{one_labels}\t|# a comment with |# pipe and |#labels 1\r\n"
        f"100 |features{one_features.replace(' ', chr(9))}\r\n"
        "\r\n"
        f"101 |features{two.split(' |features')[1]}.0 |labels 5:1 |#end\n"
        "102 |labels 7:1 |features 1:9 2:2.55e2"
    )
    other_images, other_labels = cntk_text.read(text_file(tmp_path, odd))
    assert np.array_equal(images, other_images)
    assert np.array_equal(labels, other_labels)


def test_text_without_labels(tmp_path):
    path = text_file(tmp_path, line().split("|")[0] + "|features " + "1 " * 784)
    images, labels = cntk_text.read(path)
    assert (images.shape, labels) == ((1, 1, 28, 28), None)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (line(1, [0]).rstrip()[:-2] + "\n", "'features' has 783 values, not 784"),
        (line(1, [0]).rstrip() + " 1\n", "'features' has 785 values, not 784"),
        (line(1, ["0", "1x"]), "'features' holds no number: could not convert string"),
        (line(1, [256]), "'features' holds 256, not a whole number from 0 to 255"),
        (line(1, [0.5]), "'features' holds 0.5, not a whole number from 0 to 255"),
        (line(1, ["nan"]), "'features' holds nan, not"),
        (line(1, [-1]), "'features' holds -1, not"),
        (line(11), "'labels' is not 0 but for one 1"),
        (
            line().replace("features", "feature"),
            "there is an input 'feature'; known are",
        ),
        (line().rstrip() + " |labels 3:1\n", "the input 'labels' stands there twice"),
        ("|labels 3:1 |features 784:1\n", "'features' has index 784, beyond 783"),
        ("abc " + line(), "'abc' stands before the first '|' and is no id"),
        ("|labels 3:1\n" + line(), "up to there are 1 images and 2 labels"),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path, bad, said):
    path = text_file(tmp_path, line() + bad + line())
    message = sentence(cntk_text.read, path)
    assert f"{path}, line 2: " in message or f"{path}, line 3: " in message
    assert said in message


def test_an_empty_text_file_holds_no_images(tmp_path):
    assert "holds no images" in sentence(cntk_text.read, text_file(tmp_path, ""))


def test_the_cache_dies_with_the_files_size_and_time(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = text_file(tmp_path, line(3))
    for _ in range(2):
        assert cntk_text.read_cached(path)[1].tolist() == [3]
    (cache,) = (tmp_path / "cache" / "gan-mpi").iterdir()
    monkeypatch.setattr(cntk_text, "read", lambda path: pytest.fail("the cache was not used"))
    assert cntk_text.read_cached(path)[1].tolist() == [3]
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    time.sleep(0.01)
    path.write_text(line(4))
    assert cntk_text.read_cached(path)[1].tolist() == [4]
    cache.write_bytes(cache.read_bytes()[:100])
    assert cntk_text.read_cached(path)[1].tolist() == [4]
    assert [p.name for p in cache.parent.iterdir()] == [cache.name]


def test_a_cache_that_cannot_be_written_does_not_matter(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cntk_text.read_cached(text_file(tmp_path, line(3)))[1].tolist() == [3]


@pytest.mark.slow
def test_all_of_mnist_as_text_is_read_in_time_and_is_the_same(mnist, tmp_path, monkeypatch):
    """112 MB in at most 5 s, and 0.5 s from the cache, on two cores."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    expected = load_dataset(Source(str(mnist)))
    path = tmp_path / cntk_text.FILES["train"]
    with path.open("w") as file:
        file.writelines(cntk_text.lines_of(expected.images, expected.labels))
    assert path.stat().st_size == 111_735_994
    for seconds in (5.0, 0.5):
        begin = time.perf_counter()
        images, labels = cntk_text.read_cached(path)
        assert time.perf_counter() - begin < seconds
        assert np.array_equal(images, expected.images)
        assert np.array_equal(labels, expected.labels)
    assert load_dataset(Source(str(tmp_path))).sha256 == expected.sha256


def test_glyphs_are_those_of_the_pinned_pillow():
    if PIL.__version__ != "13.0.0":
        pytest.skip(f"the SHA-256 is that of Pillow 13.0.0, and this is {PIL.__version__}")
    images, _ = draw_glyphs(1000)
    assert hashlib.sha256(images.data).hexdigest() == GLYPHS_SHA256


def test_a_resolution_that_changes_nothing_is_said(idx_folder):
    assert load_dataset(Source(str(idx_folder))).notes == ()
    assert load_dataset(Source(str(idx_folder), resolution=28)).notes == ()
    said = "--resolution 64 is for folders of pictures, and changes nothing here"
    for source in (Source(str(idx_folder), resolution=64), Source(glyphs=20, resolution=64)):
        assert load_dataset(source).notes == (said,)


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_glyphs_are_digits_that_all_differ(count):
    images, labels = draw_glyphs(count)
    assert images.shape == (count, 1, 28, 28)
    assert np.bincount(labels).tolist() == [count // 10] * 10
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)
    assert np.array_equal(draw_glyphs(20)[0], images[:20])


def test_glyphs_are_drawn_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = drawn.read_glyphs(1000, 5)
    asked = []
    monkeypatch.setattr(
        drawn, "draw_glyphs", lambda *which: asked.append(which) or (first[0], None)
    )
    again = drawn.read_glyphs(1000, 5)
    assert asked == [] and all(map(np.array_equal, again, first))
    drawn.read_glyphs(1000, 6)
    drawn.read_glyphs(999, 5)  # too few to keep
    assert [each.name for each in (tmp_path / "gan-mpi").glob("*5-999*")] == []
    monkeypatch.setattr(PIL, "__version__", "12.0.0")
    drawn.read_glyphs(1000, 5)
    assert asked == [(1000, 6), (999, 5), (1000, 5)]


def spread(images, labels):
    """Return the mean distance of two images of one class, in units of full pixels."""
    means = []
    for digit in range(10):
        flat = images[labels == digit][:500].reshape(-1, 784) / 255.0
        squares = (flat**2).sum(1)
        apart = np.maximum(squares[:, None] + squares - 2 * flat @ flat.T, 0) ** 0.5
        means.append(apart.sum() / (len(flat) * (len(flat) - 1)))
    return np.mean(means)


def test_glyphs_are_spread_like_mnist(mnist):
    digits = load_dataset(Source(str(mnist)))
    assert spread(*draw_glyphs(2_000)) > 0.5 * spread(digits.images, digits.labels)


def test_where_data_are_looked_for(tmp_path, monkeypatch, idx_folder):
    monkeypatch.chdir(tmp_path)
    assert find_source("mnist", None, None, 77) == Source(glyphs=77)
    assert find_source("mnist", None, 5, 77) == Source(glyphs=5)
    assert find_source("uniform", None, None, 77) == Source()
    monkeypatch.setitem(datasets.FOLDERS, "fashion-mnist", ("data/FashionMNIST", str(idx_folder)))
    assert find_source("fashion-mnist", None, None, 77) == Source(str(idx_folder))
    message = sentence(find_source, "cifar10", None, None, 77)
    assert "there is none in data/CIFAR-10" in message
    assert "gan-mpi data download cifar10" in message
    message = sentence(find_source, "uniform", "x", None, 77)
    assert "--dataset uniform draws its points; leave out --datadir" in message


def test_points_are_uniform_in_the_unit_square():
    found = load_dataset(Source())
    assert found.images.shape == (1_000_000, 2)
    assert found.images.dtype == np.float32 and found.shape == (2,)
    assert 0 <= found.images.min() and found.images.max() < 1
    assert np.abs(found.images.mean(0) - 0.5).max() < 0.002
    assert np.abs(found.images.std(0) - 12**-0.5).max() < 0.002
