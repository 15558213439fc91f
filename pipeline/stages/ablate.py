"""ablate: measure the effect of ablating each channel, and of ablating more and more channels in random orders.

The effects do not depend on a ranking: all rankings of a layer (with other components, statistics or rankers) are
compared with the same measurement. If the budget does not allow all channels, those that are ablated here are a random
sample, and the stage `evaluate` adds the best ones of a ranking.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pipeline.arrays import FloatArray, Int64Array
from pipeline.artifacts import Ablations, Activations, ImageSet
from pipeline.networks.backends import fixed_backends
from pipeline.networks.examined import NetworkRequest
from pipeline.networks.memory import reported_memory
from pipeline.progress import Progress, about, tell
from pipeline.settings import AblateSettings, Settings
from pipeline.stages.stage import Stage

if TYPE_CHECKING:
    from pipeline.networks.ablation import Ablation
    from pipeline.networks.channel_ablation import AblationTask
    from pipeline.numerics.ablation_plan import AblationPlan, AblationWork

TERA = 1e12
N_SAMPLE = 3  # images with which the network is examined
WORTH_TELLING = 10  # seconds


@dataclass(frozen=True)
class AblateReads:
    """Settings of the stages `ablate` and `evaluate`: how channels are ablated, and the network."""

    ablate: AblateSettings
    network: NetworkRequest

    def identity(self) -> dict[str, Any]:
        """Return what determines the result, in plain JSON types; the upstream keys contain the network."""
        ablate = asdict(self.ablate)
        if self.ablate.when != "auto":
            del ablate["budget_tflop"]
        return {"ablate": ablate, "seed": self.network.seed}


def select(settings: Settings) -> AblateReads:
    """Return the settings of this stage; `settings` must be resolved."""
    return AblateReads(settings.ablate, NetworkRequest.of(settings))


@fixed_backends()
@reported_memory()
def run(reads: AblateReads, *, images: ImageSet, activations: Activations, progress: Progress) -> Ablations:
    """Return the effects of ablation.

    They are empty if every channel is dead, with ``ablate.when=never``, and with ``ablate.when=auto`` if the budget
    does not allow ten channels.
    """

    def scores_of(
        tasks: Mapping[str, AblationTask], chosen: Int64Array | None, ablation: Ablation | None
    ) -> Mapping[str, FloatArray]:
        return ablation_scores(reads, images, activations, tasks, chosen, ablation, progress)

    return effects(reads, images, activations, scores_of)


# From sets of channels, the images that are used (None: all), and the network (None: not prepared yet) to the class
# scores of these images; both by the name of the task.
ScoresOf: TypeAlias = (
    "Callable[[Mapping[str, AblationTask], Int64Array | None, Ablation | None], Mapping[str, FloatArray]]"
)


def ablation_scores(
    reads: AblateReads,
    images: ImageSet,
    activations: Activations,
    tasks: Mapping[str, AblationTask],
    chosen: Int64Array | None,
    ablation: Ablation | None,
    progress: Progress,
) -> Mapping[str, FloatArray]:
    """Return the class scores of images when sets of channels are ablated, computed by this process."""
    from pipeline.networks.channel_ablation import ablated_scores

    request = reads.network
    return ablated_scores(
        request.open() if ablation is None else ablation.examined, request.inputs(images), activations, tasks,
        batch_size=request.model.batch_size, seed=request.seed, progress=progress, chosen=chosen, ablation=ablation,
    )  # fmt: skip


def effects(reads: AblateReads, images: ImageSet, activations: Activations, scores_of: ScoresOf) -> Ablations:
    """Return the effects of ablation; `scores_of` computes the class scores if channels are ablated."""
    from pipeline.networks.ablation import Ablation
    from pipeline.networks.channel_ablation import AblationTask
    from pipeline.networks.timing import seconds_per_set
    from pipeline.numerics.ablation_plan import AblationWork
    from pipeline.numerics.faithfulness import ablation_sets, random_orders

    request, settings = reads.network, reads.ablate
    varying = np.flatnonzero(activations.varying())
    if settings.when == "never" or not len(varying):
        return Ablations()
    n_channels, n_images = activations.maps.shape[:2]
    inputs, examined = request.inputs(images), request.open()
    sample = inputs.read(slice(N_SAMPLE))
    ablation = Ablation(examined, sample)
    work = AblationWork(
        *ablation.operations(sample), n_images, n_channels, len(varying), len(AblateSettings.MODES), settings.n_draws
    )
    plan = work.within(settings.budget_tflop * TERA) if settings.when == "auto" else work.everything
    if plan is None:
        return Ablations(note=_nothing(work, settings.budget_tflop))
    seconds = plan.n_images * work.sets(plan) * seconds_per_set(ablation, sample, n_channels)
    if seconds > WORTH_TELLING or plan != work.everything:
        tell(f"ablation: {_extent(work, plan)}, {about(seconds)}")
    sampled = plan.sample(varying, request.seed)
    modes = AblateSettings.MODES[: plan.n_modes]
    tasks = {mode: AblationTask(None, mode, sampled) for mode in modes}
    tasks["untouched"] = AblationTask(np.zeros((1, n_channels), dtype=bool), "zero")
    if plan.n_draws:
        sets = ablation_sets(random_orders(varying, plan.n_draws, request.seed), n_channels, plan.n_steps)
        tasks["sets"] = AblationTask(sets.reshape(-1, n_channels), settings.mode)
    found = scores_of(tasks, plan.images(n_images) if plan.n_images < n_images else None, ablation)
    changes = np.full((len(AblateSettings.MODES), n_channels, plan.n_images), np.nan)
    for place, mode in enumerate(modes):
        changes[place, slice(None) if sampled is None else sampled] = found[mode] - found["untouched"]
    return Ablations(
        changes=changes,
        random=found["sets"].mean(axis=1).reshape(sets.shape[:2]) if plan.n_draws else np.empty((0, 0)),
        note=_limited(work, plan, settings.budget_tflop),
    )


def _extent(work: AblationWork, plan: AblationPlan) -> str:
    """Return how much is measured, in words."""
    channels = f"all {work.n_channels} channels"
    if plan.n_sampled is not None:
        channels = f"the best {plan.n_sampled} and a random sample of {plan.n_sampled} of {work.n_channels} channels"
    return f"{channels} on {'all ' if plan.n_images == work.n_images else f'{plan.n_images} of '}{work.n_images} images"


def _limited(work: AblationWork, plan: AblationPlan, budget: float) -> str:
    """Return the note on what the budget has left out; empty if it is nothing."""
    if plan == work.everything:
        return ""
    how = ", set to zero only" if plan.n_modes == 1 else ""
    how += (
        ", without curves"
        if not plan.n_draws
        else f", with {plan.n_draws} random orders" * (plan.n_draws < work.n_draws)
    )
    more = work.operations(work.everything) / work.operations(plan)
    return (
        f"ablation is limited to {_extent(work, plan)}{how} (ablate.budget_tflop={budget:g}); ablate.when=always "
        f"ablates all channels on all images, which takes {more:.2g} times as long"
    )


def _nothing(work: AblationWork, budget: float) -> str:
    """Return the note that the budget does not allow any ablation."""
    from pipeline.numerics.ablation_plan import MIN_CHANNELS, MIN_IMAGES

    least, most = (
        f"{float(f'{number / TERA:.2g}'):g}" for number in (1.05 * work.least, work.operations(work.everything))
    )
    return (
        f"no channel ablated: ablate.budget_tflop={budget:g} does not allow "
        f"{min(MIN_CHANNELS, work.n_channels)} channels on {min(MIN_IMAGES, work.n_images)} images; "
        f"ablate.budget_tflop={least} does, and ablate.when=always takes about {most} x 10^12 operations"
    )


STAGE = Stage("ablate", 2, "passes", Ablations, select, run)
