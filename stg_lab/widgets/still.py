"""A picture of an explorer, for wherever its scripts are not run: a notebook that is not trusted, or a code host's view of one."""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

NAMES, LETTERS = 150, 20  # pixels of the column of names, and what fits into a line of it
ROOM = 850  # pixels that the pictures of a row may take
GAP = 6
HOW = "a picture; run this cell to move it"


@dataclass(frozen=True)
class Strip:
    """One row of the picture.

    Attributes:
        name: in front of it.
        colour: of the mark beside the name, as in the explorer.
        pixels: uint8 `(height, width, 3)`, its frames side by side.
    """

    name: str
    colour: str
    pixels: np.ndarray


@dataclass(frozen=True)
class Still:
    """What an explorer shows, as one picture.

    Attributes:
        title: what and where it is, in one line.
        strips: its rows; at least one.
    """

    title: str
    strips: list[Strip]

    @property
    def png(self) -> bytes:
        """The picture. Small pixels are enlarged by a whole number, so that they stay sharp."""
        shown = [_fitted(strip.pixels) for strip in self.strips]
        size = (NAMES + max(one.width for one in shown) + GAP, 30 + sum(one.height + GAP for one in shown))
        sheet = Image.new("RGB", (max(size[0], 620), size[1]), "white")
        pen, y = ImageDraw.Draw(sheet), 30
        pen.text((GAP, 7), f"{self.title} ({HOW})", fill="#16181d", font=ImageFont.load_default(size=13))
        for strip, picture in zip(self.strips, shown, strict=True):
            pen.rectangle((GAP, y, GAP + 3, y + picture.height - 1), fill=ImageColor.getrgb(strip.colour))
            pen.text(
                (GAP + 11, y), textwrap.fill(strip.name, LETTERS), fill="#16181d", font=ImageFont.load_default(size=12)
            )
            sheet.paste(picture, (NAMES, y))
            y += picture.height + GAP
        out = io.BytesIO()
        sheet.save(out, "PNG", optimize=True)
        return out.getvalue()


def cut(sheet: bytes, height: int, row: int = 0) -> np.ndarray:
    """One row of a sprite sheet whose rows are so high, uint8 `(height, width, 3)`."""
    with Image.open(io.BytesIO(sheet)) as image:
        return np.asarray(image.convert("RGB").crop((0, row * height, image.width, (row + 1) * height)))


def whole(strip: bytes) -> np.ndarray:
    """All pictures of a strip, uint8 `(height, width, 3)`."""
    with Image.open(io.BytesIO(strip)) as image:
        return np.asarray(image.convert("RGB"))


def _fitted(pixels: np.ndarray) -> Image.Image:
    """A row of pictures as large as there is room for."""
    picture = Image.fromarray(pixels)
    zoom = ROOM / picture.width
    if zoom >= 1:
        zoom = min(int(zoom), max(1, 64 // picture.height))
        return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)
    return picture.resize((ROOM, max(1, round(picture.height * zoom))), Image.Resampling.BOX)
