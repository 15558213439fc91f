"""Layer conductance: the gradient at a layer, integrated along the change of its activations on a straight path.

The points of the path are inputs of the network. Therefore, one forward and one backward pass for each of them serves
all layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from pipeline.errors import NetworkError, is_out_of_memory
from pipeline.networks.contributed import (
    Contributed,
    ContributionsOfLayers,
    Sums,
    by_channel,
    scores_of_both,
    sum_of_all,
    sums_of,
)
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.forward import forward, network_input, network_scores
from pipeline.networks.places import Place, SamplesAt, samples_in_graph, samples_of_layers
from pipeline.networks.tracing import Edge, Traced, traced

# From a place, and the products of gradients and changes there, to what is added up along the path.
Reduce = Callable[[Place, torch.Tensor], torch.Tensor]


def conductance(layers: Sequence[ExaminedNetwork], n_steps: int) -> ContributionsOfLayers:
    """Return layer conductance (Dhamdhere et al., 2018, arXiv 1805.12233), with `n_steps` steps on the path.

    It is integrated by the trapezoidal rule; Captum's sum has two to three times its error (docs/decisions/0083). The
    contributions of the channels and of all values that bypass the layer sum to the change of the score. If torch.fx
    cannot trace the network, these values are not known. Two images of each batch are then compared with the
    contributions of the channels with twice as many steps.

    The contributions of a layer are the same, to the byte, as if it were the only one.

    Parameters
    ----------
    layers : sequence of ExaminedNetwork
        The network and the score, with each of the layers.
    n_steps : int
        Number of steps on the straight path from the baseline to the input, at least 2.
    """
    graphs = _graphs(layers)

    def contributed(inputs: torch.Tensor) -> list[Contributed]:
        scores = scores_of_both(layers[0], inputs)
        found: dict[str, Contributed] = {}
        for graph in graphs:
            if graph.is_same(inputs):
                found |= graph.contributed(inputs, n_steps, scores)
        rest = [each for each in layers if each.layer.name not in found]
        if rest:
            found |= _of_untraced(rest, inputs, n_steps, scores)
        return [found[each.layer.name] for each in layers]

    return contributed


Scores = tuple[torch.Tensor, torch.Tensor]  # of the images and of the baselines


@dataclass(frozen=True)
class _Graph:
    """The graph of a network, and those of its layers for which it is used.

    Attributes
    ----------
    layers : mapping of str to ExaminedNetwork
        The layers.
    traced : Traced
        The graph.
    bypassing : mapping of str to sequence of tuple of Node
        By the name of the layer the edges that bypass it.
    """

    layers: Mapping[str, ExaminedNetwork]
    traced: Traced
    bypassing: Mapping[str, Sequence[Edge]]

    @property
    def examined(self) -> ExaminedNetwork:
        """The network and the score, with one of the layers."""
        return next(iter(self.layers.values()))

    @torch.no_grad()
    def is_same(self, inputs: torch.Tensor) -> bool:
        """Return whether the graph gives the scores of the network, also for a batch of another size."""
        examined, doubled = self.examined, inputs.repeat(2, *[1] * (inputs.ndim - 1))
        try:
            outputs = self.traced.graph.forward(network_input(examined.network, doubled))
            found = examined.score(network_scores(outputs, len(doubled)))[: len(inputs)]
        except (NetworkError, RuntimeError, TypeError, ValueError) as error:
            if is_out_of_memory(error):
                raise
            return False
        return torch.allclose(found, examined.score(forward(examined.network, inputs)), rtol=1e-4, atol=1e-4)

    def contributed(self, inputs: torch.Tensor, n_steps: int, scores: Scores) -> dict[str, Contributed]:
        """Return the contributions, with the sums that include the values that bypass each layer."""
        edges = {edge for each in self.bypassing.values() for edge in each}

        def reduce(place: Place, products: torch.Tensor) -> torch.Tensor:
            return by_channel(products, self.layers[place]) if isinstance(place, str) else sum_of_all([products])

        totals = _along_path(partial(samples_in_graph, self.examined, self.traced, edges), inputs, n_steps, reduce)
        found = {}
        for name in self.layers:
            around = set(self.bypassing[name])
            total = totals[name].sum(dim=1)
            for place, bypassing in totals.items():  # in the order of the graph
                if not isinstance(place, str) and place[:2] in around:
                    total = total + bypassing
            found[name] = Contributed(totals[name], sums_of(total, *scores))
        return found


def _graphs(layers: Sequence[ExaminedNetwork]) -> list[_Graph]:
    """Return the graphs of the network in which layers are found."""
    by_name = {each.layer.name: each for each in layers}
    found = []
    for graph in traced(layers[0].network, list(by_name)):
        bypassing = {name: edges for name in graph.layers if (edges := graph.bypassing(name)) is not None}
        kept = Traced(graph.graph, {name: graph.layers[name] for name in bypassing})
        if bypassing:
            found.append(_Graph({name: by_name[name] for name in bypassing}, kept, bypassing))
    return found


def _of_untraced(
    layers: Sequence[ExaminedNetwork], inputs: torch.Tensor, n_steps: int, scores: Scores
) -> dict[str, Contributed]:
    """Return the contributions of layers whose network cannot be traced, compared with twice as many steps."""
    by_name = {each.layer.name: each for each in layers}

    def reduce(place: Place, products: torch.Tensor) -> torch.Tensor:
        assert isinstance(place, str)  # there are no edges
        return by_channel(products, by_name[place])

    at = partial(samples_of_layers, layers)
    found = _along_path(at, inputs, n_steps, reduce)
    finer = _along_path(at, inputs[:2], 2 * n_steps, reduce)
    rounding = sums_of(scores[0][:2], *(each[:2] for each in scores)).rounding
    return {
        name: Contributed(found[name], Sums(found[name][:2].sum(dim=1), finer[name].sum(dim=1), rounding))
        for name in by_name
    }


def _along_path(at: SamplesAt, inputs: torch.Tensor, n_steps: int, reduce: Reduce) -> dict[Place, torch.Tensor]:
    """Return the integral of gradient times change at each place, on the path from the zero input to the inputs.

    The products of each step are reduced at once, so that only the values and the gradients of two points are kept.
    """
    before = at(torch.zeros_like(inputs))
    totals: dict[Place, torch.Tensor] = {}
    for step in range(1, n_steps + 1):
        after = at(inputs * (step / n_steps))
        for place, one in before.items():
            other = after[place]
            products = (one.gradient + other.gradient) / 2 * (other.value - one.value)
            reduced = reduce(place, products)
            totals[place] = totals[place] + reduced if place in totals else reduced
        before = after
    return totals
