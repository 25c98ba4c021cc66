"""Moving pictures: between two seeds, and over the checkpoints of a run."""

import numpy as np
import pytest
from PIL import Image
from test_sample import pixels, save

from gan_mpi.programs.animate import between
from gan_mpi.streams import Purpose, draw_latents


def test_normal_latents_are_joined_on_a_great_circle():
    one, other = draw_latents("normal", 0, Purpose.SAMPLES, 0, 2, 100)
    other = 1.5 * other
    way = between(one, other, 5, spherical=True)
    assert np.allclose(way[[0, -1]], [one, other])
    lengths = np.linalg.norm(way, axis=1)
    assert np.allclose(np.diff(lengths), (lengths[-1] - lengths[0]) / 4)
    unit = way / lengths[:, None]
    assert np.ptp((unit[:-1] * unit[1:]).sum(1)) < 1e-12, "steps of one angle"
    line = between(one, other, 5, spherical=False)
    assert np.allclose(line[2], (one + other) / 2)
    assert np.allclose(between(one, one, 3, spherical=True), one)


@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.long), 3])
def test_a_strip_and_a_gif_go_from_one_seed_to_the_other(gan_mpi, tmp_path, channels):
    save(tmp_path / "run", channels=channels)
    seeds = "--seeds", "70,3", "--grid", "2x1", "--out", "ends.png"
    assert gan_mpi("sample", "run", *seeds).returncode == 0
    for size in (None, 2):
        way = "--interpolate", "70:3", "--frames", "13", "--out", f"{size}.PNG"
        result = gan_mpi("sample", "run", *way, size=size)
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "None.PNG").read_bytes() == (tmp_path / "2.PNG").read_bytes()
    strip, ends = pixels(tmp_path / "2.PNG"), pixels(tmp_path / "ends.png")
    assert strip.shape[:2] == (2 * 58 + 2, 12 * 58 + 2)
    assert np.array_equal(strip[2:58, 2:58], ends[2:58, 2:58])
    assert np.array_equal(strip[60:116, 2:58], ends[2:58, 60:116])
    with Image.open(tmp_path / "2.PNG") as picture:
        assert picture.info["interpolation"] == "70:3"
    assert gan_mpi("sample", "run", "--interpolate", "0:1").returncode == 0
    with Image.open(tmp_path / "interpolation.gif") as picture:
        assert (picture.n_frames, picture.size) == (60, (240, 240))


def test_a_timelapse_has_every_checkpoint(gan_mpi, tmp_path):
    for step in (5, 10, 15):
        save(tmp_path / "run", step=step, seed=step)
    result = gan_mpi("sample", "run", "--timelapse", "--grid", "3x2", size=2)
    assert "timelapse.gif: 3 checkpoints of run" in result.stdout, result.stderr
    with Image.open(tmp_path / "timelapse.gif") as picture:
        assert (picture.n_frames, picture.size) == (3, (3 * 58 + 2, 2 * 58 + 2))
        assert b"step 15" in picture.info["comment"]
        assert picture.info["loop"] == 0


def test_what_does_not_move_is_named(gan_mpi, tmp_path):
    path = save(tmp_path / "run")
    cases = {
        ("--interpolate", "7"): ("'7' is not like 0:7.", 2),
        ("--frames", "5"): ("--frames is for --interpolate A:B", 2),
        ("--timelapse",): ("run holds 1 checkpoint(s), and it takes two", 1),
        ("--timelapse", "--interpolate", "0:1"): ("does not go with", 2),
        ("--interpolate", "0:1", "--seeds", "3"): ("does not go with --seeds", 2),
        ("--timelapse", "--format", "npz"): ("does not go with --format", 2),
    }
    for arguments, (sentence, code) in cases.items():
        result = gan_mpi("sample", "run", *arguments)
        assert (result.returncode, result.stderr.count(sentence)) == (code, 1), (
            arguments,
            result.stderr,
        )
    assert path.exists() and not list(tmp_path.glob("*.gif"))
    missing = gan_mpi("sample", "none", "--timelapse")
    assert missing.returncode == 2 and "'none' is not a run directory" in missing.stderr
