"""visualize: draw the figures of a run, and collect the data of its report.

A figure that cannot be drawn does not fail the run, which has a ranking by then: the figure is left out, and a note
says why. Only a channel or an image that the settings name and that does not exist is an error.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from pipeline.networks.backends import fixed_backends
from pipeline.networks.declared import class_names
from pipeline.networks.examined import NetworkRequest
from pipeline.networks.targets import score_label
from pipeline.progress import Progress
from pipeline.settings import Settings, VisualizeSettings
from pipeline.stages.stage import Stage

if TYPE_CHECKING:
    from PIL import Image

    from pipeline.figures.attempts import Attempts
    from pipeline.figures.ranked_layer import RankedLayer
    from pipeline.networks.attribution import ClassActivation

N_CARDS = 12


@dataclass(frozen=True)
class VisualizeReads:
    """What the stage reads.

    Attributes
    ----------
    visualize : VisualizeSettings
        Choice of the channels and images, and how they are drawn.
    network : NetworkRequest
        Network, layer and target.
    target_label : str
        Name of the class in titles.
    class_names : tuple of str or None
        Names of the outputs of the network; None if they are not known.
    """

    visualize: VisualizeSettings
    network: NetworkRequest
    target_label: str
    class_names: tuple[str, ...] | None

    def identity(self) -> dict[str, Any]:
        """Return the values that determine the result; the keys of the artifacts upstream contain network and layer."""
        visualize = asdict(self.visualize)
        if self.visualize.maximize != "auto":
            del visualize["maximize_tflop"]
        return {
            "visualize": visualize,
            "class_names": self.class_names,
            "seed": self.network.seed,
        }


def select(settings: Settings) -> VisualizeReads:
    """Return what this stage reads from resolved settings."""
    return VisualizeReads(
        settings.visualize, NetworkRequest.of(settings), settings.target_label, class_names(settings.model)
    )


@fixed_backends()
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
    """Return the figures, whose files are in the folder of the workspace.

    Raises
    ------
    InputError
        If the layer does not have a channel that the settings name, or the set does not have such an image.
    """
    from pipeline.figures.attempts import Attempts
    from pipeline.figures.catalogue import FigureData, figures_of
    from pipeline.figures.gallery import gallery
    from pipeline.figures.network_views import coloured, maximized, n_maximized, notes_on_channels, notes_on_views
    from pipeline.figures.pictures import FilePictures
    from pipeline.figures.ranked_layer import RankedLayer
    from pipeline.figures.style import paper_style, render_png
    from pipeline.networks.attribution import class_activation

    request, folder = reads.network, workspace.folder
    views = FilePictures(images, request.preprocessing)
    ranked = RankedLayer(
        visualize=reads.visualize,
        views=views,
        layer=request.layer,
        question=f"{request.model.label}, {request.layer}, {reads.target_label}",
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
    ranked.check()
    attempts = Attempts()
    examined = request.open()
    inputs = views.inputs(ranked.chosen).to(examined.device)
    found = None
    if (target_class := request.target_class) is not None:
        found = attempts.result(
            "class activation maps could not be computed",
            lambda: class_activation(examined.network, inputs, target_class),
        )
    n_channels = n_maximized(reads.visualize, examined, inputs, len(ranked.maximized_channels))
    n_steps = reads.visualize.maximize_steps if n_channels else 0
    n_total = n_steps + len(figures_of(FigureData(ranked, found, None))) + (n_steps > 0)
    best = None
    if n_steps:
        best = attempts.result(
            "activation maximisation could not be computed",
            lambda: maximized(
                ranked, examined, views, views.inputs(coloured(len(images))), request.seed,
                lambda done, _: progress(done, n_total), n_channels,
            ),
        )  # fmt: skip
        attempts.notes += notes_on_channels(ranked.maximized_channels[:n_channels], best)
    data = FigureData(ranked, found, best)
    with paper_style():
        for index, entry in enumerate(figures_of(data), start=1):
            png = attempts.result(
                f"figure {entry.name} could not be drawn",
                lambda entry=entry: render_png(entry.draw(data), reads.visualize.dpi),  # type: ignore[misc]
            )
            if png is not None:
                (folder / f"{entry.name}.png").write_bytes(png)
            progress(n_steps + index, n_total)
    if found is not None:
        _write_all(folder / "overlays", _overlays(ranked, found), "overlays could not be drawn", attempts)
    _write_all(folder / Figures.CARDS, _cards(ranked), "pictures of the best channels could not be drawn", attempts)
    (folder / Figures.GALLERY).write_text(json.dumps(gallery(ranked, best)) + "\n", encoding="utf-8")
    notes = notes_on_views(ranked, request.model.label, found, n_maximized=n_channels)
    return Figures(folder, (*notes, *attempts.notes))


def _overlays(ranked: RankedLayer, found: ClassActivation) -> Iterator[tuple[str, Image.Image]]:
    """Yield the file names and pictures of the class activation maps over the images at their original sizes."""
    from pipeline.figures.cam import overlay_image

    both = (("target", found.target_maps), ("predicted", found.predicted_maps))
    drawn = [(name, maps) for name, maps in both if maps is not None]
    if not drawn:
        return
    high = max(float(maps.max()) for _, maps in drawn)
    for place, (index, image) in enumerate(zip(ranked.chosen, ranked.originals(ranked.chosen), strict=True)):
        for name, maps in drawn:
            yield f"{index:05d}_{name}.png", overlay_image(image, maps[place], high)


def _cards(ranked: RankedLayer) -> Iterator[tuple[str, Image.Image]]:
    """Yield the file names and small pictures of the best channels, which MLflow shows in a table."""
    from pipeline.figures.gallery import draw_card

    channels = ranked.varying[:N_CARDS]
    pictures = ranked.pictures([ranked.most_activating[channel] for channel in channels])
    for rank, (channel, picture) in enumerate(zip(channels, pictures, strict=True), start=1):
        activation = np.asarray(ranked.activations.maps[channel, ranked.most_activating[channel]], dtype=np.float32)
        yield f"rank_{rank:03d}_channel_{channel}.png", draw_card(picture, activation)


def _write_all(folder: Path, pictures: Iterator[tuple[str, Image.Image]], failure: str, attempts: Attempts) -> None:
    """Write all pictures to a new folder. If one of them cannot be drawn, a note says so, and none is kept."""
    n_before = len(attempts.notes)
    while (drawn := attempts.result(failure, lambda: next(pictures, None))) is not None:
        name, picture = drawn
        folder.mkdir(exist_ok=True)
        picture.save(folder / name)
    if len(attempts.notes) > n_before:
        shutil.rmtree(folder, ignore_errors=True)


STAGE = Stage("visualize", 10, "steps", Figures, select, run)
