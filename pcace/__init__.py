"""PCACE in Python: rank the channels of a layer of a network in memory, and read how reliable the ranking is.

`rank` ranks the channels of one layer of a PyTorch network for given images and a class, and returns a `Ranking`.
`layers` lists the layers that can be ranked, `compare` compares rankings of the same channels, and `load` reads a
ranking that `Ranking.save` has written. `digits` returns a small trained network and images for first steps.
`ACERegressor`, `maximal_correlation` and `optimal_transforms` compute the maximal correlation of arrays, without a
network.

Importing this package is fast: PyTorch and the other libraries are imported when they are needed.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcace._compare import Comparison, compare
    from pcace._digits import digits
    from pcace._layers import layers
    from pcace._rank import rank
    from pcace._ranking import Ranking, load
    from pipeline import __version__
    from pipeline.errors import PipelineError
    from pipeline.numerics import ACERegressor, maximal_correlation, optimal_transforms

__all__ = [
    "ACERegressor",
    "Comparison",
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
]

_MODULES = {
    "ACERegressor": "pipeline.numerics",
    "Comparison": "pcace._compare",
    "PipelineError": "pipeline.errors",
    "Ranking": "pcace._ranking",
    "__version__": "pipeline",
    "compare": "pcace._compare",
    "digits": "pcace._digits",
    "layers": "pcace._layers",
    "load": "pcace._ranking",
    "maximal_correlation": "pipeline.numerics",
    "optimal_transforms": "pipeline.numerics",
    "rank": "pcace._rank",
}


def _check_pipeline() -> None:
    """Raise `ImportError` if another package called ``pipeline`` hides the one that this package uses."""
    loaded = sys.modules.get("pipeline")
    origin = getattr(loaded, "__file__", None) if loaded else getattr(find_spec("pipeline"), "origin", None)
    expected = Path(__file__).resolve().parent.parent / "pipeline"
    if origin is None or Path(origin).resolve().parent != expected:
        raise ImportError(
            f"the package pipeline must be the one that is installed with pcace; got another one ({origin}). "
            "Rename that one, or start Python in another folder."
        )


_check_pipeline()


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
