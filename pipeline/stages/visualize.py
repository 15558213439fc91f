"""visualize: draw the ranking, its channels, what activates them, ACE's transforms, and class activation maps."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts import (
    Activations,
    ChannelScores,
    Effects,
    Figures,
    ImageSet,
    Projections,
    Ranking,
    Workspace,
)
from pipeline.figures.cam import overlay_image
from pipeline.figures.catalogue import FigureData, figures_of
from pipeline.figures.gallery import draw_card, gallery
from pipeline.figures.ranked_layer import RankedLayer
from pipeline.figures.style import paper_style, save_png
from pipeline.networks.attribution import ClassActivation, class_activation
from pipeline.networks.examined import ExaminedNetwork, NetworkRequest
from pipeline.networks.inputs import SMALL_INPUT
from pipeline.networks.load import class_names
from pipeline.networks.maximization import Maximized, maximize
from pipeline.networks.targets import score_label
from pipeline.progress import Progress
from pipeline.settings import Settings, VisualizeSettings
from pipeline.stages.stage import Stage

N_CARDS = 12
N_COLOURED = 64  # real images from which the colours of activation maximisation are estimated


@dataclass(frozen=True)
class VisualizeReads:
    """What the stage reads: what is drawn, the network, and what figures call the class and the outputs."""

    visualize: VisualizeSettings
    network: NetworkRequest
    target_label: str
    class_names: tuple[str, ...] | None

    def identity(self) -> dict[str, Any]:
        """Return what decides the result; the keys of the artifacts upstream hold the network and the layer."""
        return {
            "visualize": asdict(self.visualize),
            "class_names": self.class_names,
            "seed": self.network.seed,
        }


def select(settings: Settings) -> VisualizeReads:
    """Return what this stage reads; the settings must be resolved."""
    return VisualizeReads(
        settings.visualize, NetworkRequest.of(settings), settings.target_label, class_names(settings.model)
    )


def run(
    reads: VisualizeReads,
    *,
    images: ImageSet,
    activations: Activations,
    projections: Projections,
    scores: ChannelScores,
    ranking: Ranking,
    effects: Effects,
    workspace: Workspace,
    progress: Progress,
) -> Figures:
    """Return the figures; their files are in the workspace's folder.

    Raises
    ------
    InputError
        If the layer does not have a channel, or the set an image, that was asked for.
    """
    request = reads.network
    ranked = RankedLayer(
        visualize=reads.visualize,
        preprocessing=request.preprocessing,
        layer=request.layer,
        question=f"{request.model.name}, {request.layer}, {reads.target_label}",
        score_label=score_label(request.target),
        target_class=request.target_class,
        outputs=reads.class_names,
        images=images,
        activations=activations,
        projections=projections,
        scores=scores,
        ranking=ranking,
        effects=effects,
    )
    examined = request.open()
    inputs = ranked.inputs(ranked.chosen)
    found = None
    if request.target_class is not None:
        found = class_activation(examined.network, inputs.to(examined.device), request.target_class)
    when = reads.visualize.maximize
    is_maximized = when == "always" or (when == "auto" and max(inputs.shape[-2:]) <= SMALL_INPUT)
    n_steps = reads.visualize.maximize_steps if is_maximized else 0
    n_total = n_steps + len(figures_of(FigureData(ranked, found, None))) + is_maximized
    maximized = None
    if is_maximized:
        maximized = _maximized(ranked, examined, request.seed, lambda done, _: progress(done, n_total))
    data = FigureData(ranked, found, maximized)
    folder = workspace.folder
    with paper_style():
        for index, entry in enumerate(figures_of(data), start=1):
            save_png(entry.draw(data), folder / f"{entry.name}.png", reads.visualize.dpi)
            progress(n_steps + index, n_total)
    if found is not None:
        _write_overlays(ranked, found, folder / "overlays")
    _write_cards(ranked, folder / Figures.CARDS)
    (folder / Figures.GALLERY).write_text(json.dumps(gallery(ranked, maximized)) + "\n", encoding="utf-8")
    return Figures(folder, _notes(reads, found, ranked, is_maximized=is_maximized))


def _notes(
    reads: VisualizeReads, found: ClassActivation | None, ranked: RankedLayer, *, is_maximized: bool
) -> tuple[str, ...]:
    """Return a note for each figure that was not drawn, or was drawn in another way than a reader may expect."""
    notes = []
    if found is None:
        notes.append("no predictions and no CAM: they are drawn of classes, and this is a regression")
    elif found.method != "CAM":
        instead = "Grad-CAM is drawn instead" if found.method else "its maps have one pixel, so no other is drawn"
        head = f"{reads.network.model.name} does not end in global average pooling and one linear layer"
        notes.append(f"no CAM: {head}; {instead}")
    if not ranked.has_places:
        notes.append(f"no overlays: the maps of {ranked.layer} have no height or no width, so no places in an image")
    if not is_maximized and reads.visualize.maximize == "auto":
        notes.append(
            f"no maximisation: inputs are larger than {SMALL_INPUT} x {SMALL_INPUT} pixels; visualize.maximize=always "
            "does it, in minutes"
        )
    return tuple(notes)


def _maximized(ranked: RankedLayer, examined: ExaminedNetwork, seed: int, progress: Progress) -> Maximized:
    """Return the inputs found by activation maximisation."""
    n_images = len(ranked.images)
    coloured = np.unique(np.linspace(0, n_images - 1, min(n_images, N_COLOURED)).round().astype(int)).tolist()
    mean, std = (each.to(examined.device) for each in ranked.preprocessing.normalization)
    return maximize(
        examined.network,
        examined.layer.name,
        ranked.maximized_channels,
        ranked.preprocessing.to_pixels(ranked.inputs(coloured)).to(examined.device),
        ranked.means[ranked.maximized_channels],
        lambda pixels: (pixels - mean) / std,
        steps=ranked.visualize.maximize_steps,
        seed=seed,
        progress=progress,
        axis=examined.channels,
    )


def _write_overlays(ranked: RankedLayer, found: ClassActivation, folder: Path) -> None:
    """Write each image drawn, at its original size, under the map of the target and of the predicted class."""
    if found.target_maps is None or found.predicted_maps is None:
        return
    folder.mkdir()
    high = max(float(found.target_maps.max()), float(found.predicted_maps.max()))
    for place, (index, image) in enumerate(zip(ranked.chosen, ranked.originals(ranked.chosen), strict=True)):
        for name, maps in (("target", found.target_maps), ("predicted", found.predicted_maps)):
            overlay_image(image, maps[place], high).save(folder / f"{index:05d}_{name}.png")


def _write_cards(ranked: RankedLayer, folder: Path) -> None:
    """Write a small picture for each of the best channels; MLflow shows them in a table."""
    folder.mkdir()
    channels = ranked.varying[:N_CARDS]
    pictures = ranked.pictures([ranked.most_activating[channel] for channel in channels])
    for rank, (channel, picture) in enumerate(zip(channels, pictures, strict=True), start=1):
        activation = np.asarray(ranked.activations.maps[channel, ranked.most_activating[channel]])
        draw_card(picture, activation).save(folder / f"rank_{rank:03d}_channel_{channel}.png")


STAGE = Stage("visualize", 6, "steps", Figures, select, run)
