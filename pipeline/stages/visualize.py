"""visualize: draw the ranking and its channels, what drives them, ACE's transforms, and where the class is seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import nn

from pipeline.artifacts import AceFit, Activations, ChannelScores, Effects, Figures, ImageSet, Projections, Ranking
from pipeline.figures.activation_maps import draw_activation_maps
from pipeline.figures.cam import channel_weighted, draw_cam, draw_channel_weighted, overlay_image
from pipeline.figures.effects import draw_association_effect, draw_faithfulness
from pipeline.figures.gallery import draw_card, gallery
from pipeline.figures.maximization import draw_maximization
from pipeline.figures.ranking import draw_ranking_curve, draw_reliability, draw_transforms
from pipeline.figures.scene import Scene
from pipeline.figures.style import paper_style, save_png
from pipeline.networks.attribution import Look, look
from pipeline.networks.inputs import SMALL_INPUT, normalization, to_pixels
from pipeline.networks.layers import layout
from pipeline.networks.load import class_names, load, resolve_device
from pipeline.networks.maximization import Maximized, maximize
from pipeline.progress import Progress
from pipeline.settings import ModelSettings, Settings, VisualizeSettings

VERSION = 6
N_CARDS = 12
N_COLOURED = 64  # real images from which the colours of the maximisation are learnt


@dataclass(frozen=True)
class VisualizeReads:
    """What the stage reads."""

    visualize: VisualizeSettings
    model: ModelSettings
    layer: str
    target_label: str
    target_class: int | None
    seed: int
    class_names: tuple[str, ...] | None

    def identity(self) -> dict[str, Any]:
        """Return what decides the result beyond the upstream artifacts, whose keys hold the network and the layer."""
        return {"visualize": asdict(self.visualize), "class_names": self.class_names, "seed": self.seed}


def select(settings: Settings) -> VisualizeReads:
    """Pick what this stage reads; `settings` must be resolved."""
    return VisualizeReads(
        settings.visualize,
        settings.model,
        settings.layer,
        settings.target_label,
        settings.target_class,
        settings.seed,
        class_names(settings.model),
    )


def run(
    reads: VisualizeReads,
    images: ImageSet,
    activations: Activations,
    projections: Projections,
    scores: ChannelScores,
    ranking: Ranking,
    effects: Effects,
    *,
    folder: Path,
    progress: Progress,
) -> Figures:
    """Return the figures, written below `folder`.

    Raises
    ------
    InputError
        If a channel or an image that shall be drawn is not there.
    """
    question = f"{reads.model.name}, {reads.layer}, {reads.target_label}"
    scene = Scene(
        reads.visualize, reads.model, reads.layer, question, images, activations, projections, scores, ranking
    )
    network = load(reads.model, reads.seed).requires_grad_(False)
    inputs = scene.inputs(scene.chosen)
    seen = None
    if reads.target_class is not None:
        seen = look(network, inputs.to(resolve_device(reads.model)), reads.target_class)
    drawings: dict[str, Callable[[], Figure]] = {
        "activation_maps": lambda: _maps(scene, overlay=False),
        "ranking_curve": lambda: draw_ranking_curve(ranking.table, question),
    }
    if scores.fit is not None:
        drawings["transforms"] = partial(_transforms, scene, scores.fit)
    if ranking.trust.curve:
        drawings["reliability"] = lambda: draw_reliability(ranking.trust, len(images), question)
    if effects.is_measured:
        drawings["association_effect"] = lambda: draw_association_effect(effects, ranking.table, question)
        drawings["faithfulness"] = lambda: draw_faithfulness(effects, question)
    if seen is not None:
        drawings[(seen.method or "predictions").lower().replace("-", "_")] = partial(_cam, scene, seen, reads)
    if scene.has_places:
        drawings["activation_overlays"] = lambda: _maps(scene, overlay=True)
        drawings["channel_weighted"] = lambda: _channel_weighted(scene)
    when = reads.visualize.maximize
    is_maximized = when == "always" or (when == "auto" and max(inputs.shape[-2:]) <= SMALL_INPUT)
    n_steps = reads.visualize.maximize_steps if is_maximized else 0
    n_total = n_steps + len(drawings) + is_maximized
    found = None
    if is_maximized:
        found = _maximized(scene, network, reads.seed, lambda done, _: progress(done, n_total))
        drawings["maximization"] = partial(_maximization, scene, found)
    with paper_style():
        for index, (name, draw) in enumerate(drawings.items(), start=1):
            save_png(draw(), folder / f"{name}.png", reads.visualize.dpi)
            progress(n_steps + index, n_total)
    if seen is not None:
        _write_overlays(scene, seen, folder / "overlays")
    _write_cards(scene, folder / Figures.CARDS)
    (folder / Figures.GALLERY).write_text(json.dumps(gallery(scene, found)) + "\n", encoding="utf-8")
    return Figures(folder, _notes(reads, seen, scene, is_maximized=is_maximized)).save()


def _notes(reads: VisualizeReads, seen: Look | None, scene: Scene, *, is_maximized: bool) -> tuple[str, ...]:
    """Return a note for each picture that was not drawn, or drawn otherwise than one may think."""
    notes = []
    if seen is None:
        notes.append("no predictions and no CAM: they are drawn of classes, and this is a regression")
    elif seen.method != "CAM":
        instead = "Grad-CAM is drawn instead" if seen.method else "its maps have one pixel, so no other is drawn"
        head = f"{reads.model.name} does not end in global average pooling and one linear layer"
        notes.append(f"no CAM: {head}; {instead}")
    if not scene.has_places:
        notes.append(f"no overlays: the maps of {reads.layer} have no height or no width, so no places in an image")
    if not is_maximized and reads.visualize.maximize == "auto":
        notes.append(
            f"no maximisation: inputs are larger than {SMALL_INPUT} x {SMALL_INPUT} pixels; visualize.maximize=always "
            "does it, in minutes"
        )
    return tuple(notes)


def _maps(scene: Scene, *, overlay: bool) -> Figure:
    channels, n_top = scene.channels
    which = f"best {n_top} and last {len(channels) - n_top} channels" if n_top else "chosen channels"
    title = f"Activation maps, {which}: {scene.question}"
    return draw_activation_maps(scene.channel_maps, n_top, title, overlay=overlay, own_images=scene.has_own_images)


def _transforms(scene: Scene, fit: AceFit) -> Figure:
    channel = scene.channels[0][0]
    return draw_transforms(
        scene.projections.values[channel],
        fit.phi[channel],
        scene.activations.class_score,
        fit.theta[channel],
        f"ACE's transforms, channel {channel}: {scene.question}",
    )


def _cam(scene: Scene, seen: Look, reads: VisualizeReads) -> Figure:
    outputs = reads.class_names or tuple(f"class {index}" for index in range(seen.probabilities.shape[1]))
    assert reads.target_class is not None
    return draw_cam(scene.as_they_are(scene.chosen), seen, outputs, reads.target_class, scene.question)


def _channel_weighted(scene: Scene) -> Figure:
    best = scene.living[: scene.visualize.n_weighted]
    score = scene.ranking.table.set_index("channel").score
    weights = [max(float(score[channel]), 0.0) for channel in best]
    if not any(weights):
        weights = [1.0] * len(best)
    maps = channel_weighted([scene.activations.maps[channel] for channel in best], weights, scene.chosen)
    return draw_channel_weighted(scene.as_they_are(scene.chosen), maps, len(best), scene.question)


def _maximized(scene: Scene, network: nn.Module, seed: int, progress: Progress) -> Maximized:
    device = resolve_device(scene.model)
    n_images = len(scene.images)
    coloured = np.unique(np.linspace(0, n_images - 1, min(n_images, N_COLOURED)).round().astype(int)).tolist()
    mean, std = (each.to(device) for each in normalization(scene.model))
    return maximize(
        network,
        scene.layer,
        scene.sought,
        to_pixels(scene.inputs(coloured), scene.model).to(device),
        scene.means[scene.sought],
        lambda pixels: (pixels - mean) / std,
        steps=scene.visualize.maximize_steps,
        seed=seed,
        progress=progress,
        axis=layout(scene.model).find(scene.layer).channels or "first",
    )


def _maximization(scene: Scene, found: Maximized) -> Figure:
    best_images = [scene.driving[channel] for channel in scene.sought]
    return draw_maximization(
        found, scene.pictures(best_images), scene.titles(scene.sought), scene.names(best_images),
        f"What channels ask for: {scene.question}",
    )  # fmt: skip


def _write_overlays(scene: Scene, seen: Look, folder: Path) -> None:
    """Write each image drawn, at its own size, under the map of the target and of the predicted class."""
    if seen.target_maps is None or seen.predicted_maps is None:
        return
    folder.mkdir()
    high = max(float(seen.target_maps.max()), float(seen.predicted_maps.max()))
    for place, (index, image) in enumerate(zip(scene.chosen, scene.as_they_are(scene.chosen), strict=True)):
        for name, maps in (("target", seen.target_maps), ("predicted", seen.predicted_maps)):
            overlay_image(image, maps[place], high).save(folder / f"{index:05d}_{name}.png")


def _write_cards(scene: Scene, folder: Path) -> None:
    """Write a small picture for each of the best channels; MLflow shows them in a table."""
    folder.mkdir()
    channels = scene.living[:N_CARDS]
    pictures = scene.pictures([scene.driving[channel] for channel in channels])
    for rank, (channel, picture) in enumerate(zip(channels, pictures, strict=True), start=1):
        activation = np.asarray(scene.activations.maps[channel, scene.driving[channel]])
        draw_card(picture, activation).save(folder / f"rank_{rank:03d}_channel_{channel}.png")
