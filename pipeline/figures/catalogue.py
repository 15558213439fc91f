"""The catalogue of the figures of a run: name, caption, when a figure applies, and the function that draws it.

A new figure is one entry here and the function that draws it. The modules that draw are imported when a figure is
drawn: a report that shows stored figures needs their captions only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipeline.figures.ranked_layer import RankedLayer
    from pipeline.figures.style import FigureMaker
    from pipeline.networks.attribution import ClassActivation
    from pipeline.networks.maximization import Maximized


@dataclass(frozen=True)
class FigureData:
    """The data that figures are drawn from.

    Attributes
    ----------
    ranked : RankedLayer
        Artifacts, and the choice of channels and images.
    activation : ClassActivation or None
        Predictions and class activation maps for the chosen images; None if there are none (regression networks).
    maximized : Maximized or None
        Inputs found by activation maximisation; None if there are none.
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
        Name of the file, without ``.png``.
    caption : str
        Caption in the report.
    draw : callable
        Function from `FigureData` to the figure.
    applies : callable
        Function from `FigureData` to whether there is something to draw.
    in_report : bool
        Whether the report shows the figure. The report has an interactive curve of the scores instead of
        ``ranking_curve``.
    """

    name: str
    caption: str
    draw: Callable[[FigureData], Figure]
    applies: Callable[[FigureData], bool] = lambda data: True
    in_report: bool = True


def _maps(data: FigureData, *, overlay: bool) -> Figure:
    from pipeline.figures.activation_maps import draw_activation_maps

    ranked = data.ranked
    _, n_top = ranked.channels
    return draw_activation_maps(
        ranked.channel_maps, n_top, ranked.question, overlay=overlay, own_images=ranked.has_own_images
    )


def _transforms(data: FigureData) -> Figure:
    from pipeline.figures.ranking import draw_transforms

    ranked, fit = data.ranked, data.ranked.scores.fit
    assert fit is not None
    channel = ranked.channels[0][0]
    return draw_transforms(
        ranked.projections.values[channel, :, : fit.phi.shape[2]],
        fit.phi[channel],
        ranked.activations.class_score,
        fit.theta[channel],
        ranked.score_label,
        channel,
        ranked.question,
    )


def _smoothness(data: FigureData) -> Figure:
    from pipeline.figures.smoothness import draw_smoothness

    assert data.ranked.scores.smoothness is not None
    return draw_smoothness(data.ranked.scores.smoothness, data.ranked.question)


def _reliability(data: FigureData) -> Figure:
    from pipeline.figures.ranking import draw_reliability

    return draw_reliability(data.ranked.ranking.trust, len(data.ranked.images), data.ranked.question)


def _association_effect(data: FigureData) -> Figure:
    from pipeline.figures.effects import draw_association_effect

    return draw_association_effect(data.ranked.effects, data.ranked.ranking.table, data.ranked.question)


def _faithfulness(data: FigureData) -> Figure:
    from pipeline.figures.effects import draw_faithfulness

    return draw_faithfulness(data.ranked.effects, data.ranked.question)


def _ranking_curve(data: FigureData) -> Figure:
    from pipeline.figures.ranking import draw_ranking_curve

    return draw_ranking_curve(data.ranked.ranking.table, data.ranked.question)


def draw_cam_of(data: FigureData, make: FigureMaker | None = None) -> Figure:
    """Draw predictions and class activation maps for the chosen images; `make` makes the empty figure."""
    from pipeline.figures.cam import draw_cam
    from pipeline.figures.style import new_figure

    ranked, found = data.ranked, data.activation
    assert found is not None
    assert ranked.target_class is not None
    outputs = ranked.outputs or tuple(f"class {index}" for index in range(found.outputs.shape[1]))
    originals = ranked.originals(ranked.chosen)
    return draw_cam(originals, found, outputs, ranked.target_class, ranked.question, make or new_figure)


def _channel_weighted(data: FigureData) -> Figure:
    from pipeline.figures.cam import channel_weighted, draw_channel_weighted

    ranked = data.ranked
    best = ranked.varying[: ranked.visualize.n_weighted]
    score = ranked.ranking.table.set_index("channel").score
    weights = [max(float(score[channel]), 0.0) for channel in best]
    if not any(weights):
        weights = [1.0] * len(best)
    maps = channel_weighted([ranked.activations.maps[channel] for channel in best], weights, ranked.chosen)
    return draw_channel_weighted(ranked.originals(ranked.chosen), maps, len(best), ranked.question)


def draw_maximization_of(data: FigureData, make: FigureMaker | None = None) -> Figure:
    """Draw the inputs found by activation maximisation; `make` makes the empty figure."""
    from pipeline.figures.maximization import draw_maximization
    from pipeline.figures.style import new_figure

    ranked = data.ranked
    assert data.maximized is not None
    best_images = [ranked.most_activating[channel] for channel in data.maximized.channels]
    return draw_maximization(
        data.maximized, ranked.pictures(best_images), ranked.titles(data.maximized.channels),
        ranked.names(best_images), ranked.question, make or new_figure,
    )  # fmt: skip


_ENTRIES = (
    FigureEntry(
        "activation_maps",
        "Activation maps of the best and the last channels, or of the chosen ones, with their colour scales.",
        lambda data: _maps(data, overlay=False),
    ),
    FigureEntry(
        "ranking_curve",
        "Scores by rank, with the permutation null and the bias-corrected scores with their 95 % intervals.",
        _ranking_curve,
        in_report=False,
    ),
    FigureEntry(
        "transforms",
        "ACE's transforms of the components and of the class score, for the first of the channels that are drawn.",
        _transforms,
        lambda data: data.ranked.scores.fit is not None,
    ),
    FigureEntry(
        "smoothness",
        "Choice of the smoothness of ACE's transforms for all channels: mean held-out correlation over the grid.",
        _smoothness,
        lambda data: data.ranked.scores.smoothness is not None,
    ),
    FigureEntry(
        "reliability",
        "Split-half reliability: Spearman correlation of the rankings by two disjoint sets of images, against their "
        "number of images.",
        _reliability,
        lambda data: bool(data.ranked.ranking.trust.curve),
    ),
    FigureEntry(
        "association_effect",
        "Association and effect: the score of each channel, and the mean absolute change of the class score when "
        "the channel is set to zero.",
        _association_effect,
        lambda data: data.ranked.effects.is_measured,
    ),
    FigureEntry(
        "faithfulness",
        "Deletion and insertion curves: the class score as channels are ablated, or as only these are kept, in the "
        "order of the ranking, in the reversed order, and in random orders. It is normalised to 1 with no channel "
        "ablated and to 0 with all of them ablated.",
        _faithfulness,
        lambda data: len(data.ranked.effects.curves) > 0,
    ),
    FigureEntry(
        "cam",
        "Class activation maps: the contribution of each position to the score of the target and of the predicted "
        "class, and the five most probable classes.",
        draw_cam_of,
        lambda data: data.activation is not None and data.activation.method == "CAM",
    ),
    FigureEntry(
        "grad_cam",
        "Grad-CAM: the activation maps of the last convolution, weighted by the gradient of the score of the target "
        "and of the predicted class, and the five most probable classes.",
        draw_cam_of,
        lambda data: data.activation is not None and data.activation.method == "Grad-CAM",
    ),
    FigureEntry(
        "predictions",
        "The five most probable classes of some images.",
        draw_cam_of,
        lambda data: data.activation is not None and data.activation.method is None,
    ),
    FigureEntry(
        "activation_overlays",
        "The same activation maps over their images. Colour and opacity increase with the activation.",
        lambda data: _maps(data, overlay=True),
        lambda data: data.ranked.has_places,
    ),
    FigureEntry(
        "channel_weighted",
        "The absolute deviation of the best channels from their medians, in standard deviations, averaged with the "
        "scores as weights.",
        _channel_weighted,
        lambda data: data.ranked.has_places,
    ),
    FigureEntry(
        "maximization",
        "Activation maximisation: for each of the best channels the input found by gradient ascent, the most "
        "activating image, and the mean activation of the channel for both.",
        draw_maximization_of,
        lambda data: data.maximized is not None,
    ),
)

FIGURES: Mapping[str, FigureEntry] = {entry.name: entry for entry in _ENTRIES}


def figures_of(data: FigureData) -> list[FigureEntry]:
    """Return the figures for which there is something to draw, in order."""
    return [entry for entry in FIGURES.values() if entry.applies(data)]
