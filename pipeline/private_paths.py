"""Texts without the paths of this machine, for pages that are shown to others.

A path is replaced by its last part: ``data.root=/home/jane/photos`` becomes ``data.root=photos``. The home directory
becomes ``~``, and the address of an MLflow store and the name of a computer are left out.
"""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

PART = r"[^\s/<>\"'&;,:()\[\]{}|\\]+"
# After a character that is escaped in JSON, a path begins although there is a letter or a digit before it.
ESCAPED = r"(?<=\\[nrt])|(?<=\\u[0-9a-fA-F]{4})"
ANY_PATH = re.compile(rf"(?:(?<![\w.</~)*-])|{ESCAPED})/(?:{PART}/)+(?:{PART})?")
HOME = re.compile(r"/(?:home|Users)/[^/]+/?|/root/?")
OWNER = re.compile(r"\bprocess \d+ on [\w.-]+")  # in notes of a run that has waited for another one
HIDDEN = "(not shown)"
# Parts of a page in which a slash is not part of a path: styles, code, pictures, and other data as base64.
OPAQUE = re.compile(
    r"<style.*?</style>|<script>.*?</script>|data:[\w/+.-]+;base64,[A-Za-z0-9+/=]*|\"[A-Za-z0-9+/=]{64,}\"", re.DOTALL
)


class PrivatePaths:
    """Replaces paths of this machine in texts.

    Parameters
    ----------
    settings : iterable of mapping
        The settings of the runs, nested. The paths in them are known whatever characters they contain.
    folders : iterable of Path
        Further folders that are private, such as the working folder.
    """

    def __init__(self, settings: Iterable[Mapping[str, Any]] = (), folders: Iterable[Path] = ()) -> None:
        known: dict[str, str] = {}
        for each in settings:
            uri = each.get("tracking", {}).get("uri")
            known |= {uri: HIDDEN} if uri else {}
            known |= {text: _last_part(text) for text in _texts(each) if text.startswith("/") and len(text) > 1}
        known |= {str(folder): _last_part(str(folder)) for folder in folders if folder != Path("/")}
        self._known = known

    def text(self, text: str) -> str:
        """Return a plain text without paths."""
        return self._replaced(text, lambda each: [each])

    def page(self, page: str) -> str:
        """Return an HTML page without paths; pictures, styles and scripts are left as they are."""
        parts, end = [], 0
        for opaque in OPAQUE.finditer(page):
            parts += [self._replaced(page[end : opaque.start()], _in_html), opaque[0]]
            end = opaque.end()
        return "".join([*parts, self._replaced(page[end:], _in_html)])

    def _replaced(self, text: str, forms: Callable[[str], list[str]]) -> str:
        for known in sorted(self._known, key=len, reverse=True):
            replacement = self._known[known]
            shown = html.escape(replacement) if forms is _in_html else replacement
            for form in forms(known):
                # Not a part of a longer path: /data is neither in /database nor in /mnt/data.
                alone = rf"(?:(?<![\w.~-])|{ESCAPED}){re.escape(form)}(?![\w-]|\.\w)"
                pieces = re.split(rf"({alone}(?:/{PART})*)", text)
                for place in range(1, len(pieces), 2):  # the matches
                    below = pieces[place][len(form) :]
                    pieces[place] = below.rpartition("/")[2] if below and replacement != HIDDEN else shown
                text = "".join(pieces)
        text = ANY_PATH.sub(lambda match: _last_part(match[0]), text)
        return OWNER.sub("another process", text)


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts in nested settings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _last_part(path: str) -> str:
    if HOME.fullmatch(path) or path.rstrip("/") == str(Path.home()):
        return "~"
    return path.rstrip("/").rpartition("/")[2] or HIDDEN


def _in_html(text: str) -> list[str]:
    """Return the forms in which a text may stand in a page: escaped, in a shell command, and in JSON."""
    plain = [text, shlex.quote(text).strip("'"), json.dumps(text)[1:-1]]
    escaped = [form for each in plain for form in (html.escape(each), each)]
    return list(dict.fromkeys(escaped))
