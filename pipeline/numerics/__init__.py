"""The numbers: principal components and ACE. NumPy and friends alone: no torch, no paths, no config.

Usable without the pipeline: `ACERegressor` (scikit-learn), `maximal_correlation` and `optimal_transforms` (many
predictor sets at once), `supersmooth`.
"""

from pipeline.numerics.ace import AceResult, maximal_correlation, optimal_transforms
from pipeline.numerics.estimator import ACERegressor
from pipeline.numerics.parameters import AceParameters
from pipeline.numerics.supersmoother import supersmooth

__all__ = ["ACERegressor", "AceParameters", "AceResult", "maximal_correlation", "optimal_transforms", "supersmooth"]
