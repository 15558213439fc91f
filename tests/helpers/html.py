"""A checker of the HTML pages of this package: what browsers silently repair is a fault."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
# Elements inside paragraphs end the paragraph in browsers.
NOT_IN_P = {"div", "dl", "figure", "h1", "h2", "h3", "ol", "p", "pre", "section", "table", "ul"}
ONLY_IN = {
    "li": {"ol", "ul"}, "dt": {"dl", "div"}, "dd": {"dl", "div"}, "tr": {"thead", "tbody"}, "td": {"tr"}, "th": {"tr"},
    "caption": {"table"}, "thead": {"table"}, "tbody": {"table"}, "summary": {"details"}, "figcaption": {"figure"},
}  # fmt: skip


class _Checker(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: Counter[str] = Counter()
        self.links: list[str] = []
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if len(values) < len(attrs):
            self.faults.append(f"<{tag}> has an attribute twice")
        if tag == "img" and not values.get("alt"):
            self.faults.append("<img> has no alt")
        if tag in ONLY_IN and (not self.open or self.open[-1] not in ONLY_IN[tag]):
            self.faults.append(f"<{tag}> is in <{self.open[-1]}>")
        if tag in NOT_IN_P and "p" in self.open:
            self.faults.append(f"<{tag}> is in <p>")
        if values.get("id"):
            self.ids[str(values["id"])] += 1
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        if "svg" not in self.open:
            self.faults.append(f"<{tag}/> is closed")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1] != tag:
            self.faults.append(f"</{tag}> closes <{self.open[-1] if self.open else ''}>")
        if tag in self.open:
            while self.open.pop() != tag:
                pass


def _checked(page: str) -> _Checker:
    checker = _Checker()
    checker.feed(page)
    checker.close()
    return checker


def html_faults(page: str) -> list[str]:
    """Return a line for each fault: elements in the wrong place or not closed, repeated ids, images without text."""
    checker = _checked(page)
    twice = [f"id {name} is used twice" for name, count in checker.ids.items() if count > 1]
    missing = [f"{link} has no target" for link in checker.links if link[0] == "#" and link[1:] not in checker.ids]
    return checker.faults + [f"<{tag}> is not closed" for tag in checker.open] + twice + missing


def links(page: str) -> list[str]:
    """Return the addresses of all links."""
    return _checked(page).links
