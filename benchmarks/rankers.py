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
- ``seconds``: time for the scores by one set of images; empty for questions that were measured on a busy machine.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console

from benchmarks.questions import (
    ATTRIBUTIONS,
    CIFAR,
    COMPONENTS,
    IMAGENET,
    Question,
    rankings_of_components,
    rankings_of_images,
    split_half,
)
from benchmarks.simulated_maps import SIMULATED, simulate
from benchmarks.timing import RESULTS
from pipeline.config import compose_settings
from pipeline.errors import NetworkError
from pipeline.figures.style import BLUE, ORANGE, new_figure, paper_style, save_png
from pipeline.numerics.ace import SplineAce
from pipeline.numerics.evidence import cross_fitted
from pipeline.numerics.faithfulness import rank_correlation
from pipeline.numerics.spline_smoothness import select_smoothness

TABLE = RESULTS / "rankers.csv"
COUNTS = (100, 300, 1000)
N_SETS, N_PAIRS = 4, 8
SLOW = ("mutual_information", "distance_correlation")


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
