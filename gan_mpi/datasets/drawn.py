"""Digits in Pillow's bundled font, and points: data that are drawn and need no download."""

import hashlib
import math
from functools import cache
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from gan_mpi.datasets.npz import Arrays, cached
from gan_mpi.streams import Purpose, uniforms

COUNT = 1_000_000  # points for training
DIMENSION = 2  # numbers of a point
SIDE = 28  # pixels of an image
FINE = 4  # fine pixels a pixel: digits are drawn large and reduced
CANVAS = FINE * SIDE
FONT_SIZE = 88  # fine pixels; a digit is then about 62 high
SEED = 0  # the data set does not change with a run's seed
KEPT = range(1000, 100_001)  # counts of glyphs that take a while to draw, and not much room
STROKES = 8  # weights of a digit: 0 to 7 fine pixels more on each side
JITTER = {
    "shift_x": (-2.5, 2.5),  # pixels
    "shift_y": (-2.5, 2.5),
    "rotation": (-22.0, 22.0),  # degrees
    "shear": (-0.35, 0.35),
    "width": (0.75, 1.25),
    "height": (0.8, 1.15),
    "stroke": (0.0, STROKES),
    "blur": (1.0, 3.2),  # fine pixels
}


def draw_glyphs(count: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return digits `first` and on, uint8 (count, 1, 28, 28), and labels, uint8 (count,).

    Digit i is i % 10, in white on black; each has its own position, rotation, shear, width,
    height, weight and blur.
    """
    unit = uniforms(SEED, Purpose.GLYPHS, first, first + count, len(JITTER))
    low, high = np.array(list(JITTER.values())).T
    jitter = low + unit * (high - low)
    labels = (np.arange(first, first + count) % 10).astype(np.uint8)
    images = np.empty((count, 1, SIDE, SIDE), dtype=np.uint8)
    for number, values in enumerate(jitter.tolist()):
        images[number, 0] = _draw(int(labels[number]), dict(zip(JITTER, values, strict=True)))
    return images, labels


def read_glyphs(count: int, first: int) -> Arrays:
    """Return what draw_glyphs() does, through this user's cache if they are KEPT.

    Pillow's font and its resampling may change with its version, and drawing with this file.
    """
    if count not in KEPT:
        return draw_glyphs(count, first)
    code = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    stamp = np.array([PIL.__version__, code])
    return cached(f"glyphs-{first}-{count}", stamp, lambda: draw_glyphs(count, first))


@cache
def _template(digit: int, stroke: int) -> Image.Image:
    """Return a digit upright in the middle of the canvas."""
    font = ImageFont.load_default(size=FONT_SIZE)
    canvas = Image.new("L", (CANVAS, CANVAS))
    middle = (CANVAS / 2, CANVAS / 2)
    left, top, right, bottom = ImageDraw.Draw(canvas).textbbox(
        middle, str(digit), font=font, anchor="mm"
    )
    place = (middle[0] * 2 - (left + right) / 2, middle[1] * 2 - (top + bottom) / 2)
    ImageDraw.Draw(canvas).text(
        place, str(digit), fill=255, font=font, anchor="mm", stroke_width=stroke
    )
    return canvas


def _draw(digit: int, jitter: dict[str, float]) -> np.ndarray:
    template = _template(digit, int(jitter["stroke"]))
    drawn = template.transform(
        (CANVAS, CANVAS),
        Image.Transform.AFFINE,
        _inverse_affine(jitter),
        Image.Resampling.BILINEAR,
    )
    blurred = drawn.filter(ImageFilter.GaussianBlur(jitter["blur"]))
    return np.asarray(blurred.reduce(FINE))


def _inverse_affine(jitter: dict[str, float]) -> tuple[float, ...]:
    """Return the map from drawn to template pixels: unshift, unrotate, unshear, unscale."""
    angle = math.radians(jitter["rotation"])
    cos, sin, middle = math.cos(angle), math.sin(angle), CANVAS / 2
    a, b = cos / jitter["width"], sin / jitter["width"]
    d, e = -sin / jitter["height"], cos / jitter["height"]
    a, b = a - jitter["shear"] * d, b - jitter["shear"] * e
    x = middle + FINE * jitter["shift_x"]
    y = middle + FINE * jitter["shift_y"]
    return a, b, middle - a * x - b * y, d, e, middle - d * x - e * y


def draw_points(count: int = COUNT, first: int = 0) -> np.ndarray:
    """Return points `first` and on as float32 (count, 2) in [0, 1).

    Source: load_uniform_data of PaddlePaddle's gan_trainer.py, numpy.random.rand(1000000, 2).
    """
    return uniforms(0, Purpose.POINTS, first, first + count, DIMENSION).astype(np.float32)
