"""The catalogue of all figures of a run: name, caption, when it is drawn, and how.

A new figure is one entry here and the function that draws it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

from pipeline.figures.activation_maps import draw_activation_maps
from pipeline.figures.cam import channel_weighted, draw_cam, draw_channel_weighted
from pipeline.figures.effects import draw_association_effect, draw_faithfulness
from pipeline.figures.maximization import draw_maximization
from pipeline.figures.ranked_layer import RankedLayer
from pipeline.figures.ranking import draw_ranking_curve, draw_reliability, draw_transforms
from pipeline.networks.attribution import ClassActivation
from pipeline.networks.maximization import Maximized


@dataclass(frozen=True)
class FigureData:
    """What figures are drawn from.

    Attributes
    ----------
    ranked : RankedLayer
        The artifacts, and the choice of channels and images.
    activation : ClassActivation or None
        Predictions and class activation maps for the chosen images; None for a regression network.
    maximized : Maximized or None
        Inputs found by activation maximisation; None if that was not done.
    """

    ranked: RankedLayer
    activation: ClassActivation | None
    maximized: Maximized | None


@dataclass(frozen=True)
class FigureEntry:
    """One figure.

    Attributes
    ----------
    name : str
        Of its file, without ``.png``.
    caption : str
        What it shows, for the report.
    draw : callable
        From `FigureData` to the figure.
    applies : callable
        From `FigureData` to whether there is something to draw.
    in_report : bool
        Whether the report shows it; the report draws the ranking's curve itself.
    """

    name: str
    caption: str
    draw: Callable[[FigureData], Figure]
    applies: Callable[[FigureData], bool] = lambda data: True
    in_report: bool = True


def _maps(data: FigureData, *, overlay: bool) -> Figure:
    ranked = data.ranked
    channels, n_top = ranked.channels
    which = f"best {n_top} and last {len(channels) - n_top} channels" if n_top else "chosen channels"
    title = f"Activation maps, {which}: {ranked.question}"
    return draw_activation_maps(ranked.channel_maps, n_top, title, overlay=overlay, own_images=ranked.has_own_images)


def _transforms(data: FigureData) -> Figure:
    ranked, fit = data.ranked, data.ranked.scores.fit
    assert fit is not None
    channel = ranked.channels[0][0]
    return draw_transforms(
        ranked.projections.values[channel],
        fit.phi[channel],
        ranked.activations.class_score,
        fit.theta[channel],
        ranked.score_label,
        f"ACE's transforms, channel {channel}: {ranked.question}",
    )


def _reliability(data: FigureData) -> Figure:
    return draw_reliability(data.ranked.ranking.trust, len(data.ranked.images), data.ranked.question)


def _association_effect(data: FigureData) -> Figure:
    return draw_association_effect(data.ranked.effects, data.ranked.ranking.table, data.ranked.question)


def _cam(data: FigureData) -> Figure:
    ranked, found = data.ranked, data.activation
    assert found is not None
    assert ranked.target_class is not None
    outputs = ranked.outputs or tuple(f"class {index}" for index in range(found.probabilities.shape[1]))
    return draw_cam(ranked.originals(ranked.chosen), found, outputs, ranked.target_class, ranked.question)


def _channel_weighted(data: FigureData) -> Figure:
    ranked = data.ranked
    best = ranked.varying[: ranked.visualize.n_weighted]
    score = ranked.ranking.table.set_index("channel").score
    weights = [max(float(score[channel]), 0.0) for channel in best]
    if not any(weights):
        weights = [1.0] * len(best)
    maps = channel_weighted([ranked.activations.maps[channel] for channel in best], weights, ranked.chosen)
    return draw_channel_weighted(ranked.originals(ranked.chosen), maps, len(best), ranked.question)


def _maximization(data: FigureData) -> Figure:
    ranked = data.ranked
    assert data.maximized is not None
    best_images = [ranked.most_activating[channel] for channel in ranked.maximized_channels]
    return draw_maximization(
        data.maximized, ranked.pictures(best_images), ranked.titles(ranked.maximized_channels),
        ranked.names(best_images), f"What channels ask for: {ranked.question}",
    )  # fmt: skip


_ENTRIES = (
    FigureEntry(
        "activation_maps",
        "Activation maps of the best and the last channels (or the chosen ones), with their scales.",
        lambda data: _maps(data, overlay=False),
    ),
    FigureEntry(
        "ranking_curve",
        "The score by rank.",
        lambda data: draw_ranking_curve(data.ranked.ranking.table, data.ranked.question),
        in_report=False,
    ),
    FigureEntry(
        "transforms",
        "ACE's transforms of the first channel drawn: each component's, and the class score's.",
        _transforms,
        lambda data: data.ranked.scores.fit is not None,
    ),
    FigureEntry(
        "reliability",
        "How alike the rankings of two random halves are, against the number of images.",
        _reliability,
        lambda data: bool(data.ranked.ranking.trust.curve),
    ),
    FigureEntry(
        "association_effect",
        "Association against effect: how well each channel follows the class score, and how far the "
        "class score moves without it.",
        _association_effect,
        lambda data: data.ranked.effects.is_measured,
    ),
    FigureEntry(
        "faithfulness",
        "What is left of the class score as the best channels are removed, or alone kept, against the last "
        "ones and random ones.",
        lambda data: draw_faithfulness(data.ranked.effects, data.ranked.question),
        lambda data: data.ranked.effects.is_measured,
    ),
    FigureEntry(
        "cam",
        "Class activation maps: what each place adds to the score of the target and of the predicted class, and "
        "the five likeliest classes.",
        _cam,
        lambda data: data.activation is not None and data.activation.method == "CAM",
    ),
    FigureEntry(
        "grad_cam",
        "Grad-CAM: places weighted by the gradient of the target's and of the predicted class's score, and "
        "the five likeliest classes.",
        _cam,
        lambda data: data.activation is not None and data.activation.method == "Grad-CAM",
    ),
    FigureEntry(
        "predictions",
        "The five likeliest classes of some images.",
        _cam,
        lambda data: data.activation is not None and data.activation.method is None,
    ),
    FigureEntry(
        "activation_overlays",
        "The same maps over their images: colour and opacity rise with the activation.",
        lambda data: _maps(data, overlay=True),
        lambda data: data.ranked.has_places,
    ),
    FigureEntry(
        "channel_weighted",
        "Where the best-ranked channels depart from their resting level, weighted by their scores.",
        _channel_weighted,
        lambda data: data.ranked.has_places,
    ),
    FigureEntry(
        "maximization",
        "Inputs found by gradient ascent for the best channels, the real image that drives each most, and "
        "the mean activation that either reaches.",
        _maximization,
        lambda data: data.maximized is not None,
    ),
)

FIGURES: Mapping[str, FigureEntry] = {entry.name: entry for entry in _ENTRIES}


def figures_of(data: FigureData) -> list[FigureEntry]:
    """Return the figures for which there is something to draw, in order."""
    return [entry for entry in FIGURES.values() if entry.applies(data)]
