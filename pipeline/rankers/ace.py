"""PCACE: ACE between each channel's principal components and the class score, and the evidence for the scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, assert_never

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.arrays import FloatArray, Int64Array
from pipeline.artifacts import AceFit, ChannelScores, Workspace
from pipeline.errors import InputError
from pipeline.numerics.ace import AceEstimator, AceResult, ByStatistic, SplineAce, SupersmootherAce
from pipeline.numerics.evidence import Halves, corrected, cross_fitted, halves, permutation_null
from pipeline.numerics.parameters import AceParameters
from pipeline.numerics.predictors import Predictors, Transforms
from pipeline.numerics.spline_smoothness import (
    MIN_IMAGES_TO_CHOOSE,
    HeldOut,
    SmoothnessChoice,
    held_out_correlations,
    select_smoothness,
)
from pipeline.numerics.spline_solver import Smoothness
from pipeline.progress import Progress, ticker
from pipeline.rankers.ranker import RankerInputs
from pipeline.settings import AceSettings, has_folds, has_halves


def fit(
    score: AceSettings,
    estimator: AceEstimator,
    values: Predictors,
    class_score: FloatArray,
    transforms: Transforms,
    progress: Progress,
) -> AceResult:
    """Return the result for the varying channels, and write their transforms."""
    match score.solver:
        case "ace":
            # Imported here because only this solver needs the package.
            from pipeline.numerics import ace_package

            found = ace_package.optimal_transforms(
                values, class_score, parameters=ace_parameters(score), n_jobs=score.n_jobs or -1, progress=progress
            )
            transforms.put(0, found.phi, found.theta)
            return found
        case "compiled":
            return estimator.fit(values, class_score, transforms=transforms)
        case _:
            assert_never(score.solver)


@dataclass(frozen=True)
class AceSteps:
    """The steps that compute each channel by itself; an engine replaces them to divide them among processes.

    Attributes
    ----------
    held_out : callable
        Judges the smoothness: `pipeline.numerics.spline_smoothness.held_out_correlations`.
    fit : callable
        Computes the scores and the transforms.
    estimator : callable
        From the estimator to the one that computes the evidence.
    """

    held_out: HeldOut = held_out_correlations
    fit: Callable[[AceSettings, AceEstimator, Predictors, FloatArray, Transforms, Progress], AceResult] = fit
    estimator: Callable[[AceEstimator], AceEstimator] = lambda estimator: estimator


def score_by_ace(inputs: RankerInputs[AceSettings], steps: AceSteps | None = None) -> ChannelScores:
    """Return each channel's maximal correlation with the class score, the transforms of ACE, and the evidence.

    The smoothness of splines, and with ``n_components=auto`` the number of components, is chosen once, for all channels
    and all images. The permutations, the folds and the halves of the images are scored with the same choice.

    Parameters
    ----------
    inputs : RankerInputs
        The data. The network and the images are not used.
    steps : AceSteps, optional
        What computes the channels; by default, this process.

    Returns
    -------
    ChannelScores
        The scores ``maximal`` and ``first``, and with splines ``penalised``; 0 for a dead channel.
    """
    steps = steps or AceSteps()
    projections, class_score = inputs.projections, inputs.activations.class_score
    varying, n_channels = np.flatnonzero(~projections.dead), len(projections.dead)
    values = Predictors(projections.values, varying if projections.dead.any() else None)
    choice = _choice(inputs, values, class_score, steps.held_out)
    if choice is not None:
        values = values.leading(choice.n_components)
    estimator = steps.estimator(_estimator(inputs.settings, choice))
    transforms = _empty_transforms(inputs.workspace, n_channels, values, varying)
    found = steps.fit(inputs.settings, estimator, values, class_score, transforms, inputs.progress)
    evidence, curves = _evidence(inputs, estimator, values, class_score, found)

    def of_all_channels(result: NDArray[Any]) -> NDArray[Any]:
        """Return a result of the varying channels with 0 for the dead channels."""
        whole = np.zeros((n_channels, *result.shape[1:]), dtype=result.dtype)
        whole[varying] = result
        return whole

    return ChannelScores(
        values={name: of_all_channels(scores) for name, scores in found.statistics.items()},
        dead=projections.dead,
        evidence={name: table.set_index(varying).reindex(range(n_channels)) for name, table in evidence.items()},
        curves=curves,
        fit=AceFit(
            r_squared=of_all_channels(found.r_squared),
            phi=transforms.phi,
            theta=transforms.theta,
            iterations=None if found.iterations is None else of_all_channels(found.iterations),
            degrees_of_freedom=(
                None if found.degrees_of_freedom is None else of_all_channels(found.degrees_of_freedom)
            ),
        ),
        smoothness=None if choice is None else _in_plain_types(choice),
    )


def ace_parameters(score: AceSettings) -> AceParameters:
    """Return the parameters of the supersmoother's ACE in the settings. Both have the same names."""
    return AceParameters(**{field.name: getattr(score, field.name) for field in fields(AceParameters)})


def _empty_transforms(workspace: Workspace, n_channels: int, values: Predictors, varying: Int64Array) -> Transforms:
    """Return arrays for the transforms of the varying channels, in which those of the other channels are 0."""
    _, n_images, n_components = values.shape
    phi = workspace.empty(AceFit.PHI, (n_channels, n_images, n_components), np.float64)
    theta = workspace.empty(AceFit.THETA, (n_channels, n_images), np.float64)
    for channel in np.setdiff1d(np.arange(n_channels), varying):
        phi[channel], theta[channel] = 0.0, 0.0
    return Transforms(phi, theta, varying)


def _choice(
    inputs: RankerInputs[AceSettings], values: Predictors, class_score: FloatArray, held_out: HeldOut
) -> SmoothnessChoice | None:
    """Return the smoothness that cross-validation chooses; None if the settings or the smoother do not ask for it."""
    score = inputs.settings
    if inputs.choose_components and inputs.n_different < MIN_IMAGES_TO_CHOOSE:
        raise InputError(
            f"n_components must be a number with fewer than {MIN_IMAGES_TO_CHOOSE} different images; got auto with "
            f"{inputs.n_different}. Set it, for example n_components=1, or add images."
        )
    if score.smoother != "spline" or score.smoothness is not None or inputs.n_different < MIN_IMAGES_TO_CHOOSE:
        return None
    return select_smoothness(
        values, class_score, seed=inputs.seed, groups=inputs.copies, n_threads=score.n_jobs or None,
        choose_components=inputs.choose_components, held_out=held_out,
    )  # fmt: skip


def _estimator(score: AceSettings, choice: SmoothnessChoice | None) -> AceEstimator:
    n_threads = score.n_jobs or None
    match score.smoother:
        case "supersmoother":
            return SupersmootherAce(ace_parameters(score), n_threads)
        case "spline":
            given = Smoothness() if score.smoothness is None else Smoothness(*score.smoothness)
            return SplineAce(given if choice is None else choice.smoothness, n_threads)
        case _:
            assert_never(score.smoother)


def _evidence(
    inputs: RankerInputs[AceSettings],
    estimator: AceEstimator,
    values: Predictors,
    class_score: FloatArray,
    found: AceResult,
) -> tuple[dict[str, pd.DataFrame], dict[str, FloatArray]]:
    """Return the evidence for the scores of the varying channels, and the reliability curves, both by statistic.

    Copies of an image are drawn together, and the bias-corrected score is that of the images that differ. The evidence
    is always computed by `estimator`, also if the `ace` package computed the scores: the package would take days.

    Parameters
    ----------
    inputs : RankerInputs
        The settings say which evidence is computed.
    estimator : AceEstimator
        What computed the scores.
    values : Predictors
        Projections of the varying channels.
    class_score : ndarray of shape (n_images,)
        The class scores.
    found : AceResult
        The scores of the varying channels.
    """
    score, observed = inputs.settings, found.statistics
    n_channels = len(values)
    with_folds, with_halves = has_folds(score, inputs.n_different), has_halves(score, inputs.n_different)
    n_folds = score.folds * score.repeats if with_folds else 0
    n_steps = 1 + score.permutations + n_folds + (score.bootstrap // 2 if with_halves else 0)
    tick = ticker(inputs.progress, n_steps, n_channels)
    tick()
    drawn: dict[str, Any] = {"seed": inputs.seed, "tick": tick, "groups": inputs.copies}
    tables = {name: pd.DataFrame(index=range(n_channels)) for name in observed}
    curves: dict[str, FloatArray] = {name: np.empty((0, 2)) for name in observed}
    if with_folds:
        held_out = cross_fitted(estimator, values, class_score, score.folds, n_repeats=score.repeats, **drawn)
        for name, table in tables.items():
            table["cross_fitted"] = held_out[name]
    if with_halves:

        def halved(values: Predictors, class_score: FloatArray, **given: Any) -> dict[str, Halves]:
            return halves(
                lambda sets, progress: estimator.on_subsets(values, class_score, sets, progress),
                len(class_score), score.bootstrap, top_k=score.top_k, **given,
            )  # fmt: skip

        by_halves = at_half = halved(values, class_score, **drawn)
        at_all: ByStatistic = observed
        if inputs.copies is not None:  # copies are fitted exactly at any number of images, which would hide the bias
            different = inputs.copies.firsts
            values_of_each, score_of_each = values.of_images(different), class_score[different]
            at_all = estimator.fit(values_of_each, score_of_each).statistics
            at_half = halved(values_of_each, score_of_each, seed=inputs.seed)
        for name in observed:
            each = by_halves[name]
            centre, low, high = corrected(at_all[name], at_half[name].scores)
            tables[name] = tables[name].assign(corrected=centre, low=low, high=high, **each.columns)
            curves[name] = each.curve
    if score.permutations:
        nulls = permutation_null(estimator, values, class_score, observed, score.permutations, **drawn)
        for name, null in nulls.items():
            excess = (observed[name] - null.mean) / np.where(null.deviation > 0, null.deviation, np.inf)
            tables[name] = tables[name].assign(
                null_mean=null.mean, null_deviation=null.deviation, excess=excess, p_value=null.p_value,
                p_pooled=null.p_pooled, q_value=null.q_value, p_family=null.p_family,
            )  # fmt: skip
    return tables, curves


def _in_plain_types(choice: SmoothnessChoice) -> Mapping[str, Any]:
    """Return the choice in the types of JSON."""
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in asdict(choice).items()}
