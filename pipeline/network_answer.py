"""Which layers of a network matter: the answer in sentences."""

from __future__ import annotations

import pandas as pd

from pipeline.artifacts import Trust

N_NAMED = 3  # number of layers that a sentence names
# Names of the columns that the channels of a network can be ranked by.
LABELS = {
    "bias_corrected": "bias-corrected score",
    "cross_fitted": "cross-fitted score",
    "score": "score",
}


def sentences(
    channels: pd.DataFrame, layers: pd.DataFrame, not_ranked: pd.DataFrame, *, by: str, target: str, n_images: int
) -> list[str]:
    """Return the answer to "which layers matter?" in one sentence, followed by sentences that qualify it.

    The layers are ordered by their association as a whole with the class score, which is comparable between layers of
    any size and near 0 for layers that say nothing.

    Parameters
    ----------
    channels, layers, not_ranked : DataFrame
        Tables of a `pipeline.artifacts.NetworkRanking`.
    by : str
        Column that the channels are ranked by.
    target : str
        What they are ranked for, such as ``class cat``.
    n_images : int
        Number of images.
    """
    scored = f"the score of {target}" if target.startswith("class ") else target
    found = [_only(layers.iloc[0], scored) if len(layers) == 1 else _first(layers, by, scored, n_images)]
    if len(layers) > 1 and layers.n_significant.notna().any():
        found.append(_standing_out(layers))
    found += _reliability(layers)
    best = channels.iloc[0]
    if by in channels and len(channels) > 1 and not best.dead:
        found.append(f"The best channel is channel {best.channel} of {best.layer} ({LABELS[by]} {decimals(best[by])}).")
    if len(not_ranked):
        found.append(
            f"{_count(len(not_ranked), 'selected layer')} {'was' if len(not_ranked) == 1 else 'were'} not ranked."
        )
    return found


def _first(layers: pd.DataFrame, by: str, scored: str, n_images: int) -> str:
    """Return the sentence about the layers with the largest association."""
    n_layers = len(layers)
    is_tested = bool(layers.n_significant.notna().any())
    none_stands_out = is_tested and layers.n_significant.sum() == 0
    known = layers[layers.association.notna()].sort_values("association", ascending=False, kind="stable")
    if not len(known):
        if none_stands_out:
            return (
                f"No layer can be said to matter with these {n_images} images: no channel in any of the {n_layers} "
                f"layers stands out for {scored} (q < .05)."
            )
        ordered = layers.sort_values(["share_significant", "median"], ascending=False, kind="stable")
        best = ordered.iloc[0]
        if is_tested:
            return f"The layer with the largest share of channels that stand out for {scored} is {_counted(best)}."
        best = layers.sort_values("median", ascending=False, kind="stable").iloc[0]
        return (
            f"The layer with the largest median {LABELS[by]} of its channels for {scored} is {best.layer} "
            f"({decimals(best['median'])})."
        )
    above = known[known.association_low > 0]
    if not len(above):
        also = ", and no channel stands out (q < .05)" if none_stands_out else ""
        return (
            f"No layer can be said to matter with these {n_images} images: in none of the {n_layers} layers is the "
            f"association with {scored} above chance{also}."
        )
    sentence = f"The layer that is most closely associated with {scored} is {_described(above.iloc[0])}"
    others = [_described(row, is_short=True) for _, row in above.iloc[1:N_NAMED].iterrows()]
    if others:
        sentence += f", followed by {' and '.join(others)}"
    if none_stands_out:
        sentence += f"; no single channel stands out in any of the {n_layers} layers (q < .05)"
    return f"{sentence}."


def _only(layer: pd.Series, scored: str) -> str:
    """Return the sentence about a single layer."""
    start = f"{layer.layer}, the only layer that was ranked,"
    counted = "" if pd.isna(layer.n_significant) else f"{_channels(layer)} out (q < .05)"
    if pd.isna(layer.association):
        return f"{start} has {_count(int(layer.n_channels), 'channel')}{'; ' + counted if counted else ''}."
    value = f"cross-fitted correlation {decimals(layer.association)}"
    if layer.association_low > 0:
        found = f"{start} is associated with {scored} ({value})"
    else:
        found = f"{start} is not associated with {scored} above chance ({value})"
    return f"{found}{'; ' + counted if counted else ''}."


def _standing_out(layers: pd.DataFrame) -> str:
    """Return the sentence about the channels that stand out."""
    counted = layers[layers.n_significant.notna()]
    n_out, n_channels = int(counted.n_significant.sum()), int(counted.n_channels.sum())
    if n_out == 0:
        return f"None of the {n_channels:,} channels scores above the permutation null (q < .05)."
    n_with = int((counted.n_significant > 0).sum())
    best = counted.sort_values(["n_significant", "share_significant"], ascending=False, kind="stable").iloc[0]
    if n_out == n_channels:
        return f"All of the {n_channels:,} channels score above the permutation null (q < .05)."
    verb = "scores" if n_out == 1 else "score"
    where = f"in {n_with} of the {len(counted)} layers" if n_with > 1 else f"all in {best.layer}"
    if n_with > 1 and 2 * best.n_significant > n_out:
        where += f", most of them in {best.layer}"
    if n_out == 1:
        where = f"in {best.layer}"
    return f"{n_out:,} of the {n_channels:,} channels {verb} above the permutation null (q < .05), {where}."


def _reliability(layers: pd.DataFrame) -> list[str]:
    """Return the sentence about the reliability of the rankings within the layers, if it was computed."""
    known = layers[layers.reliability.notna()]
    if not len(known):
        return []
    n_reliable = int((known.reliability >= Trust.ENOUGH).sum())
    least = decimals(Trust.ENOUGH)
    if len(known) == 1:
        value = decimals(known.reliability.iloc[0])
        is_reliable = "reliable" if n_reliable else "not reliable"
        return [f"The order of its channels is {is_reliable}: its split-half reliability is {value}."]
    if n_reliable == 0:
        return [
            "The order of the channels is not reliable in any layer: the largest split-half reliability is "
            f"{decimals(known.reliability.max())}, and {least} would be needed. More images would raise it."
        ]
    if n_reliable == len(known):
        return [f"The order of the channels is reliable in every layer (split-half reliability of at least {least})."]
    return [
        f"The order of the channels is reliable in {n_reliable} of the {len(known)} layers (split-half reliability of "
        f"at least {least})."
    ]


def _described(layer: pd.Series, *, is_short: bool = False) -> str:
    found = decimals(layer.association)
    value = found if is_short else f"cross-fitted correlation {found}"
    counted = "" if is_short or pd.isna(layer.n_significant) or not layer.n_significant else f"; {_channels(layer)} out"
    return f"{layer.layer} ({value}{counted})"


def _counted(layer: pd.Series) -> str:
    return f"{layer.layer} ({int(layer.n_significant)} of {int(layer.n_channels)}, q < .05)"


def _channels(layer: pd.Series) -> str:
    n_out, n_channels = int(layer.n_significant), int(layer.n_channels)
    return f"{n_out} of its {_count(n_channels, 'channel')} {'stands' if n_out == 1 else 'stand'}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def decimals(value: float) -> str:
    """Return two decimals without the leading zero, with a minus sign before negative values."""
    return f"{value:.2f}".replace("0.", ".", 1).replace("-", "−")
