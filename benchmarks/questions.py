"""Questions of the comparisons of rankings: layers and classes of two networks, and the rankers that answer them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
import torch

from pipeline.artifacts import Activations, ImageSet, Projections
from pipeline.config import compose_settings
from pipeline.networks.examined import NetworkRequest
from pipeline.networks.inputs import Inputs
from pipeline.numerics.ace import AceEstimator, SplineAce, SupersmootherAce
from pipeline.numerics.evidence import cross_fitted
from pipeline.numerics.faithfulness import rank_correlation
from pipeline.numerics.parameters import AceParameters
from pipeline.numerics.pca import reduce_channels
from pipeline.numerics.spline_smoothness import select_smoothness
from pipeline.rankers import RANKERS, RankerInputs
from pipeline.resolve import resolve
from pipeline.runner import Execution, store_of
from pipeline.settings import Settings
from pipeline.stages import load_stage

COMPONENTS = (1, 3, 10)
BASSES = (0.0, 5.0)
WITH_COMPONENTS = ("multiple_correlation", "distance_correlation")  # the other rankers do not use the components
ATTRIBUTIONS = ("gradient_x_activation", "conductance", "integrated_gradients", "deeplift")


@dataclass(frozen=True)
class Network:
    """A network with its layers, from early to late, and classes by name and index."""

    name: str
    overrides: tuple[str, ...]
    layers: tuple[str, ...]
    classes: dict[str, tuple[str, int]]  # name in the tables: name of the folder, index of the output
    population: int  # images of each class
    attributed: tuple[tuple[str, str], ...]  # layers and classes for which the attributions are measured
    n_ablated: int  # images for which channels are ablated


CIFAR_LAYERS, CIFAR_CLASSES = ("layer2.2.conv1", "layer3.0.conv1", "layer3.2.conv2"), {"cat": 3, "dog": 5, "ship": 8}
CIFAR = Network(
    "CIFAR-10 ResNet-20", ("experiment=cifar10_resnet20",), CIFAR_LAYERS,
    {name: (name, index) for name, index in CIFAR_CLASSES.items()},
    1000, tuple(product(CIFAR_LAYERS, CIFAR_CLASSES)), 100,
)  # fmt: skip
IMAGENET = Network(
    "EfficientNet-Lite0", ("model=efficientnet_lite0", "data=folder"), ("_blocks.5", "_blocks.10", "_blocks.15"),
    {"garbage truck": ("n03417042", 569), "springer": ("n02102040", 217), "church": ("n03028079", 497)},
    1350, (("_blocks.15", "garbage truck"),), 24,
)  # fmt: skip


Scorer = Callable[[np.ndarray], np.ndarray]  # from indices into a set of images to the scores of the channels


@dataclass(frozen=True)
class SomeImages:
    """Some of the images, as inputs of the network; see `pipeline.networks.inputs.Inputs`."""

    inputs: Inputs
    chosen: np.ndarray

    def __len__(self) -> int:
        return len(self.chosen)

    def read(self, which: slice) -> torch.Tensor:
        """Return the inputs of the images in a slice, (n_images, channels, height, width)."""
        return torch.cat([self.inputs.read(slice(index, index + 1)) for index in self.chosen[which].tolist()])


class Question:
    """A layer and a class, with the activations and class scores of all images of the class.

    Parameters
    ----------
    settings : Settings
        The settings, not yet resolved.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings = resolve(settings)
        with store_of(settings) as store:
            execution = Execution(settings, store)
            for stage in ("download", "activate"):
                execution.obtain(load_stage(stage))
            images, self.activations = execution.artifacts[ImageSet], execution.artifacts[Activations]
        self.class_score = self.activations.class_score
        request = NetworkRequest.of(settings)
        self.examined, self.images = request.open(), request.inputs(images)
        self.dead = ~self.activations.varying()
        self.rankers = {kind: compose_settings([f"score={kind}"]).score for kind in RANKERS}

    def scorer(self, kind: str, images: np.ndarray | None = None, values: np.ndarray | None = None) -> Scorer:
        """Return a ranker's function from the images to the scores of the channels.

        Parameters
        ----------
        kind : str
            Name of the ranker.
        images : ndarray of int64 or None
            The images that it may be given, by their indices in the population; None: all of them.
        values : ndarray of shape (n_channels, n_images, n_components) or None
            Their projections, for rankers that use them.
        """
        chosen = np.arange(len(self.class_score)) if images is None else images
        if values is None:
            values = np.zeros((len(self.dead), len(chosen), 1))
        is_of_maps = kind not in (*ATTRIBUTIONS, "ablation")
        activations = self.activations
        if images is not None:
            maps = activations.maps[:, chosen] if is_of_maps else activations.maps[:, :1]
            activations = Activations(maps, self.class_score[chosen])
        scorer = RANKERS[kind].scorer
        assert scorer is not None
        inputs: RankerInputs[Any] = RankerInputs(
            settings=self.rankers[kind],
            seed=0,
            activations=activations,
            projections=Projections(values, np.ones((len(self.dead), values.shape[2])), self.dead),
            open_network=lambda: self.examined,
            images=self.images if images is None else SomeImages(self.images, chosen),
            batch_size=50,
            progress=lambda done, total: None,
        )
        return scorer(inputs)

    def components(self, chosen: np.ndarray, n_components: int) -> np.ndarray:
        """Return the projections of some images, (n_channels, n_images, n_components)."""
        return reduce_channels(self.activations.maps[:, chosen], n_components, lambda done, total: None)[0]


Rankings = Iterator[tuple[dict[str, Any], Callable[[], Scorer]]]


def rankings_of_components(values: np.ndarray, y: np.ndarray) -> Rankings:
    """Yield the rankings by ACE, each as its description and a function that returns its scorer."""
    for n_components in COMPONENTS:
        leading = values[:, :, :n_components]
        for smoother, bass in [("spline", None), *(("supersmoother", bass) for bass in BASSES)]:
            estimator = cache(partial(estimator_of, leading, y, bass))
            bys = ["penalised", "maximal"] if smoother == "spline" else ["maximal"]
            if n_components == 10:
                bys.append("first")
            if n_components == 3 and bass != 0:
                bys.append("cross_fitted")
            for by in bys:
                what = {"score": "ace", "smoother": smoother, "bass": bass, "n_components": n_components, "by": by}
                yield what, partial(ace_scorer, leading, y, estimator, by)


def estimator_of(values: np.ndarray, y: np.ndarray, bass: float | None) -> AceEstimator:
    """Return splines whose smoothness is chosen for the images, or the supersmoother with its bass."""
    if bass is None:
        return SplineAce(select_smoothness(values, y, seed=0).smoothness)
    return SupersmootherAce(AceParameters(bass=bass))


def ace_scorer(values: np.ndarray, y: np.ndarray, estimator: Callable[[], AceEstimator], by: str) -> Scorer:
    """Return ACE's function from the images to the scores, by the statistic `by` or by cross-fitting."""
    found = estimator()
    if by == "cross_fitted":
        return lambda chosen: cross_fitted(found, values[:, chosen], y[chosen], 5, seed=0)["maximal"]
    return lambda chosen: found.on_subsets(values, y, [chosen])[by][:, 0]


def rankings_of_images(question: Question, drawn: np.ndarray, values: np.ndarray, *, attributions: bool) -> Rankings:
    """Yield the rankings by the other rankers for the images `drawn`, whose projections are `values`."""
    for kind, ranker in RANKERS.items():
        if ranker.scorer is None or kind == "ablation" or (kind in ATTRIBUTIONS and not attributions):
            continue
        if kind in WITH_COMPONENTS:
            for n_components in COMPONENTS:
                if kind == "multiple_correlation" or (n_components < 10 and len(drawn) <= 300):
                    leading = values[:, :, :n_components]
                    what = {"score": kind, "n_components": n_components}
                    yield what, partial(question.scorer, kind, drawn, leading)
        else:
            yield {"score": kind}, partial(question.scorer, kind, drawn)


def split_half(scorer: Scorer, n_images: int, n_pairs: int) -> float:
    """Return the mean Spearman correlation between the rankings by two random halves of the images."""
    rng, found = np.random.default_rng(0), []
    for _ in range(n_pairs):
        one, other = (scorer(np.sort(half)) for half in np.array_split(rng.permutation(n_images), 2))
        found.append(rank_correlation(one, other) or 0.0)
    return float(np.mean(found))
