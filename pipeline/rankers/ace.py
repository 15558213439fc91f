"""PCACE: ACE between each channel's principal components and the class score, and the evidence for the scores."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, assert_never

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.arrays import FloatArray, Int64Array
from pipeline.artifacts import AceFit, ChannelScores
from pipeline.numerics import ace_package
from pipeline.numerics.ace import AceResult, both_correlations, optimal_transforms
from pipeline.numerics.evidence import Both, corrected, cross_fitted, halves, permutation_null
from pipeline.numerics.parameters import AceParameters
from pipeline.progress import Progress, ticker
from pipeline.rankers.ranker import RankerInputs
from pipeline.settings import AceSettings, has_folds, has_halves


def score_by_ace(inputs: RankerInputs[AceSettings]) -> ChannelScores:
    """Return each channel's maximal correlation with the class score, the transforms of ACE, and the evidence.

    Parameters
    ----------
    inputs : RankerInputs
        The data. The network and the images are not used.

    Returns
    -------
    ChannelScores
        The scores ``maximal`` and ``first``; 0 for a dead channel.
    """
    projections, class_score = inputs.projections, inputs.activations.class_score
    varying, n_channels = np.flatnonzero(~projections.dead), len(projections.dead)
    values = projections.values[varying]
    found = _solve(inputs.settings, values, class_score, inputs.progress)
    evidence, curves = _evidence(inputs, values, class_score, found)

    def of_all_channels(result: NDArray[Any]) -> NDArray[Any]:
        """Return a result of the varying channels with 0 for the dead channels."""
        whole = np.zeros((n_channels, *result.shape[1:]), dtype=result.dtype)
        whole[varying] = result
        return whole

    return ChannelScores(
        values={"maximal": of_all_channels(found.maximal), "first": of_all_channels(found.first)},
        dead=projections.dead,
        evidence={name: table.set_index(varying).reindex(range(n_channels)) for name, table in evidence.items()},
        curves=curves,
        fit=AceFit(**{field.name: of_all_channels(getattr(found, field.name)) for field in fields(AceFit)}),
    )


def _solve(score: AceSettings, values: FloatArray, class_score: FloatArray, progress: Progress) -> AceResult:
    match score.solver:
        case "ace":
            return ace_package.optimal_transforms(
                values, class_score, parameters=ace_parameters(score), n_jobs=score.n_jobs or -1, progress=progress
            )
        case "compiled":
            return optimal_transforms(values, class_score, **_solver(score))
        case _:
            assert_never(score.solver)


def ace_parameters(score: AceSettings) -> AceParameters:
    """Return the parameters of ACE in the settings. Both have the same names."""
    return AceParameters(**{field.name: getattr(score, field.name) for field in fields(AceParameters)})


def _solver(score: AceSettings) -> dict[str, Any]:
    return {"parameters": ace_parameters(score), "n_threads": score.n_jobs or None}


def _evidence(
    inputs: RankerInputs[AceSettings], values: FloatArray, class_score: FloatArray, found: AceResult
) -> tuple[dict[str, pd.DataFrame], dict[str, FloatArray]]:
    """Return the evidence for the scores of the varying channels, and the reliability curves, both by statistic.

    Copies of an image are drawn together, and the bias-corrected score is that of the images that differ. The evidence
    is always computed by the compiled solver, also if the `ace` package computed the scores: the package would take
    days.

    Parameters
    ----------
    inputs : RankerInputs
        The settings, which say what evidence is computed, the seed, and the copies among the images.
    values : ndarray of shape (n_varying, n_images, n_components)
        Projections of the varying channels.
    class_score : ndarray of shape (n_images,)
        The class scores.
    found : AceResult
        The scores of the varying channels.
    """
    score = inputs.settings
    n_channels = len(values)
    with_folds, with_halves = has_folds(score, inputs.n_different), has_halves(score, inputs.n_different)
    n_folds = score.folds * score.repeats if with_folds else 0
    n_steps = 1 + score.permutations + n_folds + (score.bootstrap // 2 if with_halves else 0)
    tick = ticker(inputs.progress, n_steps, n_channels)
    tick()
    observed = {"maximal": found.maximal, "first": found.first}
    drawn: dict[str, Any] = {"seed": inputs.seed, "tick": tick, "groups": inputs.copies}
    given = {**drawn, **_solver(score)}
    tables = {name: pd.DataFrame(index=range(n_channels)) for name in observed}
    curves: dict[str, FloatArray] = {name: np.empty((0, 2)) for name in observed}
    if with_folds:
        held_out = cross_fitted(values, class_score, score.folds, n_repeats=score.repeats, **given)
        for name, table in tables.items():
            table["cross_fitted"] = held_out[name]
    if with_halves:

        def scorer(chosen: Int64Array) -> Both:
            return both_correlations(values[:, chosen], class_score[chosen], **_solver(score))

        by_halves = halves(scorer, len(class_score), score.bootstrap, top_k=score.top_k, **drawn)
        at_all: Both = observed
        at_half = by_halves
        if inputs.copies is not None:  # copies are fitted exactly at any number of images, which would hide the bias
            different = inputs.copies.firsts
            at_all = scorer(different)
            at_half = halves(
                lambda chosen: scorer(different[chosen]), len(different), score.bootstrap,
                seed=inputs.seed, top_k=score.top_k,
            )  # fmt: skip
        for name, each in by_halves.items():
            centre, low, high = corrected(at_all[name], at_half[name].scores)
            tables[name] = tables[name].assign(corrected=centre, low=low, high=high, **each.columns)
            curves[name] = each.curve
    if score.permutations:
        for name, null in permutation_null(values, class_score, observed, score.permutations, **given).items():
            excess = (observed[name] - null.mean) / np.where(null.deviation > 0, null.deviation, np.inf)
            tables[name] = tables[name].assign(
                null_mean=null.mean, null_deviation=null.deviation, excess=excess, p_value=null.p_value,
                q_value=null.q_value, p_family=null.p_family,
            )  # fmt: skip
    return tables, curves
