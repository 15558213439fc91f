"""score: compute each channel's score with the ranker that `score` selects, and the evidence for the scores."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pipeline.artifacts import Activations, ChannelScores, ImageSet, Projections, Workspace
from pipeline.errors import InputError
from pipeline.networks.backends import fixed_backends
from pipeline.networks.examined import NetworkRequest
from pipeline.networks.memory import reported_memory
from pipeline.progress import Progress
from pipeline.rankers import RANKERS, RankerInputs
from pipeline.settings import AceSettings, ScoreSettings, Settings
from pipeline.stages.stage import Stage


@dataclass(frozen=True)
class ScoreReads:
    """Settings of the stage: the ranker and the network. ACE computes all statistics, so `statistic` is not read."""

    score: ScoreSettings
    network: NetworkRequest
    choose_components: bool

    def identity(self) -> dict[str, Any]:
        """Return what determines the result, in plain JSON types.

        The upstream keys contain the network, the layer, the target and the number of components. The number of threads
        does not change the result.
        """
        determining = asdict(self.score)
        if isinstance(self.score, AceSettings):
            unused = AceSettings.SUPERSMOOTHER_ONLY if self.score.smoother == "spline" else ("smoothness",)
            for name in ("n_jobs", "statistic", *unused):
                del determining[name]
            determining = {
                name: list(value) if isinstance(value, tuple) else value for name, value in determining.items()
            }
        return {**determining, "seed": self.network.seed}


def select(settings: Settings) -> ScoreReads:
    """Return the settings of this stage; `settings` must be resolved."""
    return ScoreReads(settings.score, NetworkRequest.of(settings), settings.n_components == "auto")


@fixed_backends()
@reported_memory()
def run(
    reads: ScoreReads,
    *,
    images: ImageSet,
    activations: Activations,
    projections: Projections,
    workspace: Workspace,
    progress: Progress,
) -> ChannelScores:
    """Return each channel's scores, and the evidence for them.

    Raises
    ------
    InputError
        If every channel is dead.
    NetworkError
        If the ranker cannot be applied to the network or the layer; see `pipeline.rankers.table`.
    """
    check_varying(reads, projections)
    return RANKERS[reads.score.kind].score(inputs_of(reads, images, activations, projections, workspace, progress))


def check_varying(reads: ScoreReads, projections: Projections) -> None:
    """Raise `InputError` if every channel is dead."""
    if projections.dead.all():
        raise InputError(
            f"layer must have a channel that varies over the images; got {len(projections.dead)} dead channels "
            f"(layer '{reads.network.layer}'). Choose another layer."
        )


def inputs_of(
    reads: ScoreReads,
    images: ImageSet,
    activations: Activations,
    projections: Projections,
    workspace: Workspace,
    progress: Progress,
) -> RankerInputs[Any]:
    """Return the data that the ranker can use."""
    from pipeline.numerics.groups import Groups

    request = reads.network
    return RankerInputs(
        settings=reads.score,
        seed=request.seed,
        activations=activations,
        projections=projections,
        open_network=request.open,
        images=request.inputs(images),
        batch_size=request.model.batch_size,
        progress=progress,
        choose_components=reads.choose_components,
        copies=Groups.by_label(images.first_copies) if images.n_copies else None,
        workspace=workspace,
    )


STAGE = Stage("score", 11, "channels", ChannelScores, select, run)
