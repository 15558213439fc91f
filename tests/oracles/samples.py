"""Samples on which solvers are compared: Breiman and Friedman's, Wang and Murphy's, tied, tiny, and pure noise."""

from __future__ import annotations

import numpy as np

Sample = tuple[np.ndarray, np.ndarray]


def breiman(n: int = 200, seed: int = 0) -> Sample:
    """y = exp(x^3 + e): Breiman and Friedman (1985), section 3.1."""
    rng = np.random.default_rng(seed)
    x = np.cbrt(rng.normal(size=n))
    return x[:, None], np.exp(x**3 + rng.normal(size=n))


def breiman_sine(n: int = 200, seed: int = 1) -> Sample:
    """y = exp(sin(2 pi x) + e / 2): the same paper's second."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=n)
    return x[:, None], np.exp(np.sin(2 * np.pi * x) + rng.normal(size=n) / 2)


def wang_murphy(n: int = 200, seed: int = 2) -> Sample:
    """Five predictors, five shapes: Wang and Murphy (2004), "Estimating optimal transformations ..."."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, size=(n, 5))
    noise = 0.1 * rng.normal(size=n)
    return x, np.log(4 + np.sin(4 * x[:, 0]) + np.abs(x[:, 1]) + x[:, 2] ** 2 + x[:, 3] ** 3 + x[:, 4] + noise)


def relu_like(n: int = 150, seed: int = 3) -> Sample:
    """Half of each predictor is exactly 0, as behind a ReLU."""
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.normal(size=(n, 3)), 0)
    return x, x[:, 0] - 2 * x[:, 1] ** 2 + 0.3 * rng.normal(size=n)


def integer(n: int = 200, seed: int = 4) -> Sample:
    """Whole numbers: many ties in the predictors and in the response."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 9, size=(n, 2)).astype(float)
    return x, np.round(np.sqrt(x[:, 0]) * 3 + rng.normal(size=n))


def tiny(n: int = 7, seed: int = 5) -> Sample:
    """Two predictors on a handful of points: all windows are of the smallest size."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    return x, x[:, 0] + rng.normal(size=n)


def noise(n: int = 300, seed: int = 6) -> Sample:
    """Ten predictors that have nothing to do with the response."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 10)), rng.normal(size=n)


SAMPLES = {
    make.__name__: make for make in (breiman, breiman_sine, wang_murphy, relu_like, integer, tiny, noise)
}  # fmt: skip
