"""What every printed figure shares: widths, font sizes, places in inches, and files that are the same every time."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stg_lab.errors import CallError, did_you_mean
from stg_lab.files import written
from stg_lab.given import Having, Named, Number, Refused, Several, shown, takes
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


@dataclass(frozen=True)
class Look:
    """What `styled` sets.

    Attributes:
        font: family of all letters.
        size: points of labels; all other letters, and the room they need, are larger or smaller with them.
        labels: other words for some of the lab's own.
        said: which of these have been said otherwise.
    """

    font: str = FONT
    size: float = LABEL
    labels: Mapping[str, str] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)

    @property
    def scale(self) -> float:
        """How much larger letters are than the lab's own."""
        return self.size / LABEL

    def __call__(self, words: str) -> str:
        """Words as they are to be said: each phrase of `labels` that stands in them, as whole words, is another one."""
        if not self.labels:
            return words
        longest_first = sorted(self.labels, key=len, reverse=True)
        phrases = "|".join(r"\s+".join(map(re.escape, phrase.split())) for phrase in longest_first)
        return re.sub(rf"(?<!\w)(?:{phrases})(?!\w)", self._other, words)

    def _other(self, found: re.Match[str]) -> str:
        phrase = next(one for one in self.labels if one.split() == found[0].split())
        self.said.add(phrase)
        return self.labels[phrase]


_OWN = Look()
_LOOK: ContextVar[Look | None] = ContextVar("look", default=None)


@contextlib.contextmanager
@takes(font=Word(), size=Number(5, 16), labels=Named(Word(empty=True)))
def styled(
    *, font: str | None = None, size: float | None = None, labels: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Fonts, sizes and words of all figures that are made inside the `with`.

    Args:
        font: a family that matplotlib finds, "DejaVu Sans" by default.
        size: points of labels, from 5 to 16, 7 by default. Titles and small print are larger or smaller with them, and labels have the
            room that they need: pictures pay for it.
        labels: other words, by the words that figures have: {"conditional": "bedingt"}. Phrases are found as whole words in any label,
            title or axis.

    Raises:
        CallError: a font that is not there, a size out of range, or at the end of the `with` words that no figure had.

    >>> import stg_lab as lab
    >>> with lab.figures.styled(size=8, labels={"conditional": "bedingt"}):
    ...     figure = lab.figures.weak_model(lab.open("repair_both"), step=1)
    >>> [text.get_text() for text in figure.texts if "bedingt" in text.get_text()]
    ['(a) bedingt']
    """
    look = Look(_font(font) if font is not None else FONT, size or LABEL, labels or {})
    token = _LOOK.set(look)
    try:
        yield
    finally:
        _LOOK.reset(token)
    if unsaid := [phrase for phrase in look.labels if phrase not in look.said]:
        raise CallError(f"labels= has {', '.join(map(repr, unsaid))}, which no figure inside the `with` says.")


def _look() -> Look:
    return _LOOK.get() or _OWN


def _font(family: str) -> str:
    from matplotlib.font_manager import get_font_names

    known = get_font_names()
    if family not in known:
        raise CallError(
            f"font={shown(family)} is not here.{did_you_mean(family, known)} matplotlib finds {len(known)} families: "
            "matplotlib.font_manager.get_font_names()."
        )
    return family


def said(words: str) -> str:
    """Words of the lab as `styled` has them said."""
    return _look()(words)


def scaled(length: float) -> float:
    """Inches or points that go with the size of letters."""
    return length * _look().scale


def font() -> str:
    """The family of all letters."""
    return _look().font


@contextlib.contextmanager
def print_style() -> Iterator[None]:
    """The lab's style for print, inside the `with`."""
    import matplotlib as mpl

    look = _look()
    sizes = {name: scaled(value) for name, value in RC.items() if name.endswith("size") and "major" not in name}
    with mpl.rc_context({**RC, **sizes, "lines.markersize": RC["lines.markersize"], "font.family": look.font}):
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
                x / self.width,
                1 - y / self.height,
                words,
                fontsize=scaled(size),
                parse_math=False,
                linespacing=1.15,
                **options,
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


def text_width(words: str, size: float = LABEL) -> float:
    """Width of a line in inches, by the font's own measures."""
    return _text_width(words, scaled(size), font())


@functools.cache
def _text_width(words: str, size: float, family: str) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    points, _, _ = text_to_path.get_text_width_height_descent(
        words, FontProperties(family=family, size=size), ismath=False
    )
    return float(points) / 72


def text_height(words: str, size: float = LABEL) -> float:
    """Height of one or more lines in inches."""
    return (1 + words.count("\n")) * scaled(size) * 1.25 / 72


def spread(count: int, shown: int) -> list[int]:
    """Which frames to show: `shown` of `count`, spread over all, first and last among them; one is the middle."""
    if shown == 1:
        return [count // 2]
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(shown, count)).round())]
