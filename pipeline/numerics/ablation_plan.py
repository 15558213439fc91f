"""How much of an ablation a number of operations allows: on how many images, and of how many channels.

The plan follows from counts alone, and never from a measured time, so that it is the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Int64Array, IntArray
from pipeline.numerics.faithfulness import N_STEPS, ablation_counts

MIN_IMAGES = 50  # images are left out down to this number; then channels are
MIN_CHANNELS = 10  # with fewer channels, no rank correlation is computed
FEW_DRAWS, FEW_STEPS = 5, 4  # random orders and steps of the curves where the budget is small


@dataclass(frozen=True)
class AblationWork:
    """What a complete ablation consists of.

    Attributes
    ----------
    before, behind : float
        Number of operations for each image, and for each image and set of ablated channels.
    n_images, n_channels, n_varying : int
        Number of images, of channels, and of those that are not dead.
    n_modes, n_draws : int
        Number of ways in which each channel is ablated, and of random orders.
    """

    before: float
    behind: float
    n_images: int
    n_channels: int
    n_varying: int
    n_modes: int
    n_draws: int

    @property
    def everything(self) -> AblationPlan:
        """The plan of a complete ablation."""
        return AblationPlan(self.n_images, self.n_modes, None, self.n_draws, N_STEPS)

    def operations(self, plan: AblationPlan) -> float:
        """Return the number of operations that a plan takes in the stages `ablate` and `evaluate`."""
        return plan.n_images * (2 * self.before + self.sets(plan) * self.behind)

    def sets(self, plan: AblationPlan) -> int:
        """Return the number of sets of channels that a plan ablates in each of its images: also that of no channel."""
        n_single = self.n_channels if plan.n_sampled is None else 2 * plan.n_sampled
        return 1 + plan.n_modes * n_single + self._curves(plan.n_draws, plan.n_steps)

    def ranked_sets(self, plan: AblationPlan) -> int:
        """Return the number of sets among them that depend on the ranking, which the stage `evaluate` ablates."""
        return plan.n_modes * (plan.n_sampled or 0) + self._curves(0, plan.n_steps)

    def _curves(self, n_draws: int, n_steps: int) -> int:
        return (2 + n_draws) * len(ablation_counts(self.n_varying, n_steps)) if n_steps else 0

    def within(self, budget: float) -> AblationPlan | None:
        """Return the plan of as much as a number of operations allows; None if it allows next to nothing.

        It is everything, if that is allowed; else everything on fewer images. If `MIN_IMAGES` are too many, the curves
        take at most half of the operations, with fewer random orders and steps, and each channel is ablated in the
        first way only. If that is too much as well, only a random sample of the channels and as many of the best
        channels are ablated.
        """
        everything = self.everything
        if self.operations(everything) <= budget:
            return everything
        per_image = self.operations(everything) / self.n_images
        n_images = min(self.n_images, max(MIN_IMAGES, int(budget / per_image)))
        if n_images * per_image <= budget:
            return AblationPlan(n_images, self.n_modes, None, self.n_draws, N_STEPS)
        n_sets = int((budget / n_images - 2 * self.before) / self.behind) - 1
        few = min(self.n_draws, FEW_DRAWS)
        for n_draws, n_steps in ((self.n_draws, N_STEPS), (few, N_STEPS), (few, FEW_STEPS), (0, 0)):
            n_single = n_sets - self._curves(n_draws, n_steps)
            if n_single >= n_sets / 2 or n_single >= self.n_modes * self.n_channels:
                break
        for n_modes in (self.n_modes, 1):
            if n_single >= n_modes * self.n_channels:
                return AblationPlan(n_images, n_modes, None, n_draws, n_steps)
        if n_single < MIN_CHANNELS:
            return None
        return AblationPlan(n_images, 1, n_single // 2, n_draws, n_steps)

    @property
    def least(self) -> float:
        """The smallest number of operations with which `within` returns a plan."""
        n_images = min(self.n_images, MIN_IMAGES)
        return n_images * (2 * self.before + (1 + min(MIN_CHANNELS, self.n_channels)) * self.behind)


@dataclass(frozen=True)
class AblationPlan:
    """Which ablations are made.

    Attributes
    ----------
    n_images : int
        Number of images, evenly spaced over the set.
    n_modes : int
        Number of ways in which each channel is ablated.
    n_sampled : int or None
        Number of varying channels that are drawn at random, and of the best channels, which are ablated as well; None
        for all channels.
    n_draws, n_steps : int
        Number of random orders, and of steps of the curves; 0 for no curves.
    """

    n_images: int
    n_modes: int
    n_sampled: int | None
    n_draws: int
    n_steps: int

    def images(self, n_all: int) -> Int64Array:
        """Return the indices of the images among `n_all`."""
        return evenly_spaced(n_all, self.n_images)

    def sample(self, varying: IntArray, seed: int) -> Int64Array | None:
        """Return the channels that are drawn at random, in ascending order; None for all channels."""
        if self.n_sampled is None:
            return None
        rng = np.random.default_rng([seed, 1])  # another stream than that of the random orders
        return np.sort(rng.permutation(varying)[: self.n_sampled]).astype(np.int64)


def evenly_spaced(n_all: int, n_chosen: int) -> Int64Array:
    """Return `n_chosen` indices among `n_all` in ascending order, evenly spaced from the first to the last."""
    return np.linspace(0, n_all - 1, n_chosen).round().astype(np.int64)
