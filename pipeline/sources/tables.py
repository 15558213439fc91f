"""Tables that people bring: every cell is text, whatever the file's own types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipeline.errors import InputError, listed


def read_table(path: Path) -> pd.DataFrame:
    """Return a CSV or Parquet file's rows, numbered from 0, every cell as text; an empty one is missing.

    Raises
    ------
    InputError
        If there is no such file, or it cannot be read.
    """
    require_file(path)
    try:
        if path.suffix.lower() == ".parquet":
            table = pd.read_parquet(path)
            columns = {name: table[name].map(str, na_action="ignore").to_numpy() for name in table.columns}
            return pd.DataFrame(columns, dtype=object)
        return pd.read_csv(path, dtype=str, skipinitialspace=True, encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # pandas' and pyarrow's errors of form are ValueErrors
        raise InputError(
            f"data.file must be a CSV or Parquet table; got {path} ({str(error).splitlines()[0]})."
        ) from error


def require_file(path: Path) -> None:
    """Refuse a path where there is no file."""
    if not path.is_file():
        raise InputError(f"data.file must be a file; got {path} (there is none).")


def require_columns(table: pd.DataFrame, columns: Sequence[str], source: object, setting: str) -> None:
    """Refuse a table that lacks one of `columns`; `setting` says which, where it can be said otherwise."""
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(
            f"{setting} must name a column of the table; got '{missing[0]}' ({source}). "
            f"There are: {listed([str(name) for name in table.columns])}."
        )
