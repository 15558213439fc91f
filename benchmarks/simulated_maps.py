"""Accuracy of the rankings by ACE and by linear rankers on simulated maps with a known strength of association."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.stats import norm

from benchmarks.questions import COMPONENTS, rankings_of_components
from pipeline.numerics.faithfulness import rank_correlation
from pipeline.numerics.pca import reduce_channels

SIMULATED = "simulated"
N_SIMULATIONS = 4

# What the class score y does to the mode of a channel's maps that carries the association, and which mode that is.
SIMULATIONS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {
    "linear": (lambda y: y, 0),
    "monotone": (lambda y: norm.cdf(2 * y), 0),
    "curved": (lambda y: y * y, 0),
    "step": (lambda y: (y > 0.5).astype(float), 0),
    "second component": (lambda y: y, 1),
    "fifth component": (lambda y: y, 4),
    "corner": (lambda y: y, -1),
}


def simulated_maps(kind: str, n_channels: int, n_images: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return maps, (n_channels, n_images, 8, 8), class scores, and each channel's strength of association.

    A channel's maps are sums of ten spatial patterns with decreasing amplitudes, and noise. The amplitude of one of
    them is ``strength * f(y) + sqrt(1 - strength**2) * noise``. In the kind ``corner``, 2 x 2 pixels in one corner are.
    """
    function, mode = SIMULATIONS[kind]
    rng = np.random.default_rng([seed, list(SIMULATIONS).index(kind)])
    y = rng.normal(size=n_images)
    signal = function(y)
    signal = (signal - signal.mean()) / signal.std()
    strength = rng.permutation(np.linspace(0, 0.9, n_channels))
    carrier = strength[:, None] * signal + np.sqrt(1 - strength**2)[:, None] * rng.normal(size=(n_channels, n_images))
    patterns = np.linalg.qr(rng.normal(size=(n_channels, 64, 10)))[0]
    amplitudes = rng.normal(size=(n_channels, n_images, 10))
    if mode >= 0:
        amplitudes[:, :, mode] = carrier
    maps = (amplitudes * np.geomspace(8, 1, 10)) @ np.swapaxes(patterns, 1, 2)
    maps = (maps + 0.3 * rng.normal(size=maps.shape)).reshape(n_channels, n_images, 8, 8)
    if mode < 0:
        maps[:, :, :2, :2] = 3 * (carrier[:, :, None, None] + 0.3 * rng.normal(size=(n_channels, n_images, 2, 2)))
    return maps.astype(np.float32), y, strength


def simulate() -> Iterator[dict[str, Any]]:
    """Yield the rows of the simulations: 40 channels, 300 images, the mean over `N_SIMULATIONS` simulations."""
    n_channels, n_images = 40, 300
    for kind in SIMULATIONS:
        accuracies: dict[str, list[float]] = {}
        rows: dict[str, dict[str, Any]] = {}
        for seed in range(N_SIMULATIONS):
            maps, y, strength = simulated_maps(kind, n_channels, n_images, seed)
            values = reduce_channels(maps, max(COMPONENTS), lambda done, total: None)[0]
            found = {
                str(what): (what, scorer_of()(np.arange(n_images)))
                for what, scorer_of in rankings_of_components(values, y)
            }
            means = maps.mean(axis=(2, 3))
            centred = means - means.mean(axis=1, keepdims=True)
            pearson = np.abs(centred @ (y - y.mean())) / np.linalg.norm(centred, axis=1)
            found["pearson"] = ({"score": "pearson"}, pearson)
            for n_components in COMPONENTS:
                what = {"score": "multiple_correlation", "n_components": n_components}
                fitted = [_fitted(each[:, :n_components], y) for each in values]
                found[str(what)] = (what, np.array([np.corrcoef(each, y)[0, 1] for each in fitted]))
            for name, (what, scores) in found.items():
                rows[name] = {"network": SIMULATED, "layer": kind, "n_images": n_images, **what}
                accuracies.setdefault(name, []).append(rank_correlation(scores, strength) or 0.0)
        yield from ({**row, "accuracy": np.mean(accuracies[name])} for name, row in rows.items())


def _fitted(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the least-squares fit of y to the columns of x and a constant."""
    design = np.column_stack([np.ones(len(y)), x])
    fit: np.ndarray = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return fit
