"""Cubic regression splines for many variables at once, in the basis in which smoothing is diagonal.

A variable's functions are the natural cubic splines on a few knots. They are rotated (Demmler and Reinsch) so that they
are orthonormal over the images, and so that the roughness of a combination, the integral of its squared second
derivative, is a weighted sum of squares: the first function is the straight line, with roughness 0, and each further
one is rougher than the one before. A penalty on roughness then shrinks each coefficient by a factor of its own, and the
roughest functions, of which it leaves nothing, need not be kept.

References
----------
Demmler and Reinsch (1975), "Oscillation matrices with spline smoothing", Numerische Mathematik 24; Wood (2017),
"Generalized Additive Models", 2nd edition, sections 5.3 (cubic splines) and 5.4.2 (natural parameterisation).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Float64Array, FloatArray, Int64Array

# Knots at the quantiles alone would coincide where many images share a value. A share of equal spacing keeps them
# apart, without a decision, so that every knot is a continuous function of the data.
EVEN_SPACING = 0.1
# Share of a function's sum of squares that rounding leaves where the function is 0 at every image but for a straight
# line, which happens where the variable has fewer distinct values than there are knots.
SMALLEST_SHARE = 1e-12
LARGEST_EXPONENT = 1000  # of the powers of two that are multiplied with; the next ones may be infinite


@dataclass(frozen=True)
class SplineBasis:
    """Functions of a batch of variables, orthonormal over the images and in the order of their roughness.

    Attributes
    ----------
    values : ndarray of shape (..., n_functions, n_images)
        Each function at the images: mean 0, mean square 1, uncorrelated. 0 for a function that the variable's distinct
        values do not determine: all functions of a constant variable, all but the straight line for two values.
    roughness : ndarray of shape (..., n_functions)
        Integral of the squared second derivative over the variable's range, with the range as the unit of length;
        rising from 0 for the straight line. 0 also for a function that is 0.
    exponent, start, length : ndarray of shape (...)
        A value x is mapped to ``(ldexp(x, -exponent) - start) / length``, which is in [0, 1] at the images.
    knots : ndarray of shape (..., n_knots)
        In these units, from 0 to 1.
    weights : ndarray of shape (..., n_functions, n_knots)
        Coefficients of 1, of x and of the curved functions, from which `at` evaluates the basis anywhere.
    """

    values: Float64Array
    roughness: Float64Array
    exponent: Int64Array
    start: Float64Array
    length: Float64Array
    knots: Float64Array
    weights: Float64Array

    def at(self, x: FloatArray) -> Float64Array:
        """Return the functions at other values: straight lines beyond the range of the images (a natural spline).

        Parameters
        ----------
        x : ndarray of shape (..., n_values)
            Finite values of each variable.

        Returns
        -------
        ndarray of shape (..., n_functions, n_values)
        """
        scaled = _within(np.asarray(x, dtype=np.float64), self.exponent, self.start, self.length)
        first, n_knots = self.weights[..., :1], self.knots.shape[-1]
        curved = _curved(scaled, self.knots) if n_knots > 2 else np.empty((*scaled.shape[:-1], 0, scaled.shape[-1]))
        values: Float64Array = self.weights[..., 2:] @ curved
        values += first + self.weights[..., 1:2] * scaled[..., None, :]
        return values


def spline_basis(x: FloatArray, n_functions: int, n_knots: int) -> SplineBasis:
    """Return the `n_functions` smoothest functions of each variable.

    Parameters
    ----------
    x : ndarray of shape (..., n_images)
        Finite values of a batch of variables. Shifting or scaling a variable changes nothing but rounding.
    n_functions : int
        In [1, n_knots - 1]; the straight line is the first.
    n_knots : int
        Number of knots, placed near the quantiles of the variable; at least 3.

    Returns
    -------
    SplineBasis
        The functions at the images, their roughness, and what evaluates them elsewhere.
    """
    n_images = x.shape[-1]
    scaled, units = _unit_interval(np.asarray(x, dtype=np.float64))
    knots = _knots(scaled, n_knots)
    centre = scaled.mean(axis=-1, keepdims=True)
    line = scaled - centre
    spread = np.sqrt(np.mean(line * line, axis=-1, keepdims=True))
    per_spread = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1.0), 0.0)
    line *= per_spread

    curved = _curved(scaled, knots)
    mean = curved.mean(axis=-1, keepdims=True)
    curved -= mean
    size = np.square(curved).mean(axis=-1)
    slope = curved @ line[..., None] / n_images
    curved -= slope * line[..., None, :]

    # Of a combination of the curved functions, a' variance a is the mean square and a' penalty a the roughness.
    variance = curved @ np.swapaxes(curved, -1, -2) / n_images
    inverse = np.linalg.inv(np.linalg.cholesky(_penalty(knots)))
    share, vectors = np.linalg.eigh(inverse @ variance @ np.swapaxes(inverse, -1, -2))
    share = share[..., ::-1][..., : n_functions - 1]
    vectors = np.swapaxes(vectors[..., ::-1][..., : n_functions - 1], -1, -2)
    rounding = SMALLEST_SHARE * (np.square(inverse).sum(axis=-2) * size).sum(axis=-1, keepdims=True)
    is_determined = share > rounding
    factor = np.where(is_determined, 1 / np.sqrt(np.where(is_determined, share, 1.0)), 0.0)
    rotation = (vectors @ inverse) * factor[..., None]

    values = np.empty((*x.shape[:-1], n_functions, n_images))
    values[..., 0, :] = line
    np.matmul(rotation, curved, out=values[..., 1:, :])
    roughness = np.zeros((*x.shape[:-1], n_functions))
    roughness[..., 1:] = factor * factor
    weights = np.zeros((*x.shape[:-1], n_functions, n_knots))
    weights[..., 0, 1:2] = per_spread
    weights[..., 1:, 1:2] = -(rotation @ slope) * per_spread[..., None]
    weights[..., 1:, 2:] = rotation
    weights[..., :1] = -weights[..., 1:2] * centre[..., None]
    weights[..., 1:, :1] -= rotation @ mean
    return SplineBasis(values, roughness, *units, knots, weights)


def _unit_interval(x: Float64Array) -> tuple[Float64Array, tuple[Int64Array, Float64Array, Float64Array]]:
    """Return each variable mapped onto [0, 1] (a constant one onto 0), and exponent, start and length of the map."""
    low, high = x.min(axis=-1), x.max(axis=-1)
    # A power of two first: it is exact, and keeps the difference of two huge values from overflowing.
    exponent = np.frexp(np.maximum(np.abs(low), np.abs(high)))[1].astype(np.int64) + 1
    start = np.ldexp(low, -exponent)
    length = np.ldexp(high, -exponent) - start
    length = np.where(length > 0, length, 1.0)
    return _within(x, exponent, start, length), (exponent, start, length)


def _within(x: FloatArray, exponent: Int64Array, start: Float64Array, length: Float64Array) -> Float64Array:
    """Return ``(ldexp(x, -exponent) - start) / length``."""
    if np.abs(exponent).max(initial=0) < LARGEST_EXPONENT:
        scaled = np.asarray(x * np.ldexp(1.0, -exponent)[..., None], dtype=np.float64)  # the same number, in less time
    else:
        scaled = np.ldexp(np.asarray(x, dtype=np.float64), -exponent[..., None])
    scaled -= start[..., None]
    scaled /= length[..., None]
    return scaled


def _knots(scaled: Float64Array, n_knots: int) -> Float64Array:
    """Return the knots of variables on [0, 1], rising from 0 to 1, (..., n_knots)."""
    even = np.linspace(0, 1, n_knots)
    place = even * (scaled.shape[-1] - 1)
    below = np.minimum(place.astype(np.int64), scaled.shape[-1] - 2)
    rising = np.sort(scaled, axis=-1)
    quantiles = rising[..., below] + (place - below) * (rising[..., below + 1] - rising[..., below])
    knots: Float64Array = EVEN_SPACING * even + (1 - EVEN_SPACING) * quantiles
    knots[..., -1] = 1.0
    return knots


def _curved(x: Float64Array, knots: Float64Array) -> Float64Array:
    """Return, for each inner knot, a function whose second derivative is that knot's hat function.

    The result has the shape (..., n_knots - 2, n_values). Each function is 0 up to the knot before its own and a
    straight line from the knot after it.
    """
    gap = np.diff(knots, axis=-1)
    past = np.minimum(x, 1.0)[..., None, :] - knots[..., :-1, None]
    np.maximum(past, 0.0, out=past)
    cubes = past * past
    cubes *= past
    curved: Float64Array = _second_differences(gap) @ cubes
    if (x > 1).any():
        curved += np.maximum(x - 1.0, 0.0)[..., None, :] * ((gap[..., :-1] + gap[..., 1:]) / 2)[..., None]
    return curved


def _second_differences(gap: Float64Array) -> Float64Array:
    """Return the coefficients of the cubes of what exceeds each knot but the last, in the functions of `_curved`."""
    slopes = 1 / (6 * gap)
    n_inner = gap.shape[-1] - 1
    inner = np.arange(n_inner)
    coefficients = np.zeros((*gap.shape[:-1], n_inner, n_inner + 1))
    coefficients[..., inner, inner] = slopes[..., :-1]
    coefficients[..., inner, inner + 1] = -(slopes[..., :-1] + slopes[..., 1:])
    coefficients[..., inner[:-1], inner[:-1] + 2] = slopes[..., 1:-1]
    return coefficients


def _penalty(knots: Float64Array) -> Float64Array:
    """Return the integrals of the products of the inner knots' hat functions, (..., n_knots - 2, n_knots - 2)."""
    gap = np.diff(knots, axis=-1)
    n_inner = gap.shape[-1] - 1
    penalty = np.zeros((*gap.shape[:-1], n_inner, n_inner))
    inner = np.arange(n_inner)
    penalty[..., inner, inner] = (gap[..., :-1] + gap[..., 1:]) / 3
    penalty[..., inner[:-1], inner[1:]] = penalty[..., inner[1:], inner[:-1]] = gap[..., 1:-1] / 6
    return penalty
