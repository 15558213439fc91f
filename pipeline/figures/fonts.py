"""The fonts that figures are drawn with, and which characters they contain.

DejaVu Sans, which matplotlib contains, has the Latin, Greek, Cyrillic, Arabic and Hebrew scripts. For other scripts,
fonts that are installed on the machine are used, if there are any.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from matplotlib import font_manager
from matplotlib.font_manager import FontProperties

MAIN_FONT = "DejaVu Sans"  # first, so that two machines draw the same pixels where it has the characters
REGULAR = (400, "normal", "regular", "book")  # weights

# One frequent character of each script that DejaVu Sans lacks: Han (simplified, traditional), Hiragana, Hangul,
# Devanagari, Bengali, Gurmukhi, Gujarati, Tamil, Telugu, Kannada, Malayalam, Sinhala, Thai, Myanmar, Ethiopic, Khmer.
SAMPLES = "猫貓ね고कকਕકகకಕകකกကአក"


@lru_cache(maxsize=1)
def families() -> tuple[str, ...]:
    """Return the names of the fonts, the preferred one first."""
    missing = {ord(each) for each in SAMPLES if not _has(_file_of(MAIN_FONT), ord(each))}
    chosen = [MAIN_FONT]
    for name, file in _installed():
        found = {each for each in missing if _has(file, each)}
        if found:
            chosen.append(name)
            missing -= found
        if not missing:
            break
    return tuple(chosen)


@lru_cache(maxsize=4096)
def is_drawable(character: str) -> bool:
    """Return whether one of the fonts has a glyph for a character."""
    return any(_has(_file_of(family), ord(character)) for family in families())


def _installed() -> Iterator[tuple[str, str]]:
    """Yield the name and the file of each upright font of regular weight; those for many scripts come first."""
    fonts = [font for font in font_manager.fontManager.ttflist if font.style == "normal" and font.weight in REGULAR]
    order = {(not font.name.startswith("Noto Sans"), font.name, font.fname) for font in fonts}
    for _, name, file in sorted(order):
        # "Last Resort", which matplotlib contains, draws a box for every character.
        if name != MAIN_FONT and not name.startswith("Last Resort"):
            yield name, file


def _file_of(family: str) -> str:
    return font_manager.findfont(FontProperties(family=family))


def _has(file: str, code: int) -> bool:
    """Return whether a font has a glyph for a character; a font that cannot be read has none."""
    try:
        return bool(font_manager.get_font(file).get_char_index(code))
    except (OSError, RuntimeError):
        return False
