"""Pictures of 8-bit pixels, and what made them."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from gan_mpi import __version__
from gan_mpi.config.training import TrainConfig
from gan_mpi.errors import printable

LAST_TIME = 1500  # milliseconds of a GIF's last frame
GAP = 2  # pixels between the tiles of a grid
GAP_GREY = 72
NAME_SIZE = 14  # pixels
LONGEST_NAME = 24  # characters
PAPER = "white"
TILE = 64  # pixels: smaller images are magnified by a whole factor up to about this


def gif(pictures: Sequence[Image.Image], milliseconds: int, facts: dict) -> bytes:
    """Return an endless GIF whose last frame stays; facts about it are in its comment."""
    first, *others = pictures
    buffer = io.BytesIO()
    first.save(
        buffer,
        format="gif",
        save_all=True,
        append_images=others,
        duration=[milliseconds] * len(others) + [LAST_TIME],
        loop=0,
        comment=", ".join(f"{name} {value}" for name, value in facts.items()),
    )
    return buffer.getvalue()


def channels_last(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 (N, C, H, W) as (N, H, W) for one channel and (N, H, W, 3) for three."""
    return pixels[:, 0] if pixels.shape[1] == 1 else pixels.transpose(0, 2, 3, 1)


def grid(
    pixels: np.ndarray, columns: int, rows: int, names: Sequence[str] = (), run: int = 0
) -> Image.Image:
    """Arrange at most columns*rows images, uint8 (N, C, H, W), row by row with a thin gap.

    After each `run` images, if that is not 0, a new row begins.  `names` are those of the rows,
    and stand before them.
    """
    run = run or len(pixels)
    rows_of_a_run = -(-run // columns)
    tiles = channels_last(pixels)
    factor = max(1, round(TILE / max(tiles.shape[1:3])))
    tiles = tiles.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = tiles.shape[1:3]
    shape = (
        rows * (height + GAP) + GAP,
        columns * (width + GAP) + GAP,
        *tiles.shape[3:],
    )
    canvas = np.full(shape, GAP_GREY, dtype=np.uint8)
    for number, tile in enumerate(tiles):
        at, place = divmod(number, run)
        row, column = divmod(place, columns)
        row += at * rows_of_a_run
        top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
        canvas[top : top + height, left : left + width] = tile
    return (
        _with_names(Image.fromarray(canvas), names, height + GAP)
        if names
        else (Image.fromarray(canvas))
    )


def _with_names(picture: Image.Image, names: Sequence[str], pitch: int) -> Image.Image:
    """Return a picture of rows, `pitch` pixels high, with a name before each."""
    font = ImageFont.load_default(NAME_SIZE)
    shown = [
        name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + "..." for name in names
    ]
    margin = GAP * 4 + max(int(font.getlength(name)) for name in shown)
    whole = Image.new(picture.mode, (margin + picture.width, picture.height), PAPER)
    whole.paste(picture, (margin, 0))
    draw = ImageDraw.Draw(whole)
    for row, name in enumerate(shown):
        at = margin - 2 * GAP, GAP + row * pitch + pitch // 2
        draw.text(at, name, fill="black", font=font, anchor="rm")
    return whole


def made_by(
    config: TrainConfig, data: str, step: int, version: str = __version__
) -> dict[str, object]:
    """Return what made a picture: a run on `data` after a step."""
    facts = {"preset": config.preset, "data": data, "seed": config.seed}
    return {"gan-mpi": version, **facts, "step": step}


def png(image: Image.Image, facts: Mapping[str, object]) -> bytes:
    """Return a PNG file with facts about the picture as text chunks."""
    info = PngInfo()
    for name, value in facts.items():
        info.add_text(name, printable(str(value)))
    buffer = io.BytesIO()
    image.save(buffer, format="png", pnginfo=info)
    return buffer.getvalue()
