"""A table of image paths (CSV or Parquet), optionally with a class and a split for each."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.errors import InputError, listed
from pipeline.settings import ManifestSettings
from pipeline.sources.base import Candidate, LocalSource
from pipeline.sources.tables import read_table, require_columns


class ManifestSource(LocalSource):
    """The images that a table lists, in the order of its rows.

    Paths are relative to ``data.root``, by default the folder of the table. They must not lead out of that folder,
    because a table can come from anyone. Backslashes separate folders as slashes do, unless a file's own name has them.
    Classes are sorted by name, or by number if all names are numbers; a name keeps its zeros ("007").

    Parameters
    ----------
    data : ManifestSettings
        Path of the table, names of its columns, and the split.

    Raises
    ------
    InputError
        If ``data.root`` is not a folder.
    """

    name = "manifest"

    def __init__(self, data: ManifestSettings) -> None:
        self._data = data
        self.file = Path(os.path.expanduser(data.file))
        self.root = Path(os.path.expanduser(data.root)) if data.root is not None else self.file.parent
        self._resolved_root = self.root.resolve()
        if not self.root.is_dir():
            raise InputError(
                f"data.root must be an existing folder; got {self.root}. Set it to the folder of the images."
            )

    def __str__(self) -> str:
        """Return the name of the source in messages."""
        return f"manifest {self.file}"

    def by_class(self) -> Mapping[str, Sequence[Candidate]]:
        """Return the rows of each class; if the table has no class column, all rows without classes."""
        data, table = self._data, read_table(self.file)
        require_columns(table, [data.path_column], self, "data.path_column")
        if data.class_column in table:
            require_columns(table, [data.class_column], self, "data.class_column")
        if data.split is not None:
            require_columns(table, [data.split_column], self, "data.split_column")
            splits = table[data.split_column]
            table = table[splits == data.split]
            if table.empty:
                known = listed(sorted(splits.dropna().unique()))
                raise InputError(f"data.split must be one of {known}; got '{data.split}' ({self}).")
        if table.empty:
            raise InputError(f"data.file must have at least one row; got {self}, which has none.")
        self._check_cells(table)
        candidates = pd.Series([self._candidate(path) for path in table[data.path_column]], index=table.index)
        self._check_ids(candidates)
        if data.class_column not in table:
            return {"": candidates.tolist()}
        classes = table[data.class_column]
        return {name: candidates[classes == name].tolist() for name in _sorted_names(classes)}

    def _check_cells(self, table: pd.DataFrame) -> None:
        """Refuse a row without a path or a class."""
        columns = [column for column in (self._data.path_column, self._data.class_column) if column in table]
        for column in columns:
            empty = table.index[table[column].isna()]
            if len(empty):
                raise InputError(
                    f"every row must have a '{column}'; got none in row {empty[0] + 1} ({self}). "
                    "Complete or remove the row."
                )

    def _check_ids(self, candidates: pd.Series[Any]) -> None:
        """Refuse a file that occurs twice, be it by different paths."""
        ids = pd.Series([candidate.id for candidate in candidates])
        if ids.duplicated().any():
            path = ids[ids.duplicated()].iloc[0]
            raise InputError(f"every path must occur once; got '{path}' twice ({self}). Remove one of the rows.")

    def _candidate(self, path: str) -> Candidate:
        try:
            target = (self.root / path).resolve()
            if "\\" in path and not target.exists():  # written on Windows
                target = (self.root / path.replace("\\", "/")).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # a circle of links, a null character
            raise InputError(
                f"every path must name a file; got {path!r} ({error}; {self}). Correct or remove the row."
            ) from error
        if not target.is_relative_to(self._resolved_root) or re.match(r"[A-Za-z]:[\\/]", path):
            raise InputError(
                f"every path must be inside {self.root}; got '{path}' ({self}). "
                "Set data.root to a folder that contains all images."
            )
        return Candidate(target.relative_to(self._resolved_root).as_posix(), target.read_bytes)


def _sorted_names(classes: pd.Series[str]) -> list[str]:
    """Return the different classes, sorted as numbers if all of them are numbers."""
    names = sorted(classes.unique())
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else names
