"""Rankings of whole networks with values that tests choose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pipeline.artifacts import NetworkRanking, NetworkSummary
from pipeline.network_answer import sentences

MISSING = float("nan")


def network_ranking(
    scores: Sequence[Sequence[float]],
    *,
    names: Sequence[str] = (),
    association: Sequence[float] = (),
    margin: float = 0.1,
    reliability: Sequence[float] = (),
    threshold: float | None = 0.3,
    model: str = "net",
    target: str = "class cat",
    by: str = "bias_corrected",
    not_ranked: Sequence[str] = (),
) -> NetworkRanking:
    """Return a ranking with one layer for each member of `scores`, the bias-corrected scores of its channels.

    Channels with a score above `threshold` have q = .01, the others q = .5; None: there are no q-values. The interval
    of an association reaches `margin` to both sides.
    """
    n_layers = len(scores)
    names = names or [f"layer{place}" for place in range(n_layers)]
    association = association or [MISSING] * n_layers
    reliability = reliability or [MISSING] * n_layers
    channels, rows = [], []
    for place, (name, values) in enumerate(zip(names, scores, strict=True)):
        own = np.asarray(values, dtype=float)
        q = np.full(len(own), MISSING) if threshold is None else np.where(own > threshold, 0.01, 0.5)
        depth = place / max(1, n_layers - 1)
        table = pd.DataFrame(
            {"layer": name, "position": place, "depth": depth, "kind": "Conv2d"}, index=range(len(own))
        )
        table = table.assign(
            channel=range(len(own)), score=own + 0.1, bias_corrected=own, low=own - 0.1, high=own + 0.1
        )
        if by != "bias_corrected":
            table[["bias_corrected", "low", "high"]] = MISSING
        table = table.assign(
            cross_fitted=own, q=q, rank_in_layer=(-own).argsort(kind="stable").argsort() + 1, dead=False
        )
        channels.append(table)
        n_out = MISSING if threshold is None else float((q < 0.05).sum())
        lower, median, upper = np.quantile(table[by], [0.25, 0.5, 0.75])
        rows.append(
            {
                "layer": name, "position": place, "depth": depth, "kind": "Conv2d", "n_channels": len(own), "height": 8,
                "width": 8, "n_components": 3, "variance": 0.5 + 0.1 * place, "reliability": reliability[place],
                "accuracy": reliability[place], "n_significant": n_out, "share_significant": n_out / len(own),
                "n_dead": 0, "lower_quartile": lower, "median": median, "upper_quartile": upper,
                "association": association[place], "association_low": association[place] - margin,
                "association_high": association[place] + margin,
                "best_channels": " ".join(str(channel) for channel in np.argsort(-own, kind="stable")[:5]),
            }
        )  # fmt: skip
    together = pd.concat(channels, ignore_index=True).sort_values(by, ascending=False, kind="stable", ignore_index=True)
    together.insert(0, "rank", np.arange(len(together)) + 1)
    layers = pd.DataFrame(rows)
    reasons = pd.DataFrame({"layer": list(not_ranked), "reason": ["its maps do not vary"] * len(not_ranked)}, dtype=str)
    found = sentences(together, layers, reasons, by=by, target=target, n_images=300)
    return NetworkRanking(
        together, layers, reasons, NetworkSummary(model, target, "all", 300, by, "penalised", tuple(found))
    )


def large_network(n_layers: int, n_channels: int, seed: int = 0) -> NetworkRanking:
    """Return a ranking with long names of layers, and more channels in the later layers."""
    rng = np.random.default_rng(seed)
    counts = np.maximum(4, np.linspace(0.4, 1.6, n_layers) * n_channels / n_layers).astype(int)
    names = [f"features.denseblock{1 + n // 16}.denselayer{1 + n % 16}.conv{1 + n % 2}" for n in range(n_layers)]
    return network_ranking(
        [rng.beta(2 + 5 * place / n_layers, 8, count).tolist() for place, count in enumerate(counts)],
        names=names,
        association=np.linspace(-0.1, 0.95, n_layers).tolist(),
        reliability=np.linspace(-0.2, 0.97, n_layers).tolist(),
        model="densenet121",
        target="class tabby, tabby cat",
    )
