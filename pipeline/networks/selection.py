"""Which layers of a network the setting `layer` selects: all, by patterns, or by their names."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from pipeline.errors import NetworkError, listed
from pipeline.networks.layout import LayerInfo, NetworkLayout
from pipeline.settings import ALL_LAYERS

SCORES = "its outputs are the network's scores"


@dataclass(frozen=True)
class Selection:
    """The selected layers.

    Attributes
    ----------
    layers : tuple of LayerInfo
        Those that can be ranked, in the order of execution.
    not_ranked : dict of str to str
        Why the others cannot be ranked, by their names.
    """

    layers: tuple[LayerInfo, ...]
    not_ranked: dict[str, str]


def select_layers(found: NetworkLayout, text: str, *, without_scaled: bool) -> Selection:
    """Return the layers that the setting `layer` selects.

    A layer that a pattern selects is left out where ranking it would count channels twice or says nothing: if it
    returns the tensor of an earlier selected layer (a block that returns the output of its last module), if its outputs
    are the network's scores, and with `without_scaled` if it is the batch normalisation of a selected layer. A layer
    that is selected by its name is never left out for these reasons.

    Parameters
    ----------
    found : NetworkLayout
        The layers of the network.
    text : str
        Names and patterns, separated by commas. ``*`` stands for any characters, ``?`` for one character, and ``all``
        for every layer.
    without_scaled : bool
        Whether the ranker gives channels the same scores before and after they are multiplied by a number.

    Raises
    ------
    NetworkError
        If there is no layer of a given name, if a pattern matches no layer, or if no selected layer can be ranked.
    """
    parts = text.split(",")
    named = {part for part in parts if not _is_pattern(part)}
    infos = {info.name: info for info in found.layers}
    for part in parts:
        if part not in named and not any(_matches(part, name) for name in infos):
            names = [info.name for info in found.rankable()]
            near = difflib.get_close_matches(part, names, n=3, cutoff=0.4) or names[-3:]
            raise NetworkError(
                f"layer must match layers of the network; got the pattern '{part}', which matches none. "
                f"Nearest: {listed(near) or 'none'}. `pcace layers` lists all."
            )
    for name in named - infos.keys():
        found.find(name)  # raises the error that lists the nearest names
    selected = [info for info in found.layers if any(info.name == part or _matches(part, info.name) for part in parts)]
    not_ranked: dict[str, str] = {}
    layers: list[LayerInfo] = []
    known = _Known(without_scaled=without_scaled)
    for info in selected:
        reason = info.rejection or ("" if info.name in named else known.repeated(info))
        if reason:
            not_ranked[info.name] = reason
        else:
            layers.append(info)
            known.outputs.setdefault(info.output, info.name)
    if not layers:
        name, reason = next(iter(not_ranked.items()))
        others = f", and {len(not_ranked) - 1} more" if len(not_ranked) > 1 else ""
        raise NetworkError(
            f"layer must select a layer that can be ranked; got {name} ({reason}){others}. "
            "`pcace layers` lists the layers that can be ranked."
        )
    return Selection(tuple(layers), not_ranked)


def _is_pattern(part: str) -> bool:
    return part == ALL_LAYERS or not {"*", "?"}.isdisjoint(part)


def _matches(part: str, name: str) -> bool:
    if not _is_pattern(part):
        return False
    pattern = "*" if part == ALL_LAYERS else part
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), name) is not None


class _Known:
    """The outputs of the layers that have been selected so far.

    Attributes
    ----------
    outputs : dict of int to str
        The layers by the numbers of their outputs.
    scaled : dict of int to str
        The layers by the numbers of the outputs of their batch normalisations.
    """

    def __init__(self, *, without_scaled: bool) -> None:
        self.outputs: dict[int, str] = {}
        self.scaled: dict[int, str] = {}
        self._without_scaled = without_scaled

    def repeated(self, info: LayerInfo) -> str:
        """Return why a layer that a pattern selects is left out; empty if it is not."""
        if info.is_scores:
            return SCORES
        if info.output in self.outputs:
            return f"it returns the output of {self.outputs[info.output]}"
        if self._without_scaled and info.scaled in self.outputs:
            self.scaled[info.output] = self.outputs[info.scaled]
        if info.output in self.scaled:
            return f"it is the batch normalisation of {self.scaled[info.output]}, whose channels have the same scores"
        return ""
