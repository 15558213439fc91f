"""The tables that runs write and their columns; tests/e2e/test_site.py compares them with those of a run.

The columns of a ranking are described where the report takes them from, in `pipeline.figures.columns`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.figures.columns import KNOWN


@dataclass(frozen=True)
class TablePage:
    """One table: its title, what it is, and its columns with their descriptions."""

    title: str
    about: str
    columns: Mapping[str, str]


QUESTION = {
    "by": "What the channels are ranked by.",
    "statistic": "Statistic that the evidence belongs to.",
    "model": "Name of the network.",
    "layer": "Layer of the channels.",
    "class_name": "Name of the class; empty without one.",
    "target_class": "Index of the network's output that is the class score.",
    "n_images": "Number of images.",
    "n_components": "Number of principal components.",
    "seed": "Seed of all random choices.",
}
RANDOM = "over random orders of the channels"
CURVES = {"n_channels": "Number of channels that are ablated, or kept."}
CURVES |= {
    f"{kind}_{order}": f"Normalised class score with so many of the {what} channels {done}."
    for kind, done in (("deletion", "ablated"), ("insertion", "kept"))
    for order, what in (("top", "first"), ("bottom", "last"))
}
CURVES |= {
    f"{kind}_random{suffix}": f"{word} of the {kind} curve {RANDOM}."
    for kind in ("deletion", "insertion")
    for suffix, word in (("", "Mean"), ("_low", "Lower limit of the band"), ("_high", "Upper limit of the band"))
}
IMAGES = {
    "id": "Id of the image, unique within the set.",
    "source": "Origin of the image, such as `folder:cat/0007.jpg`.",
    "file": "File of the image in the artifact.",
    "sha256": "SHA-256 of the bytes of the file.",
    "width": "Width in pixels.",
    "height": "Height in pixels.",
    "class_name": "Class of the image; empty if the source has no classes.",
}

TABLES: tuple[TablePage, ...] = (
    TablePage(
        "ranking.csv, ranking.parquet",
        "One row for each channel, best first. The columns depend on the ranker and on the evidence that was "
        "requested; those of the settings at the end are the same in every row. In Python, `Ranking.to_frame()` "
        "returns the same table.",
        {**{name: about for name, (_, about) in KNOWN.items()}, **QUESTION},
    ),
    TablePage(
        "effects.csv",
        "One row for each varying channel, in the order of the ranking: how the class score changes when the channel "
        "is ablated. Effects that were not measured are empty (`ablate.budget_tflop`).",
        {
            "rank": KNOWN["rank"][1],
            "channel": KNOWN["channel"][1],
            "score": KNOWN["score"][1],
            "zero": "Mean absolute change of the class score with the channel set to zero.",
            "mean": "The same with the channel set to its mean over images and positions.",
            "resample": "The same with the channel's map for another image.",
            "zero_signed": "Mean change of the class score, with its sign, with the channel set to zero.",
            "mean_signed": "The same with the channel set to its mean.",
            "resample_signed": "The same with the channel's map for another image.",
        },
    ),
    TablePage(
        "curves.csv",
        "The deletion and insertion curves, in the artifact of the stage evaluate. The class score is normalised to 1 "
        "with no channel ablated and 0 with all of them ablated.",
        CURVES,
    ),
    TablePage("manifest.csv, images.csv", "One row for each image: in the image set, and in MLflow.", IMAGES),
    TablePage(
        "copies.csv",
        "In the image set, if there are copies: one row for each image with the same pixels as an earlier one.",
        {
            "image": "Index of the image, starting at 0.",
            "copy_of": "Index of the first image with the same pixels.",
            "id": "Id of the image.",
            "id_of_original": "Id of the first image with the same pixels.",
        },
    ),
    TablePage(
        "download_report.csv",
        "For images from the web: one row for each address that was considered.",
        {
            "place": "Number of the line or row in the list.",
            "address": "The address.",
            "taken": "Whether it gave one of the images.",
            "reason": "Why it did not; empty if it did.",
        },
    ),
    TablePage(
        "summary.csv",
        "In the folder of a sweep: one row for each job.",
        {
            "job": "Number of the job, which is also the name of its folder.",
            "question": "The settings in which the job differs from the others.",
            "status": "`finished` or `failed`.",
            "top_channels": "The best channels.",
            "best_score": "The highest score.",
            "median_score": "The median of the scores of the varying channels.",
            "n_channels": "Number of channels.",
            "reliability": "Split-half reliability of the ranking.",
            "faithfulness": "Spearman correlation of the scores with the effects of ablation.",
            "with_first": "Spearman correlation with the ranking of the first job that ranked the same channels.",
            "score_seconds": "Run time of the stage score; empty if the scores came from the store.",
            "seconds": "Run time of all stages.",
            "from_store": "The stages whose artifacts came from the store.",
            "error": "Why the job failed; empty if it did not.",
        },
    ),
    TablePage(
        "rankings.csv",
        "In the folder of a sweep: the channels by rank, with one column for each job, named by its settings.",
        {"rank": KNOWN["rank"][1]},
    ),
    TablePage(
        "Agreement of rankings",
        "What `pcace.compare` returns in Python, and what `pcace compare` prints: one row for each pair of rankings of "
        "the same channels.",
        {
            "first": "Name of the first ranking.",
            "second": "Name of the second ranking.",
            "spearman": "Spearman correlation of the ranks.",
            "kendall": "Kendall correlation of the ranks.",
            "rank_biased_overlap": "Rank-biased overlap, in which the first ranks have the most weight.",
            "top_overlap": "Share of the best channels that the two rankings have in common.",
            "top": "Number of best channels that are compared.",
        },
    ),
)

NETWORK = {
    "rank": "Rank of the channel in the network: by the bias-corrected score, or else by the cross-fitted score or the "
    "score.",
    "layer": "Layer of the channel.",
    "position": "Place of the layer in the order of execution, starting at 0.",
    "depth": "Share of the network's elementary modules that have run before the last one of the layer.",
    "kind": "Class of the layer's module.",
    "channel": KNOWN["channel"][1],
    "score": KNOWN["score"][1],
    "bias_corrected": "Bias-corrected score.",
    "low": "Lower limit of its 95 % confidence interval.",
    "high": "Upper limit of its 95 % confidence interval.",
    "q": "q-value over all channels of the network (Benjamini and Hochberg), from the permutation nulls of the layers.",
    "rank_in_layer": "Rank of the channel in its layer.",
    "cross_fitted": KNOWN["cross_fitted"][1],
    "dead": KNOWN["dead"][1],
}
LAYERS = {
    "layer": "Name of the layer.",
    **{name: NETWORK[name] for name in ("position", "depth", "kind")},
    "n_channels": "Number of channels.",
    "height": "Height of the maps.",
    "width": "Width of the maps.",
    "n_components": "Number of principal components.",
    "variance": "Mean share of the variance of a channel's maps that its components hold.",
    "reliability": "Split-half reliability of the ranking of the layer.",
    "accuracy": "Its estimated accuracy.",
    "n_significant": "Number of channels whose q-value in the network is below .05.",
    "share_significant": "The same as a share of the channels.",
    "n_dead": "Number of channels that never vary.",
    "lower_quartile": "Lower quartile of what the network is ranked by, over the channels that vary.",
    "median": "Its median.",
    "upper_quartile": "Its upper quartile.",
    "association": "Association of the layer as a whole with the class score: the correlation of a linear probe on "
    "held-out images.",
    "association_low": "Lower limit of its 95 % confidence interval.",
    "association_high": "Upper limit of its 95 % confidence interval.",
    "best_channels": "The best channels.",
}
TABLES += (
    TablePage(
        "network.csv, network.parquet",
        "In the folder of a run of several layers: one row for each channel of the network, best first.",
        NETWORK,
    ),
    TablePage(
        "layers.csv, layers.parquet", "In the same folder: one row for each layer, in order of execution.", LAYERS
    ),
    TablePage(
        "not_ranked.csv",
        "In the same folder: one row for each layer that was selected and not ranked.",
        {"layer": "Name of the layer.", "reason": "Why it was not ranked."},
    ),
)

# The files of the artifact of each stage; `*` stands for the name of a statistic or a picture.
FILES = {
    "download": ("images/*", "manifest.csv", "copies.csv", "report.csv"),
    "activate": ("maps.npy", "class_score.npy", "rounding.npy"),
    "reduce": ("values.npy", "explained_variance_ratio.npy", "dead.npy", "residual.npy"),
    "score": (
        "scores.parquet", "evidence_*.parquet", "curve_*.npy", "r_squared.npy", "phi.npy", "theta.npy",
        "iterations.npy", "degrees_of_freedom.npy", "smoothness.json", "completeness.json",
    ),
    "rank": ("ranking.csv", "ranking.parquet", "trust.json"),
    "ablate": ("changes.npy", "random.npy", "note.txt"),
    "evaluate": ("effects.csv", "curves.csv", "faithfulness.json"),
    "visualize": ("*.png", "overlays/*", "channels/*", "gallery.json", "notes.txt"),
    "associate": ("probe.json",),
}  # fmt: skip
