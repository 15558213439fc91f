"""Reads tables that users provide. Every cell is text, whatever the types in the file.

CSV files are read as programs in different countries and on different systems write them: with commas, semicolons or
tabs between the cells (Excel's line ``sep=;`` is understood), with the line ends of any system, and in UTF-8 or, with a
byte order mark, UTF-16. White space around a cell is removed. The words that pandas takes for missing values, such as
``None`` and ``NA``, are texts like any other.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import InputError, listed

DELIMITERS = ",;\t"  # in the order of precedence if several give the same number of columns


def read_table(path: Path) -> pd.DataFrame:
    """Read a Parquet file, or a file with any other suffix as CSV.

    Returns
    -------
    DataFrame
        Cells as text, without rows that are empty. The index is the number of the row, from 0 for the first row below
        the header; lines without any character are not counted. Empty cells are missing values.

    Raises
    ------
    InputError
        If the file does not exist, cannot be read, or has a row with more cells than columns.
    """
    require_file(path)
    try:
        found = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    except UnicodeDecodeError as error:
        raise InputError(
            f"data.file must be a text file in UTF-8; got {path} (byte {error.start} is not valid UTF-8). "
            "Save it as UTF-8."
        ) from error
    except (OSError, ValueError) as error:  # the parsers' errors, pandas' and pyarrow's, are ValueErrors
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"data.file must be a CSV or Parquet table; got {path} ({reason}).") from error
    return found.dropna(how="all")


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8 or, with a byte order mark, UTF-16."""
    data = path.read_bytes()
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if is_utf16 else "utf-8-sig")


def _read_parquet(path: Path) -> pd.DataFrame:
    table = pd.read_parquet(path)
    columns = [_as_text(table.iloc[:, index]) for index in range(table.shape[1])]
    return _table(list(map(str, table.columns)), list(zip(*columns, strict=True)))


def _as_text(column: pd.Series[Any]) -> list[str | None]:
    """Return the cells of a column as text; missing values are None."""
    # A column of integers with missing values arrives as floats: 7 must not become "7.0".
    if column.dtype.kind == "f" and column.hasnans and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return [None if is_missing else str(cell) for cell, is_missing in zip(column, column.isna(), strict=True)]


def _read_csv(path: Path) -> pd.DataFrame:
    text = read_text(path)
    first, _, rest = text.partition("\n")
    if named := re.fullmatch(f'"?sep=([{DELIMITERS}|])"?', first.rstrip("\r")):
        text, delimiter = rest, named[1]
    else:
        delimiter = _delimiter(text)
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        header, *rows = [[cell.strip() or None for cell in row] for row in reader if row] or [[]]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
    width = max((place for place, name in enumerate(header, start=1) if name), default=0)
    if not width:
        raise ValueError("No columns to parse from file")
    for number, row in enumerate(rows, start=1):
        if any(row[width:]):  # spreadsheets write empty cells
            raise ValueError(f"row {number} has {len(row)} cells, the header {width}")
    return _table([name or "" for name in header[:width]], [[*row, *[None] * width][:width] for row in rows])


def _table(names: list[str], rows: Sequence[Sequence[str | None]]) -> pd.DataFrame:
    """Return a table of text. Several columns may have one name."""
    return pd.DataFrame(np.array(rows, dtype=object).reshape(-1, len(names)), columns=names)


def _delimiter(text: str) -> str:
    """Return the delimiter that gives the first line the largest number of cells."""
    line = next((line for line in text.splitlines() if line.strip()), "")

    def n_cells(delimiter: str) -> int:
        return len(next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), []))

    return max(DELIMITERS, key=n_cells)  # the first of equals


def require_file(path: Path) -> None:
    """Refuse a path that is not an existing file."""
    if not path.is_file():
        raise InputError(f"data.file must be an existing file; got {path}.")


def require_columns(table: pd.DataFrame, columns: Sequence[str], source: object, setting: str | None = None) -> None:
    """Refuse a table that lacks one of `columns`, or has it more than once.

    Parameters
    ----------
    table : DataFrame
        The table to check.
    columns : sequence of str
        Names of the required columns.
    source : object
        Source that the table belongs to, for the message.
    setting : str, optional
        Setting that gives the name of the column, for the message. By default the name is fixed.
    """
    counts = Counter(table.columns)
    for column in columns:
        if counts[column] > 1:
            raise InputError(
                f"every column must have a name of its own; got '{column}' {counts[column]} times ({source}). "
                "Rename or remove the others."
            )
    missing = [column for column in columns if column not in counts]
    if missing:
        if setting is None:
            fault = f"data.file must have a column '{missing[0]}'; got none"
        else:
            fault = f"{setting} must name a column of the table; got '{missing[0]}'"
        raise InputError(f"{fault} ({source}). The columns are: {listed([str(name) for name in table.columns])}.")
