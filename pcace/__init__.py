"""PCACE in Python: rank the channels of a layer of a network in memory, and read how reliable the ranking is.

`rank` ranks the channels of a layer of a PyTorch network for given images and a class, and returns a `Ranking`; for
several layers it returns a `NetworkRanking`.
`layers` lists the layers that can be ranked, and `compare` compares rankings of the same channels or of networks.
`load` reads a ranking that was saved, or that of a run of the command line; `runs` lists these runs. `digits` returns a
small trained network and images for first steps.
`ACERegressor`, `maximal_correlation` and `optimal_transforms` compute the maximal correlation of arrays, without a
network.

Importing this package is fast: PyTorch and the other libraries are imported when they are needed.
"""

from __future__ import annotations

import random
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcace._compare import Comparison, compare
    from pcace._digits import digits
    from pcace._layers import layers
    from pcace._load import load
    from pcace._network_comparison import NetworkComparison
    from pcace._network_ranking import NetworkRanking
    from pcace._rank import rank
    from pcace._ranking import Ranking
    from pcace._runs import runs
    from pipeline import __version__
    from pipeline.errors import PipelineError
    from pipeline.numerics import ACERegressor, maximal_correlation, optimal_transforms

__all__ = [
    "ACERegressor",
    "Comparison",
    "NetworkComparison",
    "NetworkRanking",
    "PipelineError",
    "Ranking",
    "__version__",
    "compare",
    "digits",
    "layers",
    "load",
    "maximal_correlation",
    "optimal_transforms",
    "rank",
    "runs",
]

_MODULES = {
    "ACERegressor": "pipeline.numerics",
    "Comparison": "pcace._compare",
    "NetworkComparison": "pcace._network_comparison",
    "NetworkRanking": "pcace._network_ranking",
    "PipelineError": "pipeline.errors",
    "Ranking": "pcace._ranking",
    "__version__": "pipeline",
    "compare": "pcace._compare",
    "digits": "pcace._digits",
    "layers": "pcace._layers",
    "load": "pcace._load",
    "maximal_correlation": "pipeline.numerics",
    "optimal_transforms": "pipeline.numerics",
    "rank": "pcace._rank",
    "runs": "pcace._runs",
}


def _import_pipeline() -> None:
    """Import the package ``pipeline`` beside this one, also if another package of the name would be found first.

    Modules of the other one that this one does not have are still found, see `pipeline`.

    Raises
    ------
    ImportError
        If another package of the name was imported before.
    """
    folder = str(Path(__file__).resolve().parent.parent)
    if "pipeline" not in sys.modules:
        sys.path.insert(0, folder)
        try:
            import_module("pipeline")
        finally:
            sys.path.remove(folder)
    origin = getattr(sys.modules["pipeline"], "__file__", None)
    if origin is None or Path(origin).resolve().parent != Path(folder) / "pipeline":
        raise ImportError(
            "pcace must be imported before another package that is called pipeline, as one of its own is; got "
            f"{origin}. Import pcace first."
        )


_import_pipeline()


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipeline.imports import without_collection

    state = random.getstate()  # some libraries draw random numbers while they are imported
    try:
        with without_collection():
            value = getattr(import_module(_MODULES[name]), name)
    finally:
        random.setstate(state)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
