"""Pixels, grids and PNG files."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from gan_mpi.drawing.pictures import GAP, GAP_GREY, channels_last, grid, png
from gan_mpi.networks.pixels import to_pixels, to_range


@pytest.mark.parametrize(("name", "low", "high"), [("signed", -1, 1), ("unit", 0, 1)])
def test_every_pixel_value_survives_the_way_to_the_network_and_back(name, low, high):
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    for dtype in (torch.float32, torch.float64):
        images = to_range(pixels, dtype, name)
        assert images.dtype == dtype
        assert (images.min(), images.max()) == (low, high)
        assert (to_pixels(images, name) == pixels.numpy()).all()


def test_the_standard_range_is_lightnings():
    """ToTensor and Normalize(0.1307, 0.3081); the generator ends in tanh all the same."""
    images = to_range(torch.tensor([0, 255], dtype=torch.uint8), torch.double, "standard")
    assert images.tolist() == pytest.approx([-0.4242, 2.8215], abs=1e-4)
    tanh = torch.tensor([-1.0, 1.0])
    assert to_pixels(tanh.view(2, 1, 1, 1), "standard").ravel().tolist() == [0, 255]


def test_points_stay_what_they_are():
    points = torch.tensor([[-0.5, 1.5]])
    assert to_range(points, torch.double, "signed").tolist() == [[-0.5, 1.5]]
    assert to_pixels(points, "signed").tolist() == [[-0.5, 1.5]]


def test_nothing_in_range_is_clipped():
    """CNTK's example showed -1..1 with black at 0; here grey is grey."""
    images = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]).view(5, 1, 1, 1)
    assert to_pixels(images, "signed").ravel().tolist() == [
        0,
        64,
        128,
        191,
        255,
    ]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_shows_every_image_whole_and_in_order(channels):
    pixels = np.arange(5, dtype=np.uint8)[:, None, None, None] * 50
    pixels = np.broadcast_to(pixels, (5, channels, 28, 28))
    picture = np.asarray(grid(pixels, columns=3, rows=2))
    side = 28 * 2
    assert picture.shape[:2] == (2 * (side + GAP) + GAP, 3 * (side + GAP) + GAP)
    for number in range(5):
        row, column = divmod(number, 3)
        top, left = GAP + row * (side + GAP), GAP + column * (side + GAP)
        assert (picture[top : top + side, left : left + side] == number * 50).all()
        assert (picture[top - 1, left - 1] == GAP_GREY).all()


def test_channels_last():
    assert channels_last(np.zeros((2, 1, 4, 5), np.uint8)).shape == (2, 4, 5)
    assert channels_last(np.zeros((2, 3, 4, 5), np.uint8)).shape == (2, 4, 5, 3)


def test_a_png_says_what_made_it():
    picture = Image.open(io.BytesIO(png(Image.new("L", (3, 2)), {"step": 7})))
    assert (picture.size, picture.text) == ((3, 2), {"step": "7"})
