from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from pipeline.arrays import Float64Array
from pipeline.numerics import probe
from pipeline.numerics.groups import Groups
from pipeline.numerics.probe import linear_probe

N_IMAGES, N_CHANNELS = 80, 12


def layer(draw: np.random.Generator, n_images: int = N_IMAGES) -> tuple[Float64Array, Float64Array]:
    """Return components of which the first of each channel contains a common signal, and the signal."""
    signal = draw.normal(size=n_images)
    values = draw.normal(size=(N_CHANNELS, n_images, 3)) * [2.0, 1.0, 0.5]
    values[:, :, 0] += draw.normal(size=(N_CHANNELS, 1)) * 3 * signal
    return values, signal


def test_without_an_association_the_probe_is_0_on_average_and_its_interval_contains_0() -> None:
    draw = np.random.default_rng(0)
    found = [linear_probe(layer(draw)[0], draw.normal(size=N_IMAGES), seed=seed) for seed in range(25)]
    values = np.array([each.value for each in found if each is not None])
    assert abs(values.mean()) < 3 * values.std() / 5
    assert sum(each.low <= 0 <= each.high for each in found if each is not None) >= 22


@pytest.mark.parametrize("truth", [0.5, 0.9])
def test_the_probe_finds_the_correlation_of_the_signal_in_the_channels(truth: float) -> None:
    # Twelve channels determine the signal nearly, so its correlation with the class score is what a probe can reach.
    draw = np.random.default_rng(1)
    found = []
    for seed in range(10):
        values, signal = layer(draw, 150)
        found.append(linear_probe(values, truth * signal + (1 - truth**2) ** 0.5 * draw.normal(size=150), seed=seed))
    values = np.array([each.value for each in found if each is not None])
    assert truth - 0.1 < values.mean() < truth + 0.02
    assert sum(each.low <= truth <= each.high for each in found if each is not None) >= 9


def test_a_class_score_that_is_linear_in_many_channels_is_predicted_although_none_of_them_does_alone() -> None:
    draw = np.random.default_rng(2)
    values = draw.normal(size=(N_CHANNELS, 150, 1))
    response = values[:, :, 0].sum(axis=0)
    alone = max(abs(np.corrcoef(each[:, 0], response)[0, 1]) for each in values)
    found = linear_probe(values, response, seed=0)
    assert found is not None
    assert alone < 0.5
    assert found.value > 0.99


def test_copies_of_images_are_held_out_together() -> None:
    draw = np.random.default_rng(3)
    values, response = draw.normal(size=(30, 40, 3)), draw.normal(size=40)
    copied, labels = np.tile(np.arange(40), 3), np.tile(np.arange(40), 3)
    with_copies = linear_probe(values[:, copied], response[copied], seed=0, groups=Groups.by_label(labels))
    unaware = linear_probe(values[:, copied], response[copied], seed=0)
    assert with_copies is not None
    assert unaware is not None
    assert unaware.value > 0.9  # each image is predicted from its copies
    assert abs(with_copies.value) < 0.5


def test_scale_dead_channels_and_empty_components_do_not_change_the_probe() -> None:
    values, signal = layer(np.random.default_rng(4))
    scaled = values * np.logspace(-3, 3, N_CHANNELS)[:, None, None]
    padded = np.concatenate([np.pad(scaled, ((0, 0), (0, 0), (0, 2))), np.zeros((2, N_IMAGES, 5))])
    one, other = linear_probe(values, signal, seed=0), linear_probe(padded, signal, seed=0)
    assert one is not None
    assert other is not None
    assert other.value == pytest.approx(one.value, abs=1e-9)


def test_few_images_and_dead_layers_have_no_probe() -> None:
    values, signal = layer(np.random.default_rng(5), 14)
    assert linear_probe(values, signal, seed=0) is None
    assert linear_probe(np.zeros((3, 50, 2)), np.arange(50.0), seed=0) is None


def test_of_many_images_a_random_part_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(5)
    values, signal = layer(draw, 400)
    response = signal + draw.normal(size=400)
    labels = np.arange(400)
    labels[350:] = np.arange(50)
    everything = linear_probe(values, response, seed=0)
    monkeypatch.setattr(probe, "MOST_IMAGES", 200)
    found, again, other = (linear_probe(values, response, seed=seed) for seed in (0, 0, 1))
    assert everything is not None
    assert found is not None
    assert other is not None
    assert found == again
    assert found != other
    assert abs(found.value - everything.value) < 0.1
    assert found.high - found.low > 1.2 * (everything.high - everything.low)  # the interval of half the images
    groups = Groups.by_label(labels)
    with_copies = linear_probe(values, response, seed=0, groups=groups)
    assert with_copies is not None
    assert with_copies == linear_probe(values[:, :350], response[:350], seed=0)


def test_the_errors_for_images_that_are_left_out_are_those_of_regressions_on_the_others() -> None:
    rng = np.random.default_rng(3)
    predictors, response = rng.standard_normal((40, 12)), rng.standard_normal(40)
    centred = predictors - predictors.mean(axis=0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    test = np.array([3, 4, 20, 31, 39])
    rest = np.setdiff1d(np.arange(40), test)
    found = probe._errors(np.maximum(values, 0), vectors, vectors.T @ (response - response.mean()), test)
    for penalty, error in zip(probe.PENALTIES, found, strict=True):
        ridge = Ridge(alpha=len(rest) * penalty).fit(predictors[rest], response[rest])
        assert error == pytest.approx(np.square(ridge.predict(predictors[test]) - response[test]).sum(), rel=1e-8)
