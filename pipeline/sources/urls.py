"""A list of image URLs, as the original scripts use it: a text file, or a table with a column of URLs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO

import httpx

from pipeline.errors import InputError
from pipeline.settings import UrlsSettings
from pipeline.sources.downloads import Entry, WebSource
from pipeline.sources.tables import read_table, read_text, require_columns, require_file
from pipeline.sources.web import WebClient

TABLES = (".csv", ".parquet", ".tab", ".tsv")  # suffixes of tables; any other file is a list


class UrlsSource(WebSource):
    """Images of one class, in the order of the list of URLs.

    Parameters
    ----------
    data : UrlsSettings
        Path of the list, the name of its column if it is a table, and the limits of the web client.
    downloads : Path
        Folder in which downloaded images are kept.
    """

    name = "urls"

    def __init__(self, data: UrlsSettings, downloads: Path) -> None:
        super().__init__(Path(os.path.expanduser(data.file)), data.web, downloads)
        self._column = data.column

    def entries(self) -> list[Entry]:
        """Return the URLs; blank lines, empty cells and lines that begin with # are skipped."""
        require_file(self.file)
        if self.file.suffix.lower() in TABLES:
            table = read_table(self.file)
            require_columns(table, [self._column], self, "data.column")
            cells = table[self._column].fillna("")
            found = [(row + 1, cell.strip()) for row, cell in zip(table.index.tolist(), cells, strict=True)]
        else:
            try:
                lines = read_text(self.file).splitlines()
            except UnicodeDecodeError as error:
                raise InputError(
                    f"data.file must be a text file in UTF-8, a CSV or a Parquet file; got {self.file} "
                    "(not valid UTF-8)."
                ) from error
            found = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
        urls = [(number, url) for number, url in found if url and not url.startswith("#")]
        entries = [Entry(number, _without_user(url), (url,)) for number, url in urls]
        if not entries:
            raise InputError(f"data.file must contain at least one URL; got {self.file}, which has none.")
        return entries

    async def download(self, client: WebClient, entry: Entry, file: BinaryIO) -> None:
        """Write the response of the URL to `file`."""
        await client.fetch(entry.parameters[0], file)


def _without_user(url: str) -> str:
    """Return a URL without its user name and password, also if it is not a valid URL."""
    try:
        parsed = httpx.URL(url)
        return str(parsed.copy_with(userinfo=b"")) if parsed.userinfo else url
    except (httpx.InvalidURL, ValueError):
        return re.sub(r"//.*@", "//", url)
