"""Settings of how channels are scored: by ACE, or by another ranker for comparison."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.settings.types import STRICT, NonNegative, Positive, Share

Curvature = Annotated[float, Field(ge=0, le=1)]
Shrinkage = Annotated[float, Field(ge=0)]
AceStatistic = Literal["maximal", "first", "penalised"]

ACE_STATISTICS: tuple[str, ...] = get_args(AceStatistic)
MIN_IMAGES = 5  # with fewer, the supersmoother's smallest window (2 neighbours on each side) covers all images
MIN_IMAGES_TO_CHOOSE = 2 * MIN_IMAGES  # to choose the smoothness or the number of components: two folds
MIN_FOLD = 3  # with fewer images in a fold, a correlation says nothing
MOST_FOR_DISTANCES = 10_000  # images whose distances are in memory: 800 MB, several times
ACE_PACKAGE_SPANS = (0.05, 0.2, 0.5)  # fixed in the `ace` package


@dataclass(frozen=True, config=STRICT)
class HalvesSettings:
    """How many random halves of the images every ranker is run on (`bootstrap`), and for which top ranks chances are
    counted in them (`top_k`).
    """

    bootstrap: NonNegative
    """Number of random halves of the images that the ranker is run on, for confidence intervals and the split-half
    reliability; an even number; 0: none.
    """
    top_k: Positive
    """Number of best ranks for which the probability of each channel is estimated."""


@dataclass(frozen=True, config=STRICT)
class AceSettings(HalvesSettings):
    """PCACE: ACE between a channel's principal component projections and the class score."""

    kind: Literal["ace"]
    """The ranker: PCACE."""
    smoother: Literal["spline", "supersmoother"]
    """How the transforms are estimated: penalised regression splines, or Friedman's supersmoother as in the
    original scripts.
    """
    smoothness: tuple[Curvature, Curvature, Shrinkage] | None
    """Of the splines: [predictors, response, shrinkage]; null: chosen by cross-validation for the whole layer."""
    solver: Literal["compiled", "ace"]
    """Of the supersmoother: the project's solver, or the package ace from PyPI, which is about a thousand times
    slower.
    """
    statistic: AceStatistic | None
    """The maximum of the criterion with its penalties (penalised), the correlation of all transforms with theta
    (maximal), or that of the first transform (first); null: penalised with splines, maximal with the supersmoother.
    """
    bass: Annotated[float, Field(ge=0, le=10)]
    """Of the supersmoother: smoothness beyond what its cross-validation selects."""
    spans: tuple[Share, Share, Share]
    """Of the supersmoother: its three window sizes, in rising order, as shares of the images."""
    delrsq: Annotated[float, Field(gt=0, lt=1)]
    """Of the supersmoother: iterations stop when R squared changes by at most this much."""
    maxit: Positive
    """Of the supersmoother: maximum number of outer iterations."""
    nterm: Positive
    """Of the supersmoother: number of outer iterations over which the change of R squared is compared with delrsq."""
    n_jobs: Annotated[int, Field(ge=0)]
    """Number of threads, or of processes with solver=ace; 0: one per core."""
    permutations: NonNegative
    """Number of permutations of the class scores, for the permutation null; 0: none."""
    folds: NonNegative
    """Number of folds for the cross-fitted score; at least 2, or 0: none."""
    repeats: Positive
    """Number of random partitions into folds that the cross-fitted score is averaged over."""

    SUPERSMOOTHER_ONLY: ClassVar = ("bass", "spans", "delrsq", "nterm", "maxit")  # settings that splines do not use

    @property
    def own_statistic(self) -> AceStatistic:
        """The statistic that channels are ranked by unless `rank.by` asks for another score."""
        return self.statistic or ("penalised" if self.smoother == "spline" else "maximal")


@dataclass(frozen=True, config=STRICT)
class RankerSettings(HalvesSettings):
    """Another ranker, for comparison: see `pipeline.numerics.association` and `pipeline.networks.contributions`."""

    kind: Literal[
        "pearson", "multiple_correlation", "distance_correlation", "mutual_information", "weight_norm",
        "mean_activation", "gradient_x_activation", "deeplift", "ablation",
    ]  # fmt: skip
    """The ranker."""


@dataclass(frozen=True, config=STRICT)
class PathRankerSettings(HalvesSettings):
    """A ranker that integrates gradients along the path from the zero input to the image, in `n_steps` points."""

    kind: Literal["conductance", "integrated_gradients"]
    """The ranker."""
    n_steps: Annotated[int, Field(ge=2)]
    """Number of points on the path from the zero input to the image."""


OtherSettings = RankerSettings | PathRankerSettings
ScoreSettings = Annotated[AceSettings | OtherSettings, Field(discriminator="kind")]


def score_contradictions(score: ScoreSettings, by: str | None, n_images: int) -> list[str]:
    """Return one line for each fault that only shows when several settings are read together; `by` is ``rank.by``."""
    faults = []
    if score.bootstrap % 2:
        faults.append(f"score.bootstrap must be even, halves come in pairs; got {score.bootstrap}.")
    if score.kind == "distance_correlation" and n_images > MOST_FOR_DISTANCES:
        faults.append(
            f"n_images must be at most {MOST_FOR_DISTANCES} with score=distance_correlation, which compares all pairs "
            f"of images; got {n_images}. Lower it, or choose another ranker, for example score=multiple_correlation."
        )
    if not isinstance(score, AceSettings):
        if by is not None:
            faults.append(f"rank.by must be null with score={score.kind}, which has one score; got {by}.")
        return faults
    faults += _wrong_smoother(score, by)
    if (
        score.solver == "ace"
        and score.smoother == "supersmoother"
        and (score.bass != 0 or score.spans != ACE_PACKAGE_SPANS)
    ):
        faults.append(
            f"score.bass must be 0 and score.spans {list(ACE_PACKAGE_SPANS)} with score.solver=ace; "
            f"got {score.bass:g} and {list(score.spans)}. Add score.bass=0; the compiled solver takes others as well."
        )
    if score.folds == 1:
        faults.append("score.folds must be 0 (no cross-fitting) or at least 2; got 1.")
    faults += _unranked(by, score, n_images)
    if not score.spans[0] < score.spans[1] < score.spans[2]:
        faults.append(f"score.spans must rise; got {list(score.spans)}.")
    return faults


def automatic_components(score: ScoreSettings, n_images: int) -> list[str]:
    """Return the fault if the number of components cannot be chosen, which the ranker does with the smoothness."""
    if not isinstance(score, AceSettings):
        return [f"n_components must be a number with score={score.kind}; got auto. Only score=ace can choose it."]
    if score.smoother != "spline" or score.smoothness is not None:
        return [
            "n_components must be a number unless score.smoother is spline and score.smoothness null; got auto. "
            "The number is chosen together with the smoothness."
        ]
    if n_images < MIN_IMAGES_TO_CHOOSE:
        return [
            f"n_components must be a number with fewer than {MIN_IMAGES_TO_CHOOSE} images; got auto with {n_images}. "
            "Set it, for example n_components=1, or add images."
        ]
    return []


def _wrong_smoother(score: AceSettings, by: str | None) -> list[str]:
    """Return a fault for each setting that belongs to the other smoother."""
    if score.smoother == "spline":
        if score.solver == "compiled":
            return []
        return [
            "score.solver must be compiled with score.smoother=spline; got ace. "
            "Add score.smoother=supersmoother score.bass=0."
        ]
    faults = []
    if score.smoothness is not None:
        faults.append(
            f"score.smoothness must be null with score.smoother=supersmoother; got {list(score.smoothness)}. "
            "Set score.bass instead, or add score.smoother=spline."
        )
    for name, value in (("score.statistic", score.statistic), ("rank.by", by)):
        if value == "penalised":
            faults.append(
                f"{name} must be null, maximal or first with score.smoother=supersmoother; "
                "got penalised. Add score.smoother=spline."
            )
    return faults


def _unranked(by: str | None, score: AceSettings, n_images: int) -> list[str]:
    """Return the fault where the score that channels are ranked by is not computed."""
    if by in ("excess", "q_value") and score.permutations == 0:
        return [f"score.permutations must be at least 1 for rank.by={by}; got 0."]
    if by == "cross_fitted" and not has_folds(score, n_images):
        return [
            f"score.folds must be at least 2, with {MIN_FOLD} images or more in each, for rank.by=cross_fitted; "
            f"got {score.folds} with {n_images} images."
        ]
    return []


def has_folds(score: AceSettings, n_images: int) -> bool:
    """Return whether channels are cross-fitted: where requested, with at least `MIN_FOLD` images in each fold."""
    return score.folds >= 2 and n_images >= MIN_FOLD * score.folds


def has_halves(score: HalvesSettings, n_images: int) -> bool:
    """Return whether random halves are scored: where requested, with at least twice `MIN_IMAGES` images in each."""
    return score.bootstrap >= 2 and n_images >= 4 * MIN_IMAGES
