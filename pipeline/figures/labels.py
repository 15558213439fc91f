"""Text in figures: names from users are shortened or wrapped until they fit, and titles stay inside their figure."""

from __future__ import annotations

import unicodedata
from typing import Literal

import matplotlib as mpl
from anyascii import anyascii
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from pipeline.figures.fonts import families, is_drawable

ELLIPSIS = "…"
MARGIN = 0.1  # inches between a title and the edge of the figure
TOLERANCE = 0.95  # share of the width that may be filled: the drawn text is up to 5 % wider than it is measured here
POINTS = 72  # points per inch
LINE_HEIGHT = 1.4  # relative to the size of the font

Cut = Literal["start", "middle", "end"]


def printable(text: str) -> str:
    """Return the text on one line, with everything that cannot be drawn replaced.

    Control characters are replaced by U+FFFD. Characters that no font has a glyph for are written in Latin letters
    (``猫`` as ``Mao``), or as their number if they have no such transliteration (``U+E000``).
    """
    # Composed first: file systems store some letters as two characters, which fonts have no common glyph for.
    return "".join(_drawn(each) for each in unicodedata.normalize("NFC", text))


def _drawn(character: str) -> str:
    if character.isspace():
        return " "
    if not character.isprintable():
        return "\ufffd"
    if is_drawable(character):
        return character
    is_mark = unicodedata.category(character).startswith("M")
    return anyascii(character) or ("" if is_mark else f"U+{ord(character):04X}")


def in_legend(label: str) -> str:
    """Return a label that matplotlib shows in a legend: it leaves out those that begin with an underscore."""
    return f" {label}" if label.startswith("_") else label


def text_width(text: str, size: float) -> float:
    """Return the width in inches of one line of text in a font of `size` points."""
    width, _, _ = text_to_path.get_text_width_height_descent(
        text, FontProperties(family=list(families()), size=size), False
    )
    return float(width) / POINTS


def fitted(text: str, width: float, size: float, cut: Cut = "end") -> str:
    """Return a text, shortened by an ellipsis if it is wider than `width`.

    Parameters
    ----------
    text : str
        Any text; it is put on one line.
    width : float
        Available width in inches.
    size : float
        Size of the font in points.
    cut : {"start", "middle", "end"}
        The part that is left out. Ids of images differ at their end, names of classes at their start.
    """
    text, width = printable(text), width * TOLERANCE
    if text_width(text, size) <= width:
        return text
    low, high = 0, len(text) - 1  # numbers of characters that fit, and that may fit
    while low < high:
        middle = (low + high + 1) // 2
        if text_width(_shortened(text, middle, cut), size) <= width:
            low = middle
        else:
            high = middle - 1
    return _shortened(text, low, cut)


def _shortened(text: str, n_kept: int, cut: Cut) -> str:
    n_start = {"start": 0, "middle": (n_kept + 1) // 2, "end": n_kept}[cut]
    n_end = n_kept - n_start
    return text[:n_start].rstrip() + ELLIPSIS + text[len(text) - n_end :].lstrip()


def wrapped(text: str, width: float, size: float, max_lines: int = 3) -> str:
    """Return a text broken at its spaces into lines of at most `width` inches.

    Words that are wider are shortened in their middle. What does not fit into `max_lines` lines is left out.
    """
    lines: list[str] = []
    words = printable(text).split()
    for place, word in enumerate(words):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= width * TOLERANCE:
            lines[-1] = longer
        elif len(lines) < max_lines:
            lines.append(fitted(word, width, size, "middle"))
        else:
            rest = " ".join(words[place:])
            lines[-1] = fitted(f"{lines[-1]} {rest}", width, size, "end")
            break
    return "\n".join(lines)


def set_title(figure: Figure, heading: str, question: str = "") -> None:
    """Write what a figure shows above it, followed by the question that it belongs to.

    Both are on one line if there is room, else on lines of their own, wrapped. The figure becomes higher by the
    additional lines, so that its panels keep their size.
    """
    size = float(FontProperties(size=mpl.rcParams["figure.titlesize"]).get_size_in_points())
    width = figure.get_figwidth() - 2 * MARGIN
    text = printable(f"{heading}: {question}" if heading and question else heading or question)
    if text_width(text, size) > width * TOLERANCE:
        text = "\n".join(wrapped(part, width, size) for part in (heading, question) if part)
    _grow(figure, text, size)
    figure.suptitle(text)


def set_footer(figure: Figure, text: str, size: float = 8.0) -> None:
    """Write a label below all panels, wrapped like the title (see `set_title`)."""
    text = wrapped(text, figure.get_figwidth() - 2 * MARGIN, size)
    _grow(figure, text, size)
    figure.supxlabel(text, fontsize=size)


def signed(value: float, spec: str = ".2f") -> str:
    """Return a number with a minus sign instead of a hyphen, as axes have it."""
    return f"{value:{spec}}".replace("-", "−")


def _grow(figure: Figure, text: str, size: float) -> None:
    figure.set_figheight(figure.get_figheight() + LINE_HEIGHT * size / POINTS * text.count("\n"))
