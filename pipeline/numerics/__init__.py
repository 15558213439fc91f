"""Numerical methods: principal components, ACE, and statistics of rankings. No torch, no paths, no settings.

The public functions do not need the pipeline: `ACERegressor` is a scikit-learn estimator, `maximal_correlation` and
`optimal_transforms` take many sets of predictors in one call, and `supersmooth` is Friedman's
smoother.
"""

from typing import Any

from pipeline.numerics.ace import AceResult, maximal_correlation, optimal_transforms
from pipeline.numerics.estimator import ACERegressor
from pipeline.numerics.parameters import AceParameters
from pipeline.numerics.spline_solver import Smoothness

__all__ = [
    "ACERegressor",
    "AceParameters",
    "AceResult",
    "Smoothness",
    "maximal_correlation",
    "optimal_transforms",
    "supersmooth",
]


def __getattr__(name: str) -> Any:
    """Import the supersmoother when it is first asked for: with its compiler, that takes a second."""
    if name == "supersmooth":
        from pipeline.numerics.supersmoother import supersmooth

        return supersmooth
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
