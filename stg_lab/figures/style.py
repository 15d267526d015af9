"""What every printed figure shares: widths, font sizes, places in inches, and files that are the same every time."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stg_lab.errors import CallError, did_you_mean
from stg_lab.files import written
from stg_lab.given import Having, Refused, Several, shown, takes
from stg_lab.given import Text as Word

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.text import Text

Width = Literal["page", "column"] | float

#: Inches of a two-column paper: across both columns, and one of them.
WIDTHS: dict[str, float] = {"page": 6.9, "column": 3.3}
NARROW = 5.0  # inches below which a figure is laid out for a column

#: Points on paper. Nothing is smaller than SMALL: figures are made at the width at which they are printed.
SMALL, LABEL, TITLE = 6.0, 7.0, 8.0
FONT = "DejaVu Sans"  # ships with matplotlib: the same everywhere

RC: Any = {
    "pdf.fonttype": 42,  # TrueType: venues ask for embedded, selectable fonts
    "ps.fonttype": 42,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "stg_lab",  # else its ids are random
    "font.family": FONT,
    "font.size": LABEL,
    "axes.labelsize": LABEL,
    "axes.titlesize": LABEL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "figure.dpi": 130,  # in a notebook: 6.9 inches fill its cell
    "savefig.dpi": 300,
    "image.interpolation": "nearest",
}

#: What is left out of a file so that the same input gives the same bytes: the date, and matplotlib's version.
METADATA: dict[str, dict[str, None]] = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
}


def inches(width: Width) -> float:
    """A figure's width in inches.

    Args:
        width: "page", "column", or a number of inches.

    Raises:
        CallError: another word, or a number outside 2 to 20.
    """
    if isinstance(width, str) and width in WIDTHS:
        return WIDTHS[width]
    if isinstance(width, int | float) and not isinstance(width, bool) and 2 <= width <= 20:
        return float(width)
    known = ", ".join(f"{name!r} ({value:g} in)" for name, value in WIDTHS.items())
    hint = did_you_mean(width, WIDTHS) if isinstance(width, str) else ""
    raise CallError(f"width={shown(width)} is no width: choose {known} or a number of inches from 2 to 20.{hint}")


@contextlib.contextmanager
def print_style() -> Iterator[None]:
    """The lab's style for print, inside the `with`."""
    import matplotlib as mpl

    with mpl.rc_context(RC):
        yield


class Sheet:
    """A figure whose parts are placed in inches from its top left corner, in the lab's style for print.

    Attributes:
        figure: the matplotlib figure.
        width, height: its size in inches.
    """

    def __init__(self, width: float, height: float) -> None:
        from stg_lab.figures.printed import PrintedFigure

        self.width, self.height = width, height
        with print_style():
            self.figure: Figure = PrintedFigure(figsize=(width, height))

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Empty axes at a place."""
        bottom = self.height - top - height
        with print_style():
            return self.figure.add_axes(
                (left / self.width, bottom / self.height, width / self.width, height / self.height)
            )

    def picture(self, left: float, top: float, width: float, height: float, pixels: np.ndarray) -> AxesImage:
        """A picture `(height, width, 3)` in [0, 1] that fills a place."""
        axes = self.axes(left, top, width, height)
        axes.set_axis_off()
        with print_style():
            return axes.imshow(np.clip(pixels, 0, 1), aspect="auto")

    def text(self, x: float, y: float, words: str, *, size: float = LABEL, **options: Any) -> Text:
        """Words at a place, as they are: a dollar sign in a prompt begins no formula."""
        with print_style():
            return self.figure.text(
                x / self.width, 1 - y / self.height, words, fontsize=size, parse_math=False, linespacing=1.15, **options
            )


@takes(figure=Having(("savefig",), "a matplotlib figure"))
def save(figure: Figure, stem: str | Path, *, formats: Sequence[str] = ("pdf", "png"), dpi: float = 300) -> list[Path]:
    """Write a figure as `stem.pdf` (vector, fonts embedded) and `stem.png`; the same input gives the same bytes.

    Args:
        figure: a matplotlib figure.
        stem: path without suffix.
        formats: which files to write: "pdf", "png", "svg".
        dpi: dots per inch of what is made of pixels.

    Returns:
        The paths, in the order of the formats.

    Raises:
        CallError: a format that is none of these.
        FileError: a file cannot be written; an older one is as it was.
    """
    try:
        formats = Several(Word(tuple(METADATA)), lone=False).read(formats)
    except Refused:
        raise CallError(f"formats={shown(formats)}: a figure can be saved as {', '.join(METADATA)}.") from None
    stem = Path(stem)
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in formats]  # a dot in the stem stays
    with print_style():
        for path, kind in zip(paths, formats, strict=True):
            with written(path) as file:
                figure.savefig(file, format=kind, dpi=dpi, metadata=METADATA[kind])
    return paths


def fitted(words: str, width: float, size: float = LABEL) -> str:
    """Words broken into lines of at most `width` inches, between words only; line breaks that are there stay."""
    lines: list[str] = []
    for given in words.split("\n"):
        line = ""
        for word in given.split(" "):
            longer = f"{line} {word}" if line else word
            if line and text_width(longer, size) > width:
                lines, longer = [*lines, line], word
            line = longer
        lines.append(line)
    return "\n".join(lines)


@functools.cache
def text_width(words: str, size: float = LABEL) -> float:
    """Width of a line in inches, by the font's own measures."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    points, _, _ = text_to_path.get_text_width_height_descent(
        words, FontProperties(family=FONT, size=size), ismath=False
    )
    return float(points) / 72


def text_height(words: str, size: float = LABEL) -> float:
    """Height of one or more lines in inches."""
    return (1 + words.count("\n")) * size * 1.25 / 72


def spread(count: int, shown: int) -> list[int]:
    """Which frames to show: `shown` of `count`, spread over all, first and last among them; one is the middle."""
    if shown == 1:
        return [count // 2]
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(shown, count)).round())]
