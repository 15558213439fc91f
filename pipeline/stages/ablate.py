"""ablate: measure the effect of ablating each channel, and of ablating more and more channels in random orders.

The effects do not depend on a ranking: all rankings of a layer (with other components, statistics or rankers) are
compared with the same measurement.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.artifacts import Ablations, Activations, ImageSet
from pipeline.networks.examined import NetworkRequest
from pipeline.progress import Progress
from pipeline.settings import AblateSettings, Settings
from pipeline.stages.stage import Stage

# Number of values of the layer in all passes, up to which channels are ablated with ablate.when=auto: about a minute on
# one core. It grows with the square of the number of channels.
MOST_VALUES = 2**36


@dataclass(frozen=True)
class AblateReads:
    """Settings of the stages `ablate` and `evaluate`: how channels are ablated, and the network."""

    ablate: AblateSettings
    network: NetworkRequest

    def identity(self) -> dict[str, Any]:
        """Return what determines the result, in plain JSON types; the upstream keys contain the network."""
        return {"ablate": asdict(self.ablate), "seed": self.network.seed}


def select(settings: Settings) -> AblateReads:
    """Return the settings of this stage; `settings` must be resolved."""
    return AblateReads(settings.ablate, NetworkRequest.of(settings))


def run(reads: AblateReads, *, images: ImageSet, activations: Activations, progress: Progress) -> Ablations:
    """Return the effects of ablation.

    They are empty if every channel is dead, with ``ablate.when=never``, and with ``ablate.when=auto`` for large inputs
    and for layers with thousands of channels.
    """
    from pipeline.networks.channel_ablation import AblationTask, ablated_scores
    from pipeline.networks.inputs import SMALL_INPUT
    from pipeline.numerics.faithfulness import ablation_counts, ablation_sets, random_orders

    request, when = reads.network, reads.ablate.when
    varying = np.flatnonzero(activations.varying())
    inputs = request.inputs(images)
    if when == "never" or not len(varying):
        return Ablations()
    if when == "auto" and max(inputs.read(slice(1)).shape[-2:]) > SMALL_INPUT:
        note = f"inputs are larger than {SMALL_INPUT} x {SMALL_INPUT} pixels; ablate.when=always does it, in minutes"
        return Ablations(note=f"no channel ablated: {note}")
    n_channels = len(activations.maps)
    n_sets = len(AblateSettings.MODES) * n_channels + reads.ablate.n_draws * len(ablation_counts(len(varying)))
    if when == "auto" and n_sets * activations.maps.size > MOST_VALUES:
        work = f"{n_channels:,} channels take {n_sets:,} passes of each image through the layers behind them"
        return Ablations(note=f"no channel ablated: {work}; ablate.when=always does it, in minutes to hours")
    sets = ablation_sets(random_orders(varying, reads.ablate.n_draws, request.seed), n_channels)
    tasks = {mode: AblationTask(None, mode) for mode in AblateSettings.MODES}
    tasks["untouched"] = AblationTask(np.zeros((1, n_channels), dtype=bool), "zero")
    tasks["sets"] = AblationTask(sets.reshape(-1, n_channels), reads.ablate.mode)
    found = ablated_scores(
        request.open(), inputs, activations, tasks,
        batch_size=request.model.batch_size, seed=request.seed, progress=progress,
    )  # fmt: skip
    return Ablations(
        changes=np.stack([found[mode] - found["untouched"] for mode in AblateSettings.MODES]),
        random=found["sets"].mean(axis=1).reshape(sets.shape[:2]),
    )


STAGE = Stage("ablate", 1, "passes", Ablations, select, run)
