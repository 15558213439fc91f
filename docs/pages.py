"""What Sphinx does with a page before it is parsed: generated parts are filled in, and links to files resolved.

A line ``<!-- generated: NAME -->`` in a page is replaced by the Markdown that the function ``NAME`` in
`reference_pages` returns.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from docs import reference_pages

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
GENERATED = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^]]*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)]*)?\)")
# Files outside of docs/ that are pages of the site.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "docs/decisions": "decisions/index.md",
    "examples/cifar10_resnet20": "how_to/network.md",
    "examples/efficientnet_lite0": "how_to/images.md",
}


def read(app: Any, name: str, content: list[str]) -> None:
    """Change the text of a page, which is the only element of `content`: the handler of Sphinx's event source-read."""
    del app
    text = GENERATED.sub(lambda match: getattr(reference_pages, match[1])(), content[0])
    content[0] = with_links(text, posixpath.dirname(f"docs/{name}"), DOCS / posixpath.dirname(name))


def included(name: str) -> str:
    """Return a Markdown file in the root of the project, with its links as from the folder ``docs``."""
    return with_links((ROOT / name).read_text(encoding="utf-8"), "", DOCS)


def with_links(text: str, base: str, folder: Path) -> str:
    """Return a text with its links to files outside of ``docs`` as links to pages, or as names of files.

    Parameters
    ----------
    text : str
        Markdown.
    base : str
        Folder that the links are relative to, relative to the root of the project.
    folder : Path
        Folder of the page.
    """

    def resolved(match: re.Match[str]) -> str:
        words, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join(base, target))
        page = PAGES.get(path.removesuffix("/README.md"))
        if page is None and path.startswith("docs/") and (ROOT / path).is_file():
            page = path.removeprefix("docs/")
        if page is not None:
            return f"[{words}]({posixpath.relpath(page, folder.relative_to(DOCS).as_posix())}{anchor})"
        return words if path in words else f"{words} (`{path}`)"

    return LINK.sub(resolved, text)
