"""How much of an ablation a budget allows: within the budget, and first with fewer images, then with fewer channels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.numerics.ablation_plan import MIN_CHANNELS, MIN_IMAGES, AblationPlan, AblationWork, evenly_spaced

WORK = AblationWork(before=3.0, behind=1.0, n_images=300, n_channels=512, n_varying=500, n_modes=3, n_draws=20)


def test_the_complete_ablation_has_all_sets_of_both_stages() -> None:
    assert WORK.sets(WORK.everything) == 1 + 3 * 512 + (20 + 2) * 17
    assert WORK.operations(WORK.everything) == 300 * (2 * 3 + 1911)


def test_a_smaller_budget_takes_fewer_images_then_ways_and_orders_then_channels() -> None:
    everything = WORK.operations(WORK.everything)
    assert WORK.within(everything) == WORK.everything
    assert WORK.within(everything - 1) == replace(WORK.everything, n_images=299)
    assert WORK.within(everything / 6) == replace(WORK.everything, n_images=MIN_IMAGES)
    assert WORK.within(50 * (6 + 1 + 512 + 374)) == AblationPlan(50, 1, None, 20, 16)
    assert WORK.within(50 * (6 + 1 + 512 + 119)) == AblationPlan(50, 1, None, 5, 16)
    assert WORK.within(50 * (6 + 1 + 100 + 35)) == AblationPlan(50, 1, 50, 5, 4)
    assert WORK.within(50 * (6 + 1 + 30)) == AblationPlan(50, 1, 15, 0, 0)
    assert WORK.within(50 * (6 + 1 + 9)) is None


@given(
    st.floats(0, 1e9), st.floats(1, 1e9), st.integers(5, 1000), st.integers(1, 3000), st.integers(2, 50),
    st.floats(0, 1.2),
)  # fmt: skip
def test_a_plan_stays_within_the_budget(
    before: float, behind: float, n_images: int, n_channels: int, n_draws: int, share: float
) -> None:
    work = AblationWork(before, behind, n_images, n_channels, n_channels, 3, n_draws)
    budget = share * work.operations(work.everything)
    plan = work.within(budget)
    if plan is None:
        assert budget < 1.01 * work.least
        return
    assert work.operations(plan) <= budget * (1 + 1e-9)
    assert min(n_images, MIN_IMAGES) <= plan.n_images <= n_images
    assert plan.n_sampled is None or MIN_CHANNELS // 2 <= plan.n_sampled < n_channels
    assert (plan.n_draws == 0) == (plan.n_steps == 0)


def test_images_are_evenly_spaced_and_channels_are_drawn_from_the_varying_ones() -> None:
    assert evenly_spaced(300, 4).tolist() == [0, 100, 199, 299]
    assert WORK.everything.images(300).tolist() == list(range(300))
    plan, varying = AblationPlan(50, 1, 20, 0, 0), np.arange(0, 500, 5)
    drawn = plan.sample(varying, seed=0)
    assert drawn is not None
    assert len(set(drawn)) == 20
    assert set(drawn) <= set(varying)
    assert drawn.tolist() == sorted(drawn)
    assert plan.sample(varying, seed=1).tolist() != drawn.tolist()  # type: ignore[union-attr]
    assert WORK.everything.sample(varying, seed=0) is None
