"""CSV files that people open in spreadsheets: a text must never be taken for a formula.

Spreadsheets compute a cell that begins with ``=``, ``+``, ``-`` or ``@``, also if it comes from the name of somebody's
folder or from a web address. In the CSV files of this package, such a text has an apostrophe in front, which makes it a
text for every spreadsheet. Numbers are not changed. Programs get the original text by `original`, or from the Parquet
files, which hold the texts as they are.

References
----------
OWASP, "CSV injection", https://owasp.org/www-community/attacks/CSV_Injection.
"""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

# Apostrophes in front are counted, so that a text that begins with an apostrophe itself can be told from a marked one.
FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def marked(cell: Any) -> Any:
    """Return a cell as it is written: a text that a spreadsheet would compute has an apostrophe in front."""
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell


def original(cell: str) -> str:
    """Return the text of a cell that `marked` has written."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def marked_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose texts and column names are `marked`; numbers are the same."""
    found = table.copy(deep=False)
    for name in table.columns:
        if not pd.api.types.is_numeric_dtype(table[name]):
            found[name] = table[name].map(marked)
    return found.rename(columns=marked)
