"""`pcace.runs`: the finished runs of the command line as a table."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from pcace._finished import is_run, read_settings
from pcace._saved import is_network_run
from pcace._wording import worded_for_python
from pipeline.artifacts import NetworkRanking, Ranking
from pipeline.config import compose_settings
from pipeline.errors import InputError, PipelineError
from pipeline.network_tables import N_BEST
from pipeline.report_writer import flat
from pipeline.run_folder import SETTINGS, layer_folder

PLACES = ("runs/*", "sweeps/*/*")  # folders of runs below the folder of all outputs
LEFT_OUT = ("paths.", "tracking.", "network.", "engine.")  # groups of settings that do not change a result
RESULTS = ["n_channels", "best_channels", "reliability", "n_significant", "share_significant", "folder"]

SHARED = ("ablate.budget_tflop", "visualize.maximize_tflop")  # settings of a run that its layers share


@worded_for_python()
def runs(outputs: str | Path | None = None) -> pd.DataFrame:
    """Return the finished runs of the command line, read from their folders.

    Parameters
    ----------
    outputs : str or Path, optional
        The folder of all outputs (setting `paths.outputs`), by default that of the command line: ``$PCACE_OUTPUTS`` or
        ``outputs``.

    Returns
    -------
    DataFrame
        One row for each run of one layer, and for each layer of a run of several, the earliest first. The columns are
        ``run`` (name of its folder), ``layer``, the other settings that differ between the rows, and then
        ``n_channels, best_channels`` (the indices of the best 5), ``reliability, n_significant, share_significant``
        (of several layers: with q over all their channels) and ``folder``, which `pcace.load` reads.

    Raises
    ------
    InputError
        If there is no such folder.

    See Also
    --------
    load : Reads the ranking of one of these folders, or of the folder of a run of several layers.

    Examples
    --------
    >>> import tempfile
    >>> import pcace
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     len(pcace.runs(folder))
    0
    """
    folder = Path(compose_settings([]).paths.outputs if outputs is None else outputs)
    if not folder.is_dir():
        raise InputError(
            f"outputs must be the folder of the runs; got {folder}, which does not exist. Make a run first."
        )
    found = [path for place in PLACES for path in folder.glob(place) if (path / SETTINGS).exists()]
    rows: list[dict[str, Any]] = []
    settings: list[dict[str, Any]] = []
    unreadable: list[str] = []
    for path in sorted(found, key=lambda path: (path / SETTINGS).stat().st_mtime):
        try:
            read = list(_rows(path))
        except (OSError, KeyError, ValueError, TypeError, PipelineError) as error:
            unreadable.append(f"{path} ({type(error).__name__}: {error})")
            continue
        for own, row in read:
            settings.append(own)
            rows.append({"run": path.relative_to(folder).as_posix(), "layer": own["layer"], **row})
    if unreadable:
        first = unreadable[0].splitlines()[0]
        warnings.warn(f"Runs that could not be read: {len(unreadable)}. The first is {first}", stacklevel=2)
    names = dict.fromkeys(name for each in settings for name in each if name != "layer")
    differing = [name for name in names if len({str(each.get(name)) for each in settings}) > 1]
    table = pd.DataFrame(
        [
            {"run": row["run"], "layer": row["layer"], **{name: own.get(name) for name in differing}, **row}
            for own, row in zip(settings, rows, strict=True)
        ],
        columns=["run", "layer", *differing, *RESULTS],
    )
    return table.astype({"n_significant": "Int64"})


def _rows(folder: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the settings and the results of a run, or of each of its layers; nothing if it has not finished."""
    if is_network_run(folder):
        whole = _settings(folder)
        shared = {name: whole[name] for name in SHARED}
        for row in NetworkRanking.load(folder).layers.to_dict("records"):
            own = layer_folder(folder, row["layer"])
            yield _settings(own) | shared, {name: row[name] for name in RESULTS[:-1]} | {"folder": str(own)}
    elif is_run(folder):
        has_trust = (folder / Ranking.TRUST).exists()  # earlier versions have not written it
        ranking = Ranking.load(folder) if has_trust else Ranking(pd.read_parquet(folder / Ranking.PARQUET))
        yield _settings(folder), _results(ranking) | {"folder": str(folder)}


def _settings(folder: Path) -> dict[str, Any]:
    values = flat(asdict(read_settings(folder)))
    return {name: value for name, value in values.items() if not name.startswith(LEFT_OUT)}


def _results(ranking: Ranking) -> dict[str, Any]:
    table, trust = ranking.table, ranking.trust
    n_significant = trust.n_significant
    return {
        "n_channels": len(table),
        "best_channels": " ".join(str(channel) for channel in table.channel.head(N_BEST)),
        "reliability": trust.reliability,
        "n_significant": pd.NA if n_significant is None else n_significant,
        "share_significant": None if n_significant is None else n_significant / len(table),
    }
