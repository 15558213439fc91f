"""Faithfulness, split-half correlation and run time of every ranker, and of every `rank.by`, on a CIFAR-10 ResNet-20.

``python -m benchmarks.rankers PHOTOS WEIGHTS`` takes about an hour on two cores. It writes ``results/rankers.csv`` with
a row for each question and ranking, and then ``rankers.md`` and ``rankers.png``. Without the arguments, it only writes
the latter two from the existing ``rankers.csv``. The columns are:

- ``faithfulness``: Spearman correlation over the channels with the mean absolute change of the class score when the
  channel is set to zero;
- ``split_half``: mean Spearman correlation between the rankings by two random halves of the images, over `N_PAIRS`
  pairs of halves;
- ``seconds``: time for the scores by all images, without the halves.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from benchmarks.timing import RESULTS
from pipeline.artifacts import Activations, ImageSet, Projections
from pipeline.config import compose_settings
from pipeline.figures.style import BLUE, GREY, ORANGE, SERIES, new_figure, paper_style, save_png
from pipeline.networks.examined import NetworkRequest
from pipeline.numerics.ace import SupersmootherAce
from pipeline.numerics.evidence import cross_fitted, permutation_null
from pipeline.numerics.faithfulness import rank_correlation
from pipeline.numerics.parameters import AceParameters
from pipeline.numerics.pca import reduce_channels
from pipeline.numerics.supersmoother_ace import supersmoother_correlations
from pipeline.rankers import RANKERS, RankerInputs
from pipeline.resolve import resolve
from pipeline.runner import Execution, store_of
from pipeline.settings import Settings
from pipeline.stages import load_stage

CLASSES = ("cat", "dog", "ship")
LAYERS = ("layer3.2.conv2", "layer2.2.conv1", "layer3.0.conv1")
COUNTS = {"class": (100, 300, 1000), "all": (300, 3000), "balanced": (300,)}
COMPONENTS = {"class": (1, 2, 3, 5, 10), "all": (1, 3, 10), "balanced": (1, 3, 10)}
BASSES = (0.0, 5.0, 10.0)
N_PAIRS = 20
N_PAIRS_OF_NULLS = 5  # fewer, because each half needs 200 permutations
WITH_COMPONENTS = ("multiple_correlation", "distance_correlation")  # the other rankers do not use the components
ATTRIBUTIONS = ("gradient_x_activation", "conductance", "integrated_gradients", "deeplift", "ablation")
PAIRS = {"mutual_information": N_PAIRS // 4, "distance_correlation": N_PAIRS // 4, "weight_norm": 1}
COLOURS = {
    "ace": ORANGE, "pearson": BLUE, "multiple_correlation": BLUE, "distance_correlation": BLUE,
    "mutual_information": BLUE, "weight_norm": GREY, "mean_activation": GREY, "gradient_x_activation": SERIES[2],
    "conductance": SERIES[2], "integrated_gradients": SERIES[2], "deeplift": SERIES[2],
}  # fmt: skip
Scores = Callable[[np.ndarray], np.ndarray]  # from the indices of some images to the scores of all channels
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
PCACE = ("1 component", "3 components", "10 components")


class Question:
    """A layer, a class and a set of images, with all that the rankers need.

    Parameters
    ----------
    settings : Settings
        The settings, not yet resolved.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings = resolve(settings)
        with store_of(settings) as store:
            execution = Execution(settings, store)
            execution.obtain(load_stage("activate"))
            images, self.activations = execution.artifacts[ImageSet], execution.artifacts[Activations]
        self.score = self.activations.class_score
        request = NetworkRequest.of(settings)
        self.examined, self.images = request.open(), request.inputs(images)

    def inputs(self, kind: str, values: np.ndarray) -> RankerInputs[Any]:
        """Return the inputs of a ranker with the projections `values`, (n_channels, n_images, n_components)."""
        dead = ~self.activations.varying()
        return RankerInputs(
            settings=compose_settings([f"score={kind}"]).score,
            seed=0,
            activations=self.activations,
            projections=Projections(values, np.ones((len(dead), values.shape[2])), dead),
            open_network=lambda: self.examined,
            images=self.images,
            batch_size=50,
            progress=lambda done, total: None,
        )

    def scorer(self, kind: str, values: np.ndarray) -> Scores:
        """Return the function that scores the channels by the images whose indices it is given."""
        scorer = RANKERS[kind].scorer
        assert scorer is not None
        return scorer(self.inputs(kind, values))

    def rankers(self) -> Iterator[tuple[dict[str, Any], Callable[[], Scores], int]]:
        """Yield every ranking: its description, a function that returns its scorer, and its number of pairs."""
        y, counts = self.score, COMPONENTS[self.settings.data.images_from]
        components = {n: reduce_channels(self.activations.maps, n, lambda done, total: None)[0] for n in counts}
        n_images = len(y)
        for kind, ranker in RANKERS.items():
            if ranker.scorer is not None and kind not in WITH_COMPONENTS:
                if kind in ATTRIBUTIONS and n_images != 300:
                    continue
                yield {"score": kind}, partial(self.scorer, kind, components[counts[0]]), PAIRS.get(kind, N_PAIRS)
        for n_components, values in components.items():
            size = {"n_components": n_components}
            for kind in WITH_COMPONENTS:
                if kind == "multiple_correlation" or (n_components in (1, 3) and n_images <= 300):
                    yield {"score": kind, **size}, partial(self.scorer, kind, values), PAIRS.get(kind, N_PAIRS)
            for bass in BASSES:
                ace = {"score": "ace", "bass": bass, **size}
                for by in ("maximal", "first") if n_components > 1 else ("maximal",):
                    yield {**ace, "by": by}, partial(partial, _ace, values, y, by, bass), N_PAIRS
                yield {**ace, "by": "cross_fitted"}, partial(partial, _held_out, values, y, bass), N_PAIRS
                if bass == 0 and n_images <= 300 and n_components in (1, 3, 10):
                    yield {**ace, "by": "excess"}, partial(partial, _excess, values, y, bass), N_PAIRS_OF_NULLS


def _ace(values: np.ndarray, y: np.ndarray, by: str, bass: float, i: np.ndarray) -> np.ndarray:
    return supersmoother_correlations(values[:, i], y[i], parameters=AceParameters(bass=bass))[by]


def _held_out(values: np.ndarray, y: np.ndarray, bass: float, i: np.ndarray) -> np.ndarray:
    return cross_fitted(SupersmootherAce(AceParameters(bass=bass)), values[:, i], y[i], 5, seed=0)["maximal"]


def _excess(values: np.ndarray, y: np.ndarray, bass: float, i: np.ndarray) -> np.ndarray:
    parameters = AceParameters(bass=bass)
    observed = supersmoother_correlations(values[:, i], y[i], parameters=parameters)
    null = permutation_null(SupersmootherAce(parameters), values[:, i], y[i], observed, 200, seed=0)["maximal"]
    return (observed["maximal"] - null.mean) / null.deviation


def split_half(scorer: Scores, n_images: int, n_pairs: int) -> float:
    """Return the mean Spearman correlation between the rankings by two random halves of the images."""
    rng, found = np.random.default_rng(0), []
    for _ in range(n_pairs):
        drawn = rng.permutation(n_images)
        one, other = (scorer(np.sort(half)) for half in np.array_split(drawn, 2))
        found.append(rank_correlation(one, other) or 0.0)
    return float(np.mean(found))


def measure(question: Question) -> Iterator[dict[str, Any]]:
    """Yield a row of the table for each ranking."""
    n_images = len(question.score)
    everything = np.arange(n_images)
    effect = question.scorer("ablation", np.zeros((question.examined.n_channels, n_images, 1)))(everything)
    for what, scorer_of, n_pairs in question.rankers():
        start = time.perf_counter()
        scorer = scorer_of()
        scores = scorer(everything)
        seconds = time.perf_counter() - start
        half = split_half(scorer, n_images, n_pairs)
        yield {**what, "faithfulness": rank_correlation(scores, effect), "split_half": half, "seconds": seconds}


def name_of(row: pd.Series) -> str:
    """Return the name of a ranking in the tables."""
    if row.score == "ace":
        return f"PCACE, {row.n_components:.0f} components, bass {row.bass:.0f}, {row.by}"
    fitted = "" if np.isnan(row.n_components) else f", {row.n_components:.0f} components"
    return f"{row.score}{fitted}".replace("_", " ")


def write_tables(table: pd.DataFrame) -> None:
    """Write tables of all rankings: for the first layer at 300 images, by number of images, and by source of images."""
    table = table.assign(ranking=table.apply(name_of, axis=1).str.replace("1 components", "1 component"))
    own = table[table.images_from == "class"]
    first = own[(own.layer == LAYERS[0]) & (own.n_images == 300)]
    one = first.pivot_table(index="ranking", columns="class_name", values=["faithfulness", "split_half"], sort=False)
    one = one.swaplevel(axis=1)[[(name, each) for name in CLASSES for each in ("faithfulness", "split_half")]]
    one[("seconds", "")] = first[first.class_name == CLASSES[0]].set_index("ranking").seconds
    by_size = own.pivot_table(
        index="ranking", columns=["layer", "n_images"], values=["faithfulness", "split_half"], sort=False
    )
    mixed = table[(table.n_images == 300) | (table.images_from == "all")]
    by_source = mixed.pivot_table(
        index="ranking", columns=["layer", "images_from", "n_images"], values=["faithfulness", "split_half"], sort=False
    ).dropna()
    parts: list[tuple[str, Any]] = [(f"{LAYERS[0]}, 300 images of the class", one)]
    for value in ("faithfulness", "split_half"):
        parts.append((f"{value}, mean of {', '.join(CLASSES)}: layer and images", by_size[value]))
        parts.append((f"{value}, by source of the images: layer, source, images", by_source[value]))
    text = "".join(f"## {title}\n\n{_markdown(part)}\n" for title, part in parts)
    (RESULTS / "rankers.md").write_text(text, encoding="utf-8")


def _markdown(table: pd.DataFrame) -> str:
    headings = [" ".join(str(part) for part in column if part != "") for column in table.columns.to_flat_index()]
    lines = [["ranking", *headings], ["---"] * (1 + len(headings))]
    for name, row in table.iterrows():
        cells = [
            "" if np.isnan(value) else f"{value:.2g}" if heading.startswith("seconds") else f"{value:.2f}"
            for heading, value in zip(headings, row, strict=True)
        ]
        lines.append([str(name), *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def draw(table: pd.DataFrame) -> Figure:
    """Return a figure with faithfulness against split-half correlation, in one panel for each layer."""
    own = table[(table.images_from == "class") & (table.n_images == 300)]
    shown = own[(own.score != "ace") | ((own.by == "maximal") & own.n_components.isin([1, 3, 10]))]
    shown = shown[(shown.score == "ace") | shown.n_components.isna() | (shown.n_components == 3)]
    with paper_style():
        figure = new_figure(7.4, 3.6)
        panels = figure.subplots(1, len(LAYERS), sharex=True, sharey=True)
        for axes, layer in zip(panels, LAYERS, strict=True):
            rows = shown[shown.layer == layer].fillna({"n_components": 0, "bass": 0})
            means = rows.groupby(["score", "n_components", "bass"])[["split_half", "faithfulness"]].mean()
            for place, (score, colour) in enumerate(COLOURS.items()):
                points = means.loc[[score]]
                is_pcace = score == "ace"
                for number, (_, line) in enumerate(points.groupby("n_components")):
                    axes.plot(
                        line.split_half, line.faithfulness, linestyle="-" if is_pcace else "none", color=colour,
                        linewidth=1,
                        marker=MARKERS[number if is_pcace else place % len(MARKERS)], markersize=4.5,
                        label=f"PCACE, {PCACE[number]}" if is_pcace else score.replace("_", " "),
                    )  # fmt: skip
            axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
            axes.set_title(layer, loc="left")
        panels[1].set_xlabel("split-half correlation, 300 images")
        panels[0].set_ylabel("faithfulness")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        figure.suptitle("Rankers on a CIFAR-10 ResNet-20; PCACE at bass 0, 5, 10 along its lines")
    return figure


def main(photographs: str, weights: str) -> None:
    """Measure all questions, and write the table after each of them."""
    console, rows = Console(highlight=False), []
    path = RESULTS / "rankers.csv"
    supersmoother_correlations(np.random.default_rng(0).normal(size=(2, 50, 2)), np.arange(50.0))  # compiles the solver
    for (source, counts), layer, class_name in itertools.product(COUNTS.items(), LAYERS, CLASSES):
        for n_images in counts:
            settings = compose_settings(
                ["experiment=cifar10_resnet20", f"data.root={Path(photographs).absolute()}", f"layer={layer}",
                 f"model.checkpoint={Path(weights).absolute()}", f"class_name={class_name}", f"n_images={n_images}",
                 f"data.images_from={source}", "n_components=1"]
            )  # fmt: skip
            question = {"images_from": source, "layer": layer, "class_name": class_name, "n_images": n_images}
            start = time.perf_counter()
            rows += [{**question, **row} for row in measure(Question(settings))]
            console.print(f"{source} {layer} {class_name} {n_images}: {time.perf_counter() - start:.0f} s")
            pd.DataFrame(rows).to_csv(path, index=False, float_format="%.4g", lineterminator="\n")


def summarise() -> None:
    """Write the tables and the figure from the measured values."""
    table = pd.read_csv(RESULTS / "rankers.csv")
    write_tables(table)
    save_png(draw(table), RESULTS / "rankers.png", 150)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(*sys.argv[1:])
    summarise()
