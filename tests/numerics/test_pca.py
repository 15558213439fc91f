from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from pipeline.errors import InputError
from pipeline.numerics.pca import reduce_channels

RNG = np.random.default_rng(0)


def silent(done: int, total: int) -> None:
    assert 0 < done <= total


@pytest.mark.parametrize(("n_images", "side"), [(40, 4), (12, 6)], ids=["tall", "wide"])
def test_projections_are_scikit_learns(n_images: int, side: int) -> None:
    maps = RNG.normal(size=(3, n_images, side, side)).astype(np.float32)
    projections, ratios, dead = reduce_channels(maps, 5, silent)
    for channel in range(3):
        pca = PCA(5, svd_solver="full")
        expected = pca.fit_transform(StandardScaler().fit_transform(maps[channel].reshape(n_images, -1).astype(float)))
        np.testing.assert_allclose(projections[channel], expected, atol=1e-6)
        np.testing.assert_allclose(ratios[channel], pca.explained_variance_ratio_, atol=1e-9)
    assert not dead.any()


def test_a_channel_alone_is_the_channel_among_others() -> None:
    maps = RNG.normal(size=(4, 20, 3, 3)).astype(np.float32)
    together, *_ = reduce_channels(maps, 2, silent)
    alone, *_ = reduce_channels(maps[2:3], 2, silent)
    np.testing.assert_array_equal(together[2], alone[0])


def test_dead_pixels_and_dead_channels_are_zero() -> None:
    maps = RNG.normal(size=(2, 20, 3, 3)).astype(np.float32)
    maps[0, :, 1, 1] = 0.1
    maps[1] = 0.3
    projections, ratios, dead = reduce_channels(maps, 3, silent)
    assert dead.tolist() == [False, True]
    assert (projections[1] == 0).all()
    assert (ratios[1] == 0).all()
    assert np.isfinite(projections).all()
    assert 0 < ratios[0].sum() < 1


def test_components_past_the_rank_are_zero_not_rounding_noise() -> None:
    maps = np.zeros((1, 20, 3, 3), dtype=np.float32)
    maps[0, :, 0, 0] = RNG.normal(size=20)
    projections, ratios, _ = reduce_channels(maps, 3, silent)
    assert np.abs(projections[0, :, 0]).max() > 0.5
    assert (projections[0, :, 1:] == 0).all()
    np.testing.assert_allclose(ratios[0], [1, 0, 0])


def test_too_many_components_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        reduce_channels(np.zeros((1, 20, 3, 3)), 10, silent)
    assert str(caught.value) == (
        "n_components must be in [1, 9]; got 10 (20 images, maps of 3 x 3 pixels). "
        "Lower it, or choose a layer with larger maps."
    )


def test_activations_that_are_not_finite_are_refused() -> None:
    maps = RNG.normal(size=(2, 20, 3, 3))
    maps[1, 4, 0, 0] = np.nan
    with pytest.raises(InputError, match=r"^activations must be finite; got NaN or infinity \(channel 1\)"):
        reduce_channels(maps, 2, silent)


def by_scikit_learn(channel: np.ndarray, n_components: int | float) -> np.ndarray:
    pixels = channel.reshape(len(channel), -1).astype(np.float64)
    return PCA(n_components, svd_solver="full").fit_transform(StandardScaler().fit_transform(pixels))


@pytest.mark.parametrize(
    ("n_images", "side", "n_components"),
    [(60, 3, 9), (60, 14, 10), (150, 11, 20), (150, 13, 1), (300, 24, 5), (30, 30, 30)],
    ids=["all of tall", "wide", "tall, large", "wide, large", "wide, blocks", "all of wide"],
)
def test_every_way_through_gives_scikit_learns_projections(n_images: int, side: int, n_components: int) -> None:
    common = RNG.normal(size=(2, n_images, 4)) @ RNG.normal(size=(2, 4, side * side))
    maps = np.maximum(common + RNG.normal(size=common.shape), 0).astype(np.float32).reshape(2, n_images, side, side)
    maps[:, :, 0, 0] = 0
    projections, _, _ = reduce_channels(maps, n_components)
    # With as many components as images the last is rounding noise in scikit-learn; here it is 0.
    for found, channel in zip(projections, maps, strict=True):
        np.testing.assert_allclose(found, by_scikit_learn(channel, n_components), atol=1e-6)


def test_nearly_lower_rank_comes_from_the_maps_themselves() -> None:
    strong, weak = RNG.normal(size=(40, 1)), RNG.normal(size=(40, 1))
    maps = (strong * np.ones(36) + 1e-6 * weak * RNG.normal(size=36)).reshape(1, 40, 6, 6)
    projections, _, _ = reduce_channels(maps, 2)
    expected = by_scikit_learn(maps[0], 2)
    np.testing.assert_allclose(projections[0], expected, atol=1e-6)
    assert np.corrcoef(projections[0, :, 1], expected[:, 1])[0, 1] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("n_images", "side"), [(50, 4), (50, 12)], ids=["tall", "wide"])
def test_a_share_of_the_variance_is_kept_channel_by_channel(n_images: int, side: int) -> None:
    scales = np.array([1.0, 3.0, 0.1])[:, None, None]  # of what the pixels have in common
    common = RNG.normal(size=(3, n_images, 2)) @ RNG.normal(size=(3, 2, side * side))
    maps = (scales * common + RNG.normal(size=common.shape)).astype(np.float32).reshape(3, n_images, side, side)
    projections, ratios, _ = reduce_channels(maps, 0.8)
    n_kept = (ratios > 0).sum(axis=1)
    assert len(set(n_kept)) > 1
    assert projections.shape[2] == n_kept.max()
    for channel, count in enumerate(n_kept):
        expected = by_scikit_learn(maps[channel], 0.8)
        assert expected.shape[1] == count
        np.testing.assert_allclose(projections[channel, :, :count], expected, atol=1e-6)
        assert (projections[channel, :, count:] == 0).all()


def test_memory_and_threads_change_no_bit() -> None:
    maps = RNG.normal(size=(12, 60, 30, 30)).astype(np.float32)
    expected, *_ = reduce_channels(maps, 4, n_threads=1)
    for memory_mib, n_threads in ((1, 1), (1, 2), (2, 2), (1024, 2)):
        found, *_ = reduce_channels(maps, 4, memory_mib=memory_mib, n_threads=n_threads)
        np.testing.assert_array_equal(found, expected)
    alone, *_ = reduce_channels(maps[7:8], 4)
    np.testing.assert_array_equal(alone[0], expected[7])


def test_memory_stays_within_the_budget() -> None:
    maps = RNG.normal(size=(8, 100, 80, 80)).astype(np.float32)
    reduce_channels(maps[:1], 3)  # whatever is imported or compiled on the way
    peaks = {}
    for memory_mib in (8, 16, 64):
        tracemalloc.start()
        reduce_channels(maps, 3, memory_mib=memory_mib, n_threads=2)
        peaks[memory_mib] = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
    assert all(peak < memory_mib for memory_mib, peak in peaks.items()), peaks
    with pytest.raises(InputError) as caught:
        reduce_channels(maps, 3, memory_mib=2)
    assert str(caught.value) == (
        "reduce.memory_mib must be at least 7; got 2 (100 images, maps of 6400 pixels). "
        "Raise it, take fewer images, or choose a layer with smaller maps."
    )
