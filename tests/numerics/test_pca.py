from __future__ import annotations

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
