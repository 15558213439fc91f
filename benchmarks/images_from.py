"""Rankings by images of the class, of the class and others in equal parts, or of all classes (`data.images_from`).

``python -m benchmarks.images_from CIFAR WEIGHTS`` writes ``results/images_from.csv`` and ``images_from.md``. Both
folders are those of ``benchmarks.rankers``, the ranking is the default (splines, `penalised`, three components), and
the columns are:

- ``split_half``: mean Spearman correlation between the rankings by two random halves of the images;
- ``accuracy``: Spearman correlation with the ranking of the population of the same selection: 1,000 images of the
  class, 2,000 of the class and others, or 3,000 of all classes;
- ``agreement_with_class``: the same with the ranking of the 1,000 images of the class;
- ``faithfulness``: Spearman correlation with the mean absolute change of the class score, for 100 images of the class,
  when the channel is set to zero.

Values are means over `N_SETS` random sets of images, for all images a single value.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from benchmarks.questions import CIFAR, Question, ace_scorer, estimator_of, split_half
from benchmarks.timing import RESULTS, report
from pipeline.config import compose_settings
from pipeline.numerics.ace import SplineAce
from pipeline.numerics.evidence import cross_fitted
from pipeline.numerics.faithfulness import rank_correlation
from pipeline.numerics.spline_smoothness import select_smoothness

POPULATIONS = {"class": 1000, "balanced": 2000, "all": 3000}
N_IMAGES, N_COMPONENTS, N_SETS, N_PAIRS, N_ABLATED = 300, 3, 4, 8, 100


def measure(questions: dict[str, Question]) -> Iterator[dict[str, object]]:
    """Yield the rows of one layer and class, from its questions by selection."""
    of_class = questions["class"]
    everything = np.arange(len(of_class.class_score))
    ablated = everything[:: len(everything) // N_ABLATED][:N_ABLATED]
    effect = of_class.scorer("ablation", ablated)(np.arange(N_ABLATED))
    populations = {name: of_population(question) for name, question in questions.items()}
    for name, question in questions.items():
        n_population = len(question.class_score)
        rng = np.random.default_rng(1)
        for n_images, n_sets in ((N_IMAGES, N_SETS), (n_population, 1)):
            found = []
            for _ in range(n_sets):
                drawn = np.sort(rng.permutation(n_population)[:n_images])
                values, y = question.components(drawn, N_COMPONENTS), question.class_score[drawn]
                scorer = ace_scorer(values, y, partial(estimator_of, values, y, None), "penalised")
                scores = scorer(np.arange(n_images))
                found.append(
                    {
                        "split_half": split_half(scorer, n_images, N_PAIRS),
                        "accuracy": rank_correlation(scores, populations[name]),
                        "agreement_with_class": rank_correlation(scores, populations["class"]),
                        "faithfulness": rank_correlation(scores, effect),
                    }
                )
            means = {str(column): float(value) for column, value in pd.DataFrame(found).mean().items()}
            if n_images == n_population:
                means["accuracy"] = np.nan  # the images are the population
            yield {"images_from": name, "n_images": n_images, **means}


def of_population(question: Question) -> np.ndarray:
    """Return the cross-fitted maximal correlation of every channel by all images of the question."""
    y = question.class_score
    values = question.components(np.arange(len(y)), N_COMPONENTS)
    estimator = SplineAce(select_smoothness(values, y, seed=0).smoothness)
    return cross_fitted(estimator, values, y, 5, seed=0)["maximal"]


def main(cifar: str, weights: str) -> None:
    """Measure all layers and classes of the CIFAR-10 network, and write the table after each of them."""
    console = Console(highlight=False)
    rows: list[dict[str, object]] = []
    for layer, (name, (folder, index)) in product(CIFAR.layers, CIFAR.classes.items()):
        questions = {
            selection: Question(
                compose_settings(
                    [*CIFAR.overrides, f"model.checkpoint={Path(weights).absolute()}",
                     f"data.root={Path(cifar).absolute()}", f"layer={layer}", f"class_name={folder}",
                     f"target_class={index}", f"data.images_from={selection}", f"n_images={n}", "n_components=1"]
                )
            )
            for selection, n in POPULATIONS.items()
        }  # fmt: skip
        rows += [{"layer": layer, "class_name": name, **row} for row in measure(questions)]
        console.print(f"{layer} {name}")
    table = pd.DataFrame(rows)
    table.to_csv(RESULTS / "images_from.csv", index=False, float_format="%.4g", lineterminator="\n")
    means = table.groupby(["layer", "images_from", "n_images"], sort=False).mean(numeric_only=True).reset_index()
    title = f"Selection of the images, CIFAR-10 ResNet-20: mean of {', '.join(CIFAR.classes)}"
    cells = [
        [str(value) if isinstance(value, str | int) else "" if np.isnan(value) else f"{value:.2f}" for value in row]
        for row in means.itertuples(index=False)
    ]
    report("images_from", title, list(means.columns), cells)


if __name__ == "__main__":
    main(*sys.argv[1:])
