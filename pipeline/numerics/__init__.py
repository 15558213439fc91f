"""Numerical methods: principal components, ACE, and statistics of rankings. No torch, no paths, no settings.

The public functions do not need the pipeline: `ACERegressor` is a scikit-learn estimator, `maximal_correlation` and
`optimal_transforms` take many sets of predictors in one call, and `supersmooth` is Friedman's
smoother. Each name is imported when it is first used, because SciPy, scikit-learn and numba take a second.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.numerics.ace import AceResult, maximal_correlation, optimal_transforms
    from pipeline.numerics.estimator import ACERegressor
    from pipeline.numerics.parameters import AceParameters
    from pipeline.numerics.spline_solver import Smoothness
    from pipeline.numerics.supersmoother import supersmooth

__all__ = [
    "ACERegressor",
    "AceParameters",
    "AceResult",
    "Smoothness",
    "maximal_correlation",
    "optimal_transforms",
    "supersmooth",
]

_MODULES = {
    "ACERegressor": "estimator",
    "AceParameters": "parameters",
    "AceResult": "ace",
    "Smoothness": "spline_solver",
    "maximal_correlation": "ace",
    "optimal_transforms": "ace",
    "supersmooth": "supersmoother",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
