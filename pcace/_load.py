"""`pcace.load`: read a saved ranking."""

from __future__ import annotations

from pathlib import Path

from pcace._folder import read
from pcace._ranking import Ranking
from pcace._views import LazyViews
from pcace._wording import worded_for_python
from pipeline.artifacts import Artifact, ImageSet


@worded_for_python()
def load(folder: str | Path) -> Ranking:
    """Read a ranking that `Ranking.save` has written.

    Parameters
    ----------
    folder : str or Path
        The folder.

    Returns
    -------
    Ranking
        The ranking. Its activation maps are read from the folder when they are needed.

    Raises
    ------
    StorageError
        If the folder does not contain a ranking that this version can read.

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
    saved = read(Path(folder))
    artifacts: dict[str, Artifact] = {each.name: each for each in (*saved.parts, saved.ranking)}
    images = artifacts[ImageSet.name]
    assert isinstance(images, ImageSet)
    return Ranking.of(
        saved.settings, saved.target, images, artifacts, saved.pictures, LazyViews(saved.views), saved.versions
    )
