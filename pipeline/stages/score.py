"""score: compute every channel's score by the ranker that `score` selects, and the evidence for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pipeline.artifacts import Activations, ChannelScores, ImageSet, Projections
from pipeline.errors import InputError
from pipeline.networks.examined import NetworkRequest
from pipeline.numerics.groups import Groups
from pipeline.progress import Progress
from pipeline.rankers import RANKERS, RankerInputs
from pipeline.settings import AceSettings, ScoreSettings, Settings
from pipeline.stages.stage import Stage


@dataclass(frozen=True)
class ScoreReads:
    """What the stage reads: the ranker and the network. ACE computes both statistics, so `statistic` is not read."""

    score: ScoreSettings
    network: NetworkRequest

    def identity(self) -> dict[str, Any]:
        """Return what decides the result, in plain JSON types.

        The keys of the artifacts upstream contain the network, the layer and the target; the number of threads does not
        change the result.
        """
        decisive = asdict(self.score)
        if isinstance(self.score, AceSettings):
            del decisive["n_jobs"], decisive["statistic"]
            decisive["spans"] = list(self.score.spans)
        return {**decisive, "seed": self.network.seed}


def select(settings: Settings) -> ScoreReads:
    """Return what this stage reads; the settings must be resolved."""
    return ScoreReads(settings.score, NetworkRequest.of(settings))


def run(
    reads: ScoreReads,
    *,
    images: ImageSet,
    activations: Activations,
    projections: Projections,
    progress: Progress,
) -> ChannelScores:
    """Return every channel's scores, transforms and evidence.

    Raises
    ------
    InputError
        If every channel is dead: there is nothing to rank.
    NetworkError
        If the ranker needs something that the network does not have, see `pipeline.rankers.table`.
    """
    if projections.dead.all():
        raise InputError(
            f"at least one channel must vary over the images; got {len(projections.dead)} dead ones. "
            "Choose another layer."
        )
    request = reads.network
    return RANKERS[reads.score.kind].score(
        RankerInputs(
            settings=reads.score,
            seed=request.seed,
            activations=activations,
            projections=projections,
            open_network=request.open,
            images=request.inputs(images),
            batch_size=request.model.batch_size,
            progress=progress,
            copies=Groups.by_label(images.first_copies) if images.n_copies else None,
        )
    )


STAGE = Stage("score", 4, "channels", ChannelScores, select, run)
