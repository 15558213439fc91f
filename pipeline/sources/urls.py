"""A list of image addresses, as the original scripts have it: a text file, or a CSV with a column of them."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import httpx

from pipeline.errors import InputError
from pipeline.settings import UrlsSettings
from pipeline.sources.downloads import Entry, WebSource
from pipeline.sources.tables import read_table, require_columns, require_file
from pipeline.sources.web import Web


class UrlsSource(WebSource):
    """Pictures of one class by their addresses, in the list's order."""

    name = "urls"

    def __init__(self, data: UrlsSettings, downloads: Path) -> None:
        super().__init__(Path(data.file).expanduser(), data.web, downloads)
        self._column = data.column

    def entries(self) -> list[Entry]:
        """Return the addresses; blank lines, empty cells and lines that begin with # are skipped."""
        require_file(self.file)
        if self.file.suffix.lower() in (".csv", ".parquet"):
            table = read_table(self.file)
            require_columns(table, [self._column], self, "data.column")
            cells = table[self._column].fillna("")
            found = [(row, cell.strip()) for row, cell in enumerate(cells, start=1)]
        else:
            try:
                lines = self.file.read_text(encoding="utf-8-sig").splitlines()
            except UnicodeDecodeError as error:
                raise InputError(f"data.file must be text in UTF-8; got {self.file}, which is not.") from error
            found = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
        entries = [Entry(place, _shown(url), (url,)) for place, url in found if url and not url.startswith("#")]
        if not entries:
            raise InputError(f"data.file must hold addresses; got {self.file}, which has none.")
        return entries

    async def bring(self, web: Web, entry: Entry, file: BinaryIO) -> None:
        """Fetch the address."""
        await web.fetch(entry.asks[0], file)


def _shown(url: str) -> str:
    """Return an address without the user and password that it may hold."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        return url
    return str(parsed.copy_with(userinfo=b"")) if parsed.userinfo else url
