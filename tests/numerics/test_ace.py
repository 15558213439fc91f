"""The compiled solver against two others: the `ace` package, and R's acepack (Friedman's own Fortran)."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import compose_settings
from pipeline.errors import InputError
from pipeline.numerics import ace_package
from pipeline.numerics.ace import AceResult, maximal_correlation, optimal_transforms, permuted_correlations
from pipeline.numerics.lanes import N_LANES
from pipeline.numerics.parameters import SPANS, AceParameters
from pipeline.numerics.pca import reduce_channels
from pipeline.rankers.ace import ace_parameters
from pipeline.settings import AceSettings
from tests.helpers.project import tool_is_missing
from tests.oracles.samples import SAMPLES, integer, relu_like
from tests.oracles.singleton import acepack_order
from tests.oracles.solvers import by_acepack

GOLDEN = json.loads((Path(__file__).resolve().parent.parent / "oracles" / "solvers.json").read_text())
ACEPACK_SPANS = tuple(float(np.float32(span)) for span in SPANS)  # its constants are in single precision
BASS_0, BASS_5 = AceParameters(bass=0), AceParameters(bass=5)  # of the `ace` package, and of acepack
TIED = ("relu_like", "integer")
RNG = np.random.default_rng(0)
SEEDS = st.integers(0, 10**6)


@pytest.fixture(scope="module")
def acepack() -> None:
    """R with acepack: CI installs it, elsewhere it may be missing."""
    if shutil.which("Rscript") is None:
        tool_is_missing("Rscript", "apt-get install r-base-core r-cran-acepack")


@pytest.fixture(scope="module")
def cifar_projections(
    photographs: Path, resnet20_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[np.ndarray, np.ndarray]:
    """Ten components of the 64 channels of `layer3.2.conv2` on 300 photographs of cat, and the class scores."""
    from pipeline.resolve import resolve
    from tests.helpers.stages import activations, fetch

    folder = tmp_path_factory.mktemp("cifar")
    settings = resolve(
        compose_settings(
            ["experiment=cifar10_resnet20", f"data.root={photographs}", f"model.checkpoint={resnet20_weights}"]
        )
    )
    found = activations(settings, fetch(settings, folder / "images"), folder / "maps")
    return reduce_channels(found.maps, 10)[0], found.class_score


def worst(one: AceResult, other: AceResult) -> float:
    return max(float(np.abs(getattr(one, name) - getattr(other, name)).max()) for name in vars(one))


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_come_out_as_by_the_ace_package(name: str) -> None:
    x, y = SAMPLES[name]()
    found = optimal_transforms(x[None], y, parameters=BASS_0)
    assert worst(found, ace_package.optimal_transforms(x[None], y)) < 1e-10
    assert found.maximal[0] == pytest.approx(GOLDEN["ace"][name]["maximal"], abs=1e-10)
    assert found.first[0] == pytest.approx(GOLDEN["ace"][name]["first"], abs=1e-10)


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in TIED])
def test_samples_at_bass_5_come_out_as_by_acepack(name: str) -> None:
    x, y = SAMPLES[name]()
    found = optimal_transforms(x[None], y, parameters=BASS_5)
    assert found.maximal[0] == pytest.approx(GOLDEN["acepack"][name]["maximal"], abs=1e-8)
    assert found.first[0] == pytest.approx(GOLDEN["acepack"][name]["first"], abs=1e-8)


@pytest.mark.usefixtures("acepack")
def test_transforms_at_bass_5_are_acepacks() -> None:
    samples = {name: make() for name, make in SAMPLES.items() if name not in TIED}
    for name, (phi, theta) in by_acepack(samples).items():
        x, y = samples[name]
        found = optimal_transforms(x[None], y, parameters=BASS_5)
        np.testing.assert_allclose(found.phi[0], phi, atol=1e-8, err_msg=name)
        np.testing.assert_allclose(found.theta[0], theta, atol=1e-8, err_msg=name)


@pytest.mark.usefixtures("acepack")
def test_tied_values_come_out_as_by_acepack_where_both_take_them_in_one_order() -> None:
    """Not for any response: over a stretch where the smoothed values are all equal, every span's residuals are 0 but
    for rounding, and rounding chooses the span.
    """
    samples = {}
    for seed in range(5):
        for make in (relu_like, integer):
            x, _ = make(seed=seed)
            y = x[:, 0] - 2 * x[:, 0] ** 2 + np.random.default_rng(1000 + seed).normal(size=len(x))
            samples[f"{make.__name__}{seed}"] = x[:, :1], y
    for name, (phi, theta) in by_acepack(samples).items():
        x, y = samples[name]
        order = acepack_order(x[:, 0])
        found = optimal_transforms(x[None, order], y[order], parameters=AceParameters(bass=5, spans=ACEPACK_SPANS))
        np.testing.assert_allclose(found.phi[0], phi[order], atol=1e-10, err_msg=name)
        np.testing.assert_allclose(found.theta[0], theta[order], atol=1e-10, err_msg=name)


def test_real_activations_come_out_as_by_the_ace_package(cifar_projections: tuple[np.ndarray, np.ndarray]) -> None:
    projections, class_score = cifar_projections
    for n_components, n_channels in ((1, 64), (3, 16), (10, 8)):
        values = np.ascontiguousarray(projections[:n_channels, :, :n_components])
        reference = ace_package.optimal_transforms(values, class_score, n_jobs=2)
        assert worst(optimal_transforms(values, class_score, parameters=BASS_0), reference) < 1e-10


@pytest.mark.usefixtures("acepack")
def test_real_activations_at_bass_5_come_out_as_by_acepack(cifar_projections: tuple[np.ndarray, np.ndarray]) -> None:
    projections, class_score = cifar_projections
    for n_components in (1, 3, 10):
        values = np.ascontiguousarray(projections[:, :, :n_components])
        found = optimal_transforms(values, class_score, parameters=BASS_5)
        for channel, (phi, theta) in by_acepack({str(c): (x, class_score) for c, x in enumerate(values)}).items():
            np.testing.assert_allclose(found.phi[int(channel)], phi, atol=1e-8)
            np.testing.assert_allclose(found.theta[int(channel)], theta, atol=1e-8)


@given(SEEDS, st.floats(-0.95, 0.95))
def test_bivariate_normals_give_their_correlation(seed: int, r: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=2000)
    y = r * x + math.sqrt(1 - r**2) * rng.normal(size=2000)
    found = maximal_correlation(x[None, :, None], y, parameters=AceParameters(bass=10))[0]
    # The estimate's own deviation is (1 - r^2) / sqrt(n), and it is biased upwards where there is little to find.
    assert abs(r) - 4 * (1 - r**2) / math.sqrt(2000) - 0.01 < found < abs(r) + 4 * (1 - r**2) / math.sqrt(2000) + 0.12


@given(SEEDS)
def test_what_no_straight_line_shows_is_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1, 300, 5))
    y = x[0, :, 2] ** 2 + 0.01 * rng.normal(size=300)
    assert maximal_correlation(x, y)[0] > 0.97
    assert maximal_correlation(x, y, statistic="first")[0] < 0.35


@given(SEEDS, st.integers(-12, 12), st.floats(-5, 5))
def test_the_response_s_scale_and_shift_change_nothing(seed: int, exponent: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 80, 3)), np.round(rng.normal(size=80), 6)
    expected = maximal_correlation(x, y)
    np.testing.assert_array_equal(maximal_correlation(x, y * 2.0**exponent), expected)
    # Rounding shifts the last digits, and a decision may then fall the other way: METHOD's own bound.
    np.testing.assert_allclose(maximal_correlation(x, y * 3.7 + shift), expected, atol=0.02)


@given(SEEDS, st.floats(1e-3, 1e3), st.floats(-5, 5))
def test_one_predictor_s_scale_and_shift_change_nothing(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(1, 80, 1)), rng.normal(size=80)
    np.testing.assert_allclose(maximal_correlation(x * scale + shift * scale, y), maximal_correlation(x, y), atol=0.02)


@given(SEEDS)
def test_permuting_channels_permutes_the_results(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(5, 40, 2)), rng.normal(size=40)
    order = rng.permutation(5)
    np.testing.assert_array_equal(maximal_correlation(x[order], y), maximal_correlation(x, y)[order])


def test_the_result_has_the_same_bits_alone_among_others_and_on_any_number_of_threads() -> None:
    x, y = RNG.normal(size=(512, 60, 3)), RNG.normal(size=60)
    one, two = (optimal_transforms(x, y, n_threads=n_threads) for n_threads in (1, 2))
    assert worst(one, two) == 0
    for channel in (0, 200, 511):
        alone = optimal_transforms(x[channel : channel + 1], y)
        for name, values in vars(alone).items():
            np.testing.assert_array_equal(values[0], getattr(one, name)[channel])


def test_permuted_responses_are_solved_as_if_each_were_alone() -> None:
    x = RNG.normal(size=(3, 50, 2))
    permutations = np.array([RNG.permutation(50) for _ in range(4)])
    for y in (RNG.normal(size=50), RNG.integers(0, 4, 50).astype(float)):
        maximal, first = permuted_correlations(x, y, permutations)
        for column, permutation in enumerate(permutations):
            found = optimal_transforms(x, y[permutation])
            np.testing.assert_array_equal(maximal[:, column], found.maximal)
            np.testing.assert_array_equal(first[:, column], found.first)


def awkward_predictors(name: str, rng: np.random.Generator) -> np.ndarray:
    """Three channels of 50 images: what the solver takes other branches for."""
    x = rng.normal(size=(3, 50, 1 if name == "one predictor" else 3))
    if name == "ties":
        x = np.round(x)
    elif name == "a constant predictor":
        x[:, :, 1] = 0.1
        x[2] = 7.0
    elif name == "few values":  # points that alone decide the fit at their x
        x = (x > 1.5).astype(float)
    return x


@pytest.mark.parametrize("bass", [0, 3.3, 5])
@pytest.mark.parametrize("name", ["plain", "one predictor", "ties", "a constant predictor", "few values"])
def test_side_by_side_and_alone_have_the_same_bits(name: str, bass: float) -> None:
    rng = np.random.default_rng(0)
    x, parameters = awkward_predictors(name, rng), AceParameters(bass=bass)
    permutations = np.array([rng.permutation(50) for _ in range(2 * N_LANES + 3)])
    for y in (rng.normal(size=50), rng.integers(0, 4, 50).astype(float)):
        alone = [optimal_transforms(x, y[permutation], parameters=parameters) for permutation in permutations]
        for n_permutations in (1, 2, N_LANES, len(permutations)):
            for n_threads in (1, 2):
                found = permuted_correlations(
                    x, y, permutations[:n_permutations], parameters=parameters, n_threads=n_threads
                )
                for statistic, values in zip(("maximal", "first"), found, strict=True):
                    expected = [getattr(one, statistic) for one in alone[:n_permutations]]
                    np.testing.assert_array_equal(values.T, expected)


@pytest.mark.parametrize(
    "parameters", [AceParameters(maxit=1), AceParameters(maxit=2, delrsq=0.0), AceParameters(nterm=1)]
)
def test_side_by_side_responses_stop_where_each_would_alone(parameters: AceParameters) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 40, 3)), rng.normal(size=40)
    permutations = np.array([rng.permutation(40) for _ in range(N_LANES + 1)])
    maximal, _ = permuted_correlations(x, y, permutations, parameters=parameters)
    for column, permutation in zip(maximal.T, permutations, strict=True):
        np.testing.assert_array_equal(column, optimal_transforms(x, y[permutation], parameters=parameters).maximal)


def test_theta_is_standardised_and_r_squared_is_what_the_transforms_say() -> None:
    x = RNG.normal(size=(1, 100, 2))
    found = optimal_transforms(x, np.exp(x[0, :, 0] + 0.3 * RNG.normal(size=100)))
    phi, theta = found.phi[0], found.theta[0]
    assert theta.mean() == pytest.approx(0, abs=1e-12)
    assert theta.std() == pytest.approx(1, abs=1e-12)
    assert found.r_squared[0] == pytest.approx(1 - np.mean((theta - phi.sum(axis=1)) ** 2), abs=1e-12)
    assert found.maximal[0] == pytest.approx(np.corrcoef(phi.sum(axis=1), theta)[0, 1], abs=1e-12)
    assert found.first[0] == pytest.approx(abs(np.corrcoef(phi[:, 0], theta)[0, 1]), abs=1e-12)


def test_predictors_that_never_vary_get_no_transform() -> None:
    x = RNG.normal(size=(2, 50, 3))
    x[:, :, 1] = 0.1
    x[1] = 7.0
    y = x[0, :, 0] + 0.1 * RNG.normal(size=50)
    found = optimal_transforms(x, y)
    assert (found.phi[:, :, 1] == 0).all()
    assert found.maximal[0] > 0.9
    assert (found.maximal[1], found.first[1], found.r_squared[1]) == (0, 0, 0)
    np.testing.assert_allclose(found.theta[1], (y - y.mean()) / y.std(), atol=1e-12)


@pytest.mark.parametrize("exponent", [-1070, -1000, -500, 500, 1010])
def test_scales_near_the_ends_of_floating_point_change_no_digit(exponent: int) -> None:
    x, y = (np.round(1000 * RNG.normal(size=60)) for _ in range(2))  # whole: not even as denormals do they lose a digit
    expected = maximal_correlation(x[None, :, None], y)
    np.testing.assert_array_equal(maximal_correlation(np.ldexp(x, exponent)[None, :, None], y), expected)
    np.testing.assert_array_equal(maximal_correlation(x[None, :, None], np.ldexp(y, exponent)), expected)


def test_predictors_of_very_different_scales_stand_side_by_side() -> None:
    x = RNG.normal(size=(1, 200, 2))
    y = x[0, :, 0] ** 2 + x[0, :, 1] ** 2 + 0.1 * RNG.normal(size=200)
    scales = np.array([1e150, 1e-150])
    assert maximal_correlation(x * scales, y)[0] == pytest.approx(maximal_correlation(x, y)[0], abs=0.02)


def test_duplicated_and_collinear_predictors_are_no_worse_than_one() -> None:
    x = RNG.normal(size=(1, 150, 1))
    y = np.sin(2 * x[0, :, 0]) + 0.2 * RNG.normal(size=150)
    one = maximal_correlation(x, y)[0]
    for more in (np.concatenate([x, x], axis=2), np.concatenate([x, 2 * x + 1, -x], axis=2)):
        found = maximal_correlation(more, y)[0]
        assert one - 0.01 < found <= 1


@pytest.mark.parametrize("solve", [optimal_transforms, ace_package.optimal_transforms], ids=["compiled", "package"])
def test_what_has_no_answer_is_refused(solve: Callable[[np.ndarray, np.ndarray], AceResult]) -> None:
    x, y = np.ones((1, 20, 2)), np.arange(20.0)
    with pytest.raises(InputError, match=r"^response must differ between images; got 3 for every one\.$"):
        solve(x, np.full(20, 3.0))
    for bad in (np.nan, np.inf):
        with pytest.raises(InputError, match=r"^predictors must be finite; got NaN or infinity\. Check the activ"):
            solve(np.full((1, 20, 2), bad), y)
        with pytest.raises(InputError, match=r"^response must be finite; got NaN or infinity\."):
            solve(x, np.full(20, bad))
    with pytest.raises(InputError, match=r"^n_images must be at least 5; got 4\.$"):
        solve(x[:, :4], y[:4])
    with pytest.raises(InputError, match=r"^response must hold one value for each of the 20 images"):
        solve(x, y[:19])
    with pytest.raises(InputError, match=r"^predictors must have the shape \(n_channels, n_images, n_components\)"):
        solve(x[0], y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"bass": 11}, "bass must be in [0, 10]; got 11."),
        ({"delrsq": -0.1}, "delrsq must be in [0, 1]; got -0.1."),
        ({"maxit": 0}, "maxit must be at least 1; got 0."),
        ({"spans": (0.2, 0.1, 0.5)}, "spans must be three rising shares in (0, 1]; got (0.2, 0.1, 0.5)."),
        ({"spans": (0.2, 0.5)}, "spans must be three rising shares in (0, 1]; got (0.2, 0.5)."),
        ({"bass": float("nan")}, "bass must be in [0, 10]; got nan."),
    ],
)
def test_impossible_parameters_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        AceParameters(**parameters)
    assert str(caught.value) == message


def test_other_impossible_arguments_are_refused() -> None:
    x, y = np.ones((1, 20, 2)), np.arange(20.0)
    with pytest.raises(InputError, match=r"^statistic must be 'maximal' or 'first'; got 'best'\.$"):
        maximal_correlation(x, y, statistic="best")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^n_threads must be at least 1; got 0\.$"):
        maximal_correlation(x, y, n_threads=0)
    with pytest.raises(InputError) as caught:
        ace_package.optimal_transforms(x, y, parameters=AceParameters())
    assert str(caught.value) == (
        "bass must be 0 and spans (0.05, 0.2, 0.5) for the `ace` package; got 5 and (0.05, 0.2, 0.5)."
    )


def test_the_defaults_are_those_of_the_pipeline() -> None:
    score = compose_settings(["score=ace"]).score
    assert isinstance(score, AceSettings)
    assert ace_parameters(score) == AceParameters()


def test_parameters_with_spans_in_a_list_are_the_same_parameters() -> None:
    assert {AceParameters(spans=list(SPANS)), AceParameters()} == {AceParameters()}
