from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.preprocessing import StandardScaler

from pipeline.errors import InputError
from pipeline.numerics import pca, standardised
from pipeline.numerics.pca import reduce_channels

RNG = np.random.default_rng(0)


def silent(done: int, total: int) -> None:
    assert 0 < done <= total


@pytest.mark.parametrize(("n_images", "side"), [(40, 4), (12, 6)], ids=["tall", "wide"])
def test_projections_are_scikit_learns(n_images: int, side: int) -> None:
    maps = RNG.normal(size=(3, n_images, side, side)).astype(np.float32)
    projections, ratios, dead, _ = reduce_channels(maps, 5, silent)
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
    projections, ratios, dead, _ = reduce_channels(maps, 3, silent)
    assert dead.tolist() == [False, True]
    assert (projections[1] == 0).all()
    assert (ratios[1] == 0).all()
    assert np.isfinite(projections).all()
    assert 0 < ratios[0].sum() < 1


def test_components_past_the_rank_are_zero_not_rounding_noise() -> None:
    maps = np.zeros((1, 20, 3, 3), dtype=np.float32)
    maps[0, :, 0, 0] = RNG.normal(size=20)
    projections, ratios, *_ = reduce_channels(maps, 3, silent)
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
    projections, *_ = reduce_channels(maps, n_components)
    # With as many components as images the last is rounding noise in scikit-learn; here it is 0.
    for found, channel in zip(projections, maps, strict=True):
        np.testing.assert_allclose(found, by_scikit_learn(channel, n_components), atol=1e-6)


def test_nearly_lower_rank_comes_from_the_maps_themselves() -> None:
    strong, weak = RNG.normal(size=(40, 1)), RNG.normal(size=(40, 1))
    maps = (strong * np.ones(36) + 1e-6 * weak * RNG.normal(size=36)).reshape(1, 40, 6, 6)
    projections, *_ = reduce_channels(maps, 2)
    expected = by_scikit_learn(maps[0], 2)
    np.testing.assert_allclose(projections[0], expected, atol=1e-6)
    assert np.corrcoef(projections[0, :, 1], expected[:, 1])[0, 1] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("n_images", "side"), [(50, 4), (50, 12)], ids=["tall", "wide"])
def test_a_share_of_the_variance_is_kept_channel_by_channel(n_images: int, side: int) -> None:
    scales = np.array([1.0, 3.0, 0.1])[:, None, None]  # of what the pixels have in common
    common = RNG.normal(size=(3, n_images, 2)) @ RNG.normal(size=(3, 2, side * side))
    maps = (scales * common + RNG.normal(size=common.shape)).astype(np.float32).reshape(3, n_images, side, side)
    projections, ratios, *_ = reduce_channels(maps, 0.8)
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


def structured(n_channels: int, n_images: int, side: int) -> np.ndarray:
    common = RNG.normal(size=(n_channels, n_images, 6)) @ RNG.normal(size=(n_channels, 6, side * side))
    maps = np.maximum(common + RNG.normal(size=common.shape), 0).astype(np.float32)
    return maps.reshape(n_channels, n_images, side, side)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide the images into blocks as if there were many of them."""
    monkeypatch.setattr(standardised, "MOST_IN_ONE_BLOCK", 100)
    monkeypatch.setattr(standardised, "VALUES", 64 * 100)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("n_components", [4, 0.7])
def test_components_accumulated_over_blocks_of_images_are_exact(n_components: int | float) -> None:
    maps = structured(3, 1030, 8)
    maps[:, :, 0, 0] = 0.3
    projections, ratios, dead, residual = reduce_channels(maps, n_components)
    assert residual is None
    assert not dead.any()
    for found, shares, channel in zip(projections, ratios, maps, strict=True):
        n_kept = int((shares > 0).sum())
        assert (found[:, n_kept:] == 0).all()
        np.testing.assert_allclose(found[:, :n_kept], by_scikit_learn(channel, n_components), atol=1e-6)
        incremental = IncrementalPCA(batch_size=100)
        pixels = StandardScaler().fit_transform(channel.reshape(len(channel), -1).astype(np.float64))
        expected = incremental.fit_transform(pixels)[:, :n_kept]
        expected *= np.sign((expected * found[:, :n_kept]).sum(axis=0))  # it chooses other signs
        np.testing.assert_allclose(found[:, :n_kept], expected, atol=1e-6)
        np.testing.assert_allclose(shares[:n_kept], incremental.explained_variance_ratio_[:n_kept], atol=1e-9)


@pytest.mark.usefixtures("small_blocks")
def test_memory_and_threads_change_no_bit_where_images_are_divided_into_blocks() -> None:
    maps = structured(5, 730, 8)
    expected = reduce_channels(maps, 3, n_threads=1).values
    for memory_mib, n_threads in ((1, 1), (1, 2), (64, 3)):
        np.testing.assert_array_equal(
            reduce_channels(maps, 3, memory_mib=memory_mib, n_threads=n_threads).values, expected
        )
    np.testing.assert_array_equal(reduce_channels(maps[3:4], 3).values[0], expected[3])


@pytest.mark.usefixtures("small_blocks")
def test_nearly_lower_rank_of_many_images_comes_from_the_maps_themselves() -> None:
    strong, weak = RNG.normal(size=(430, 1)), RNG.normal(size=(430, 1))
    maps = (strong * np.ones(36) + 1e-6 * weak * RNG.normal(size=36)).reshape(1, 430, 6, 6)
    projections, ratios, *_ = reduce_channels(maps, 4)
    expected = by_scikit_learn(maps[0], 2)
    np.testing.assert_allclose(projections[0, :, :2], expected, atol=1e-6)
    assert np.corrcoef(projections[0, :, 1], expected[:, 1])[0, 1] == pytest.approx(1, abs=1e-9)
    assert (projections[0, :, 2:] == 0).all()
    assert (ratios[0, 2:] == 0).all()


@pytest.fixture
def approximate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Approximate the components of small maps of few images."""
    monkeypatch.setattr(pca, "LARGEST_PRODUCT", 100)
    monkeypatch.setattr(standardised, "MOST_IN_ONE_BLOCK", 100)
    monkeypatch.setattr(standardised, "VALUES", 400 * 150)


@pytest.mark.usefixtures("approximate")
@pytest.mark.parametrize(("n_images", "side"), [(500, 20), (300, 22)], ids=["tall", "wide"])
@pytest.mark.parametrize("kind", ["structured", "smooth", "noise"])
def test_approximate_components_are_as_accurate_as_their_residual_says(n_images: int, side: int, kind: str) -> None:
    noise = RNG.normal(size=(2, n_images, side, side))
    if kind == "structured":
        maps = structured(2, n_images, side)
    else:
        maps = (gaussian_filter(noise, (0, 0, 2, 2)) if kind == "smooth" else noise).astype(np.float32)
    found = reduce_channels(maps, 5, silent)
    assert found.residual is not None
    assert (found.residual <= 1e-6).all()
    for projections, ratios, channel in zip(found.values, found.explained_variance_ratio, maps, strict=True):
        exact = PCA(5, svd_solver="full")
        pixels = StandardScaler().fit_transform(channel.reshape(n_images, -1).astype(np.float64))
        expected = exact.fit_transform(pixels)
        np.testing.assert_allclose(ratios, exact.explained_variance_ratio_, rtol=1e-8)
        np.testing.assert_allclose(projections, expected, atol=1e-4 * np.abs(expected).max())
        subspace = np.linalg.qr(projections)[0]
        assert np.linalg.norm(expected - subspace @ (subspace.T @ expected)) < 1e-4 * np.linalg.norm(expected)


@pytest.mark.usefixtures("approximate")
def test_approximate_components_beyond_the_rank_are_zero_and_dead_channels_too() -> None:
    maps = np.zeros((2, 300, 20, 20), dtype=np.float32)
    maps[0, :, 0, 0], maps[0, :, 3, 3] = RNG.normal(size=(2, 300))
    projections, ratios, dead, residual = reduce_channels(maps, 4)
    assert dead.tolist() == [False, True]
    assert residual is not None
    assert (residual <= 1e-6).all()
    assert (np.abs(projections[0, :, :2]).max(axis=0) > 0.5).all()
    assert (projections[0, :, 2:] == 0).all()
    assert (projections[1] == 0).all()
    assert ratios[0].sum() == pytest.approx(1)


@pytest.mark.usefixtures("approximate")
@pytest.mark.parametrize(
    ("n_components", "rule"),
    [
        (
            0.9,
            "n_components must be a number with more than 100 images and maps of more than 100 pixels, whose "
            "components are approximated; got 0.9 (300 images, maps of 20 x 20 pixels). Set it, for example "
            "n_components=10, or choose a layer with smaller maps.",
        ),
        (
            101,
            "n_components must be at most 100 with more than 100 images and maps of more than 100 pixels, whose "
            "components are approximated; got 101 (300 images, maps of 20 x 20 pixels). Lower it, or choose a layer "
            "with smaller maps.",
        ),
    ],
)
def test_what_cannot_be_approximated_is_refused(n_components: int | float, rule: str) -> None:
    with pytest.raises(InputError) as caught:
        reduce_channels(np.zeros((1, 300, 20, 20)), n_components)
    assert str(caught.value) == rule


def test_maps_in_half_precision_are_read_as_they_are() -> None:
    maps = structured(2, 60, 6).astype(np.float16)
    np.testing.assert_array_equal(reduce_channels(maps, 3).values, reduce_channels(maps.astype(np.float32), 3).values)


def test_many_images_take_no_more_memory_than_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standardised, "MOST_IN_ONE_BLOCK", 1000)
    monkeypatch.setattr(standardised, "VALUES", 100 * 400)
    maps = structured(2, 20_000, 20)
    reduce_channels(maps[:, :1500], 3)  # compilation
    tracemalloc.start()
    projections = reduce_channels(maps, 3, memory_mib=8, n_threads=2).values
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    assert peak < 8 + 2 * projections.nbytes / 2**20  # the maps would take 122 MiB as float64
