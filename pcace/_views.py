"""What the report shows of the network itself: class activation maps and inputs found by activation maximisation.

They are computed from the network when they are needed for the first time, because activation maximisation takes longer
than many rankings. A network that has changed since the ranking would not give those of the ranking; this is checked,
and stated in the report.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch

from pcace._images import Inputs
from pcace._network import adapted, borrowed
from pcace._pictures import PixelScale
from pcace._progress import ShowProgress, shown_progress
from pipeline.figures.attempts import Attempts
from pipeline.figures.network_views import coloured, maximized, n_maximized, notes_on_channels, notes_on_views
from pipeline.figures.ranked_layer import RankedLayer, chosen_images
from pipeline.networks.attribution import ClassActivation, class_activation
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.forward import forward, network_input
from pipeline.networks.heads import exposed_heads
from pipeline.networks.maximization import Maximized
from pipeline.settings import Settings

PARTS = "no predictions, no class activation maps and no activation maximisation"
TOLERANCE = 0.01  # of the standard deviation of the class scores, by which those of an unchanged network may differ


@dataclass(frozen=True)
class Views:
    """Class activation maps and inputs found by activation maximisation.

    Attributes
    ----------
    activation : ClassActivation or None
        Predictions and class activation maps for the images that are drawn.
    maximized : Maximized or None
        Inputs that maximise the activation of the best channels.
    notes : tuple of str
        What is missing, and why.
    """

    activation: ClassActivation | None
    maximized: Maximized | None
    notes: tuple[str, ...]

    ARRAYS, TEXTS = "views.npz", "views.json"

    def save(self, folder: Path) -> None:
        """Write the arrays and the notes."""
        arrays: dict[str, Any] = {}
        texts: dict[str, Any] = {"notes": self.notes}
        for name in ("activation", "maximized"):
            part = getattr(self, name)
            values = {} if part is None else {field.name: getattr(part, field.name) for field in fields(part)}
            is_array = {key: isinstance(value, np.ndarray) for key, value in values.items()}
            arrays |= {f"{name}.{key}": value for key, value in values.items() if is_array[key]}
            texts[name] = None if part is None else {key: each for key, each in values.items() if not is_array[key]}
        np.savez_compressed(folder / self.ARRAYS, **arrays)
        (folder / self.TEXTS).write_text(json.dumps(texts) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        if not (folder / cls.TEXTS).exists():
            return cls(None, None, (f"{PARTS}: the ranking was saved by an earlier version of pcace",))
        texts = json.loads((folder / cls.TEXTS).read_text(encoding="utf-8"))
        with np.load(folder / cls.ARRAYS) as file:
            arrays = {name: file[name] for name in file.files}

        def values(part: str) -> dict[str, Any]:
            own = {name.partition(".")[2]: each for name, each in arrays.items() if name.startswith(f"{part}.")}
            return {**texts[part], **own}

        activation = None if texts["activation"] is None else ClassActivation(**values("activation"))
        best = None
        if texts["maximized"] is not None:
            found = values("maximized")
            best = Maximized(**{**found, "channels": tuple(found["channels"])})
        return cls(activation, best, tuple(texts["notes"]))


@dataclass(frozen=True)
class LiveViews:
    """The network and the images that `Views` are computed from.

    Attributes
    ----------
    model : str
        Name of the network.
    examined : ExaminedNetwork
        The network, the layer and the class score.
    keyword : str or None
        Name of the argument of the network that images are passed as; see `pcace._network.adapted`.
    score : callable or None
        A function of the outputs that is the class score.
    chosen, real : tensor of shape (n_images, ...)
        Inputs for the images that are drawn, and those from which colours are estimated (none if they are not needed).
    scale : PixelScale
        From inputs to pixels, and back.
    seed : int
        Seed of activation maximisation.
    """

    model: str
    examined: ExaminedNetwork
    keyword: str | None
    score: Callable[[Any], torch.Tensor] | None
    chosen: torch.Tensor
    real: torch.Tensor
    scale: PixelScale
    seed: int

    @classmethod
    def of(
        cls,
        settings: Settings,
        examined: ExaminedNetwork,
        inputs: Inputs,
        scale: PixelScale,
        score: Callable[[Any], torch.Tensor] | None,
    ) -> Self:
        """Return what the views of a ranking are computed from; `inputs` are those of all images."""
        all_images, visualize = inputs.on(None), settings.visualize

        def read(indices: list[int]) -> torch.Tensor:
            return torch.cat([all_images.read(slice(index, index + 1)) for index in indices]).detach().cpu()

        chosen = read(chosen_images(visualize, [record.id for record in inputs.image_set().records]))
        is_needed = chosen.ndim == 4 and visualize.maximize != "never"
        real = read(coloured(len(inputs))) if is_needed else chosen[:0]
        return cls(settings.model.name, examined, inputs.keyword, score, chosen, real, scale, settings.seed)

    def views(self, ranked: RankedLayer) -> Views:
        """Return the views of a ranking. The network is left as it was found."""
        network, attempts = self.examined.network, Attempts()
        is_shown = len(self.real) > 0
        with (
            borrowed(network),
            exposed_heads(network),
            adapted(network, self.keyword, self.score),
            shown_progress(is_shown=is_shown) as show,
        ):
            is_unchanged = attempts.result(f"{PARTS}: the network cannot be run again", partial(self._is_same, ranked))
            if not is_unchanged:
                changed = f"{PARTS}: the network has changed since the ranking"
                return Views(None, None, (*attempts.notes, *([changed] if is_unchanged is not None else [])))
            return self._computed(ranked, attempts, show)

    def _is_same(self, ranked: RankedLayer) -> bool:
        """Return whether the network gives the class scores of the ranking, up to rounding."""
        inputs = self.chosen.to(self.examined.device)
        with torch.no_grad():
            found = self.examined.score(forward(self.examined.network, inputs)).double().cpu().numpy()
        scores = ranked.activations.class_score
        precision = torch.finfo(network_input(self.examined.network, inputs).dtype).eps
        allowed = TOLERANCE * scores.std() + 8 * precision * np.abs(scores).max()
        return bool((np.abs(found - scores[ranked.chosen]) <= allowed).all())

    def _computed(self, ranked: RankedLayer, attempts: Attempts, show: ShowProgress) -> Views:
        inputs, target_class = self.chosen.to(self.examined.device), ranked.target_class
        activation = best = None
        if target_class is not None:
            activation = attempts.result(
                "class activation maps could not be computed",
                lambda: class_activation(self.examined.network, inputs, target_class),
            )
        are_pictures = inputs.ndim == 4 and inputs.shape[1] in (1, 3)
        n_channels = 0
        if are_pictures:
            n_channels = n_maximized(ranked.visualize, self.examined, inputs, len(ranked.maximized_channels))
        if n_channels:
            progress = show("activation maximisation")
            best = attempts.result(
                "activation maximisation could not be computed",
                lambda: maximized(ranked, self.examined, self.scale, self.real, self.seed, progress, n_channels),
            )
            attempts.notes += notes_on_channels(ranked.maximized_channels[:n_channels], best)
        notes = notes_on_views(
            ranked, self.model, activation,
            n_maximized=n_channels if are_pictures else None, no_class="the class score is not the score of a class",
        )  # fmt: skip
        if not are_pictures and ranked.visualize.maximize != "never":
            notes = (*notes, "no activation maximisation: the inputs are not grey or colour images")
        return Views(activation, best, (*notes, *attempts.notes))


class ViewsSource(Protocol):
    """What views are computed from."""

    def views(self, ranked: RankedLayer) -> Views:
        """Return the views of a ranking."""
        ...


class LazyViews:
    """The views of a ranking, which are computed once, when they are needed.

    Parameters
    ----------
    source : ViewsSource or Views
        The views, or what they are computed from. The network is released when they have been computed.
    """

    def __init__(self, source: ViewsSource | Views) -> None:
        self._source = source

    def get(self, ranked: RankedLayer) -> Views:
        """Return the views."""
        if not isinstance(self._source, Views):
            self._source = self._source.views(ranked)
        return self._source

    def __getstate__(self) -> dict[str, Views]:
        """Return the state of a copy and of a pickled object, which do not contain the network."""
        if not isinstance(self._source, Views):
            return {"_source": Views(None, None, (f"{PARTS}: the ranking was copied before they were computed",))}
        return {"_source": self._source}
