"""The code blocks of the pages of the documentation, and how each is checked.

A comment above a block says why it is not run as it is: ``<!-- not run: reason -->``, ``<!-- composed: reason -->``
(the settings of its commands are composed and checked, but nothing is computed) or ``<!-- fails: reason -->`` (every
command exits with 1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.project import ROOT

BLOCK = re.compile(
    r"^(?P<indent> *)(?:<!-- (?P<mark>not run|composed|fails): (?P<reason>[^>]+) -->\n *)?```(?P<language>[\w{}-]*)\n"
    r"(?P<text>.*?)^ *```$",
    flags=re.MULTILINE | re.DOTALL,
)
DOCS = ROOT / "docs"
# Decisions are records of the time when they were made; their blocks are not instructions.
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "decisions")
LANGUAGES = {"sh", "python", "yaml", "text", "{toctree}", "{eval-rst}"}


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    Attributes
    ----------
    page : str
        Name of the page, relative to ``docs``.
    language : str
        ``sh``, ``python``, ``yaml`` or ``text``.
    text : str
        The code.
    mark : str
        ``not run``, ``composed``, ``fails``, or empty if the block is run.
    """

    page: str
    language: str
    text: str
    mark: str

    def commands(self) -> list[str]:
        """Return the commands of a block of the shell, one for each line that is not continued."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line.strip() for line in lines if line.strip()]


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the code blocks of a page."""
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        text = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        yield Block(page.relative_to(DOCS).as_posix(), match["language"], text, match["mark"] or "")


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
