"""Reads tables that users provide. Every cell is text, whatever the types in the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipeline.errors import InputError, listed


def read_table(path: Path) -> pd.DataFrame:
    """Read a Parquet file, or a file with any other suffix as CSV.

    Returns
    -------
    DataFrame
        Rows numbered from 0, cells as text. Empty cells are missing values.

    Raises
    ------
    InputError
        If the file does not exist or cannot be read.
    """
    require_file(path)
    try:
        if path.suffix.lower() == ".parquet":
            table = pd.read_parquet(path)
            columns = {name: table[name].map(str, na_action="ignore").to_numpy() for name in table.columns}
            return pd.DataFrame(columns, dtype=object)
        return pd.read_csv(path, dtype=str, skipinitialspace=True, encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # the parsers' errors, pandas' and pyarrow's, are ValueErrors
        raise InputError(
            f"data.file must be a CSV or Parquet table; got {path} ({str(error).splitlines()[0]})."
        ) from error


def require_file(path: Path) -> None:
    """Refuse a path that is not an existing file."""
    if not path.is_file():
        raise InputError(f"data.file must be an existing file; got {path}.")


def require_columns(table: pd.DataFrame, columns: Sequence[str], source: object, setting: str | None = None) -> None:
    """Refuse a table that lacks one of `columns`.

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
    missing = [column for column in columns if column not in table]
    if missing:
        if setting is None:
            fault = f"data.file must have a column '{missing[0]}'; got none"
        else:
            fault = f"{setting} must name a column of the table; got '{missing[0]}'"
        raise InputError(f"{fault} ({source}). The columns are: {listed([str(name) for name in table.columns])}.")
