"""Accuracy, split-half correlation, faithfulness and time of every ranking, on two networks and on simulated maps.

``python -m benchmarks.rankers CIFAR WEIGHTS IMAGENET`` takes hours on two cores. CIFAR and IMAGENET are folders of
photographs with one subfolder per class, WEIGHTS are those of examples/cifar10_resnet20; the other network is
EfficientNet-Lite0 (examples/efficientnet_lite0). The table ``results/rankers.csv`` is written after each class of a
layer, and classes that are in it are not measured again. Without the arguments, only the simulations are repeated, and
``rankers.md`` and ``rankers.png`` are written from the table. The columns are:

- ``accuracy``: Spearman correlation over the channels with the ranking of the population, all images of the class. That
  is the cross-fitted maximal correlation (splines) with as many components, or with three where a ranking uses none.
  Mean over `N_SETS` random sets of images. With simulated maps it is the correlation with the true strengths.
- ``split_half``: mean Spearman correlation between the rankings by two random halves of a set, over `N_PAIRS` pairs;
- ``faithfulness``: Spearman correlation with the mean absolute change of the class score when the channel is set to
  zero, for 100 images of CIFAR-10 and 24 of ImageNet;
- ``seconds``: time for the scores by one set of images.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from rich.console import Console
from scipy.stats import norm

from benchmarks.timing import RESULTS
from pipeline.artifacts import Activations, ImageSet, Projections
from pipeline.config import compose_settings
from pipeline.errors import NetworkError
from pipeline.figures.style import BLUE, ORANGE, new_figure, paper_style, save_png
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

TABLE = RESULTS / "rankers.csv"
COMPONENTS = (1, 3, 10)
BASSES = (0.0, 5.0)
COUNTS = (100, 300, 1000)
N_SETS, N_PAIRS = 4, 8
WITH_COMPONENTS = ("multiple_correlation", "distance_correlation")  # the other rankers do not use the components
ATTRIBUTIONS = ("gradient_x_activation", "conductance", "integrated_gradients", "deeplift")
SLOW = ("mutual_information", "distance_correlation")
SIMULATED = "simulated"


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
            estimator = cache(partial(_estimator, leading, y, bass))
            bys = ["penalised", "maximal"] if smoother == "spline" else ["maximal"]
            if n_components == 10:
                bys.append("first")
            if n_components == 3 and bass != 0:
                bys.append("cross_fitted")
            for by in bys:
                what = {"score": "ace", "smoother": smoother, "bass": bass, "n_components": n_components, "by": by}
                yield what, partial(_ace_scorer, leading, y, estimator, by)


def _estimator(values: np.ndarray, y: np.ndarray, bass: float | None) -> AceEstimator:
    """Return splines whose smoothness is chosen for the images, or the supersmoother with its bass."""
    if bass is None:
        return SplineAce(select_smoothness(values, y, seed=0).smoothness)
    return SupersmootherAce(AceParameters(bass=bass))


def _ace_scorer(values: np.ndarray, y: np.ndarray, estimator: Callable[[], AceEstimator], by: str) -> Scorer:
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


def measure(question: Question, n_ablated: int, *, attributions: bool, console: Console) -> Iterator[dict[str, Any]]:
    """Yield a row of the table for each number of images and ranking."""
    y, everything = question.class_score, np.arange(len(question.class_score))
    ablated = everything[:: len(everything) // n_ablated][:n_ablated]
    effect = question.scorer("ablation", ablated)(np.arange(n_ablated))
    most = max(COMPONENTS)
    whole = question.components(everything, most)
    truth = {}
    for n in COMPONENTS:
        estimator = SplineAce(select_smoothness(whole[:, :, :n], y, seed=0).smoothness)
        truth[n] = cross_fitted(estimator, whole[:, :, :n], y, 5, seed=0)["maximal"]
    rng = np.random.default_rng(1)
    for n_images in COUNTS:
        is_whole = n_images == len(everything)
        sets = [np.sort(rng.permutation(everything)[:n_images]) for _ in range(1 if is_whole else N_SETS)]
        found: dict[str, dict[str, Any]] = {}
        accuracies: dict[str, list[float]] = {}
        for number, drawn in enumerate(sets):
            values = question.components(drawn, most)
            with_attributions = attributions and number == 0 and n_images == COUNTS[0]
            for what, scorer_of in (
                *rankings_of_components(values, y[drawn]),
                *rankings_of_images(question, drawn, values, attributions=with_attributions),
            ):
                is_attribution = what["score"] in ATTRIBUTIONS
                name = str(what)
                start = time.perf_counter()
                try:
                    scorer = scorer_of()
                    scores = scorer(np.arange(n_images))
                except NetworkError as error:
                    if number == 0:
                        console.print(f"{what['score']}: {error}")
                    continue
                seconds = time.perf_counter() - start
                if not is_whole and not is_attribution:
                    of_population = rank_correlation(scores, truth[what.get("n_components", 3)])
                    accuracies.setdefault(name, []).append(of_population or 0.0)
                if number == 0:
                    n_pairs = 2 if is_attribution or (what["score"] in SLOW and n_images > 100) else N_PAIRS
                    half = split_half(scorer, n_images, n_pairs)
                    found[name] = {
                        "n_images": n_images, **what, "split_half": half, "seconds": seconds,
                        "faithfulness": rank_correlation(scores, effect),
                    }  # fmt: skip
        for name, row in found.items():
            yield {**row, "accuracy": np.mean(accuracies[name]) if name in accuracies else np.nan}


# What the class score y does to the mode of a channel's maps that carries the association, and which mode that is.
SIMULATIONS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {
    "linear": (lambda y: y, 0),
    "monotone": (lambda y: norm.cdf(2 * y), 0),
    "curved": (lambda y: y * y, 0),
    "step": (lambda y: (y > 0.5).astype(float), 0),
    "second component": (lambda y: y, 1),
    "fifth component": (lambda y: y, 4),
    "corner": (lambda y: y, -1),
}


def simulated_maps(kind: str, n_channels: int, n_images: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return maps, (n_channels, n_images, 8, 8), class scores, and each channel's strength of association.

    A channel's maps are sums of ten spatial patterns with decreasing amplitudes, and noise. The amplitude of one of
    them is ``strength * f(y) + sqrt(1 - strength**2) * noise``. In the kind ``corner``, 2 x 2 pixels in one corner are.
    """
    function, mode = SIMULATIONS[kind]
    rng = np.random.default_rng([seed, list(SIMULATIONS).index(kind)])
    y = rng.normal(size=n_images)
    signal = function(y)
    signal = (signal - signal.mean()) / signal.std()
    strength = rng.permutation(np.linspace(0, 0.9, n_channels))
    carrier = strength[:, None] * signal + np.sqrt(1 - strength**2)[:, None] * rng.normal(size=(n_channels, n_images))
    patterns = np.linalg.qr(rng.normal(size=(n_channels, 64, 10)))[0]
    amplitudes = rng.normal(size=(n_channels, n_images, 10))
    if mode >= 0:
        amplitudes[:, :, mode] = carrier
    maps = (amplitudes * np.geomspace(8, 1, 10)) @ np.swapaxes(patterns, 1, 2)
    maps = (maps + 0.3 * rng.normal(size=maps.shape)).reshape(n_channels, n_images, 8, 8)
    if mode < 0:
        maps[:, :, :2, :2] = 3 * (carrier[:, :, None, None] + 0.3 * rng.normal(size=(n_channels, n_images, 2, 2)))
    return maps.astype(np.float32), y, strength


def simulate() -> Iterator[dict[str, Any]]:
    """Yield the rows of the simulations: 40 channels, 300 images, the mean over `N_SETS` simulations."""
    n_channels, n_images = 40, 300
    for kind in SIMULATIONS:
        accuracies: dict[str, list[float]] = {}
        rows: dict[str, dict[str, Any]] = {}
        for seed in range(N_SETS):
            maps, y, strength = simulated_maps(kind, n_channels, n_images, seed)
            values = reduce_channels(maps, max(COMPONENTS), lambda done, total: None)[0]
            found = {
                str(what): (what, scorer_of()(np.arange(n_images)))
                for what, scorer_of in rankings_of_components(values, y)
            }
            means = maps.mean(axis=(2, 3))
            centred = means - means.mean(axis=1, keepdims=True)
            pearson = np.abs(centred @ (y - y.mean())) / np.linalg.norm(centred, axis=1)
            found["pearson"] = ({"score": "pearson"}, pearson)
            for n_components in COMPONENTS:
                what = {"score": "multiple_correlation", "n_components": n_components}
                fitted = [_fitted(each[:, :n_components], y) for each in values]
                found[str(what)] = (what, np.array([np.corrcoef(each, y)[0, 1] for each in fitted]))
            for name, (what, scores) in found.items():
                rows[name] = {"network": SIMULATED, "layer": kind, "n_images": n_images, **what}
                accuracies.setdefault(name, []).append(rank_correlation(scores, strength) or 0.0)
        yield from ({**row, "accuracy": np.mean(accuracies[name])} for name, row in rows.items())


def _fitted(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the least-squares fit of y to the columns of x and a constant."""
    design = np.column_stack([np.ones(len(y)), x])
    fit: np.ndarray = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return fit


def name_of(row: pd.Series) -> str:
    """Return the name of a ranking in the tables."""
    n = "" if np.isnan(row.n_components) else f", {row.n_components:.0f} component{'s' * (row.n_components > 1)}"
    if row.score != "ace":
        return f"{row.score}{n}".replace("_", " ")
    smoother = "splines" if row.smoother == "spline" else f"supersmoother, bass {row.bass:.0f}"
    return f"PCACE, {smoother}{n}, {row.by}".replace("_", "-")


def write_tables(table: pd.DataFrame) -> None:
    """Write tables of all rankings: one for each value, by layer and number of images, and one of the simulations."""
    table = table.assign(ranking=table.apply(name_of, axis=1))
    real = table[table.network != SIMULATED]
    parts = []
    for value in ("accuracy", "split_half", "faithfulness"):
        for network, rows in real.groupby("network", sort=False):
            pivot = rows.pivot_table(index="ranking", columns=["layer", "n_images"], values=value, sort=False)
            classes = ", ".join(rows.class_name.unique())
            parts.append((f"{value}, {network}: mean of {classes}", pivot.sort_index(axis=1, level=[0, 1])))
    for network, rows in real[real.n_images == 300].groupby("network", sort=False):
        pivot = rows.pivot_table(index="ranking", columns=["layer", "class_name"], values="accuracy", sort=False)
        parts.append((f"accuracy with 300 images by class, {network}", pivot))
    seconds = real.pivot_table(
        index="ranking", columns=["network", "layer"], values="seconds", aggfunc="min", sort=False
    )
    parts.append(("seconds, with the fewest images that were measured", seconds))
    simulated = table[table.network == SIMULATED]
    parts.append(
        (
            "accuracy, simulated maps, 300 images",
            simulated.pivot_table(index="ranking", columns="layer", values="accuracy", sort=False),
        )
    )
    text = "".join(f"## {title}\n\n{_markdown(part)}\n" for title, part in parts)
    (RESULTS / "rankers.md").write_text(text, encoding="utf-8")


def _markdown(table: pd.DataFrame) -> str:
    columns = [each if isinstance(each, tuple) else (each,) for each in table.columns.to_flat_index()]
    headings = [" ".join(str(part) for part in column) for column in columns]
    lines = [["ranking", *headings], ["---"] * (1 + len(headings))]
    for name, row in table.iterrows():
        lines.append([str(name), *("" if np.isnan(value) else f"{value:.3g}" for value in row)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


SHOWN = {
    "PCACE, splines, 3 components, penalised": "splines, penalised",
    "PCACE, splines, 3 components, maximal": "splines, maximal",
    "PCACE, supersmoother, bass 5, 3 components, maximal": "supersmoother, bass 5",
    "PCACE, supersmoother, bass 0, 3 components, maximal": "supersmoother, bass 0",
    "multiple correlation, 3 components": "multiple correlation",
    "distance correlation, 3 components": "distance correlation",
    "pearson": "|Pearson|", "mutual information": "mutual information",
}  # fmt: skip


def draw(table: pd.DataFrame) -> Figure:
    """Return a figure with the accuracy and the split-half correlation of rankings by 300 images, a panel per layer."""
    shown = table[(table.n_images == 300) & (table.network != SIMULATED)]
    shown = shown.assign(ranking=shown.apply(name_of, axis=1))
    networks = [network for network in (CIFAR, IMAGENET) if (shown.network == network.name).any()]
    with paper_style():
        figure = new_figure(7.4, 2.2 * len(networks) + 0.5)
        panels = np.atleast_2d(figure.subplots(len(networks), 3, sharex=True, sharey=True))
        for line, network in zip(panels, networks, strict=True):
            for axes, layer in zip(line, network.layers, strict=True):
                rows = shown[(shown.network == network.name) & (shown.layer == layer)]
                means = rows.groupby("ranking")[["accuracy", "split_half"]].mean().reindex(list(SHOWN))
                place = -np.arange(len(SHOWN))
                axes.plot(means.accuracy, place, "o", color=ORANGE, markersize=4.5, label="accuracy")
                axes.plot(
                    means.split_half,
                    place,
                    "o",
                    markersize=4.5,
                    color=BLUE,
                    fillstyle="none",
                    label="split-half correlation",
                )
                axes.set_yticks(place, list(SHOWN.values()))
                axes.set_title(f"{network.name}\n{layer}", loc="left", fontsize="medium")
                if rows.empty:
                    axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color="0.5")
                axes.grid(axis="y", color="0.9", linewidth=0.6)
        panels[-1, 1].set_xlabel("Spearman correlation, 300 images of a class")
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def main(cifar: str, weights: str, imagenet: str) -> None:
    """Measure all questions that are not in the table yet, and write the table after each of them."""
    console = Console(highlight=False)
    folders = {CIFAR.name: cifar, IMAGENET.name: imagenet}
    further = {CIFAR.name: (f"model.checkpoint={Path(weights).absolute()}",), IMAGENET.name: ()}
    known = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame(columns=["network", "layer", "class_name"])
    for network in (CIFAR, IMAGENET):
        for (name, (folder, index)), layer in product(network.classes.items(), reversed(network.layers)):
            question = {"network": network.name, "layer": layer, "class_name": name}
            if (known[list(question)] == pd.Series(question)).all(axis=1).any():
                continue
            settings = compose_settings(
                [*network.overrides, *further[network.name], f"data.root={Path(folders[network.name]).absolute()}",
                 f"layer={layer}", f"class_name={folder}", f"target_class={index}",
                 f"n_images={network.population}", "n_components=1"]
            )  # fmt: skip
            start = time.perf_counter()
            measured = measure(
                Question(settings), network.n_ablated, attributions=(layer, name) in network.attributed, console=console
            )
            rows = [{**question, **row} for row in measured]
            known = pd.concat([known, pd.DataFrame(rows)], ignore_index=True)
            known.to_csv(TABLE, index=False, float_format="%.4g", lineterminator="\n")
            console.print(f"{network.name} {layer} {name}: {time.perf_counter() - start:.0f} s")


def summarise() -> None:
    """Repeat the simulations, and write the tables and the figure from the measured values."""
    table = pd.read_csv(TABLE)
    table = pd.concat([table[table.network != SIMULATED], pd.DataFrame(list(simulate()))], ignore_index=True)
    table.to_csv(TABLE, index=False, float_format="%.4g", lineterminator="\n")
    write_tables(table)
    save_png(draw(table), RESULTS / "rankers.png", 150)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(*sys.argv[1:])
    summarise()
