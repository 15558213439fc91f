"""What a figure shows: its texts as they are drawn, with their places."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from unittest import mock

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


@dataclass(frozen=True)
class DrawnText:
    """A text of a figure, and the pixels that it covers."""

    text: str
    box: Bbox
    rotation: float
    is_mathematics: bool


def drawn_texts(figure: Figure) -> list[DrawnText]:
    """Return all texts that are drawn, in order."""
    found = []
    draw = Text.draw

    def record(text: Text, renderer: object, *arguments: object, **options: object) -> None:
        draw(text, renderer, *arguments, **options)  # type: ignore[arg-type]
        if text.get_visible() and text.get_text().strip():
            box = text.get_window_extent(renderer)  # type: ignore[arg-type]
            found.append(DrawnText(text.get_text(), box, text.get_rotation(), text.get_parse_math()))

    with mock.patch.object(Text, "draw", record):
        FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    return found


def faults(figure: Figure) -> list[str]:
    """Return a line for each text that leaves the figure, and for each pair of texts that overlap."""
    texts = drawn_texts(figure)
    page = figure.bbox.padded(1)
    found = [f"cut: {each.text!r}" for each in texts if not _contains(page, each.box)]
    upright = [each for each in texts if each.rotation in (0, 90)]
    for one, other in combinations(upright, 2):
        if one.box.padded(-1).overlaps(other.box.padded(-1)):
            found.append(f"overlap: {one.text!r}, {other.text!r}")
    return found


def _contains(outer: Bbox, inner: Bbox) -> bool:
    return outer.x0 <= inner.x0 and outer.y0 <= inner.y0 and inner.x1 <= outer.x1 and inner.y1 <= outer.y1
