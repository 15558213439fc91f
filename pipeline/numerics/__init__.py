"""Numerical methods: principal components, ACE, and statistics of rankings. No torch, no paths, no settings.

The public functions do not need the pipeline: `ACERegressor` is a scikit-learn estimator, `maximal_correlation` and
`optimal_transforms` take many sets of predictors in one call, and `supersmooth` is the smoother that ACE uses.
"""

from pipeline.numerics.ace import AceResult, maximal_correlation, optimal_transforms
from pipeline.numerics.estimator import ACERegressor
from pipeline.numerics.parameters import AceParameters
from pipeline.numerics.supersmoother import supersmooth

__all__ = ["ACERegressor", "AceParameters", "AceResult", "maximal_correlation", "optimal_transforms", "supersmooth"]
