"""visualize: draw the ranking, maps of its ends, ACE's transforms of the best channel, and where the class is seen."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipeline.artifacts import Activations, ChannelScores, Figures, ImageSet, Projections, Ranking
from pipeline.figures.activation_maps import draw_activation_maps
from pipeline.figures.cam import draw_cam, look
from pipeline.figures.ranking import draw_ranking_curve, draw_reliability, draw_transforms
from pipeline.figures.style import paper_style
from pipeline.networks.inputs import load_batch, to_input, to_pictures
from pipeline.networks.load import class_names, load, resolve_device
from pipeline.settings import ModelSettings, Settings, VisualizeSettings
from pipeline.sources.base import Progress

VERSION = 2


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
        return {"visualize": asdict(self.visualize), "class_names": self.class_names}


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
    *,
    folder: Path,
    progress: Progress,
) -> Figures:
    """Return the figures, written below `folder`."""
    question = f"{reads.model.name}, {reads.layer}, {reads.target_label}"
    chosen = _spread(len(images), reads.visualize.n_images)
    names = [images.records[index].id for index in chosen]
    inputs = load_batch([images.paths[index] for index in chosen], reads.model, to_input(reads.model))
    pictures = to_pictures(inputs, reads.model)
    top, bottom = _ends(ranking, reads.visualize)
    best = top[0]
    notes: tuple[str, ...] = ()

    with paper_style():
        drawn: dict[str, Figure] = {
            "activation_maps": draw_activation_maps(
                pictures,
                names,
                [np.asarray(activations.maps[channel])[chosen] for channel in top + bottom],
                _titles(ranking, top + bottom),
                len(top),
                f"Activation maps, best {len(top)} and last {len(bottom)} channels: {question}",
            ),
            "ranking_curve": draw_ranking_curve(ranking.table, question),
            "transforms": draw_transforms(
                projections.values[best],
                scores.phi[best],
                activations.class_score,
                scores.theta[best],
                f"ACE's transforms, channel {best}: {question}",
            ),
        }
        if ranking.trust.curve:
            drawn["reliability"] = draw_reliability(ranking.trust, len(images), question)
        if reads.target_class is None:
            notes = ("no predictions and no CAM: they are drawn of classes, and this is a regression",)
        else:
            network = load(reads.model, reads.seed)
            seen = look(network, inputs.to(resolve_device(reads.model)), reads.target_class)
            outputs = reads.class_names or tuple(f"class {index}" for index in range(seen.probabilities.shape[1]))
            name = "predictions" if seen.cam is None else "cam"
            drawn[name] = draw_cam(pictures, names, seen, outputs, reads.target_class, question)
            if seen.cam is None:
                notes = (f"no CAM: {reads.model.name} does not end in global average pooling and one linear layer",)
        for index, (name, figure) in enumerate(drawn.items(), start=1):
            # No date, no version in the file: the same figure is the same bytes.
            figure.savefig(folder / f"{name}.png", dpi=reads.visualize.dpi, metadata={"Software": None})
            progress(index, len(drawn))
    return Figures(folder, notes).save()


def _spread(n_images: int, n_wanted: int) -> list[int]:
    """Return the indices of `n_wanted` images spread evenly over the set: the first few are often near-duplicates."""
    return sorted({int(index) for index in np.linspace(0, n_images - 1, min(n_wanted, n_images)).round()})


def _ends(ranking: Ranking, visualize: VisualizeSettings) -> tuple[list[int], list[int]]:
    """Return the best and the last living channels, none of them twice."""
    living = ranking.table[~ranking.table.dead].channel.tolist()
    top = living[: visualize.n_top]
    rest = living[len(top) :]
    return top, rest[max(0, len(rest) - visualize.n_bottom) :]


def _titles(ranking: Ranking, channels: list[int]) -> list[str]:
    rows = ranking.table.set_index("channel")
    ranks, scores = rows["rank"].to_dict(), rows["score"].to_dict()
    return [f"channel {channel}\nrank {ranks[channel]}\n{scores[channel]:.3f}" for channel in channels]
