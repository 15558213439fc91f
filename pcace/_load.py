"""`pcace.load`: read a saved ranking."""

from __future__ import annotations

from pathlib import Path

from pcace._network_ranking import NetworkRanking
from pcace._ranking import Ranking
from pcace._saved import load_network, loaded
from pcace._wording import worded_for_python


@worded_for_python()
def load(folder: str | Path) -> Ranking | NetworkRanking:
    """Read a ranking that `Ranking.save` or `NetworkRanking.save` has written, or that of a run of the command line.

    Parameters
    ----------
    folder : str or Path
        The folder of a saved ranking, or that of a run (see `pcace.runs`), whose results must be in the store.

    Returns
    -------
    Ranking or NetworkRanking
        The ranking of a layer, or of a network. Activation maps are read from the folder when they are needed, and the
        rankings of the layers of a network as well.

    Raises
    ------
    StorageError
        If the folder does not contain a ranking that this version can read, or if the results of a run are not in the
        store.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> import pcace
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 3), torch.nn.Flatten(), torch.nn.Linear(216, 1))
    >>> ranking = pcace.rank(model, torch.rand(40, 1, 8, 8), layer="0", ranker="pearson")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     loaded = pcace.load(ranking.save(folder))
    >>> loaded.to_frame().equals(ranking.to_frame())
    True
    """
    network = load_network(Path(folder))
    return loaded(Path(folder)) if network is None else NetworkRanking(*network)
