from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.artifacts import AceFit, Activations, ChannelScores, Figures, Projections, Ranking, Trust, Workspace

RNG = np.random.default_rng(0)


def test_arrays_that_are_not_contiguous_are_saved_and_loaded_unchanged(tmp_path: Path) -> None:
    values = RNG.normal(size=(6, 4, 5)).transpose(2, 1, 0)[::2]
    assert not values.flags.c_contiguous
    dead = np.array([True, False, True, False, True, False])[::2]
    saved = Projections(values, RNG.normal(size=(3, 6)).T, dead).save(tmp_path)
    loaded = Projections.load(tmp_path)
    np.testing.assert_array_equal(loaded.values, saved.values)
    np.testing.assert_array_equal(loaded.explained_variance_ratio, saved.explained_variance_ratio)
    np.testing.assert_array_equal(loaded.dead, dead)
    assert loaded.dead.dtype == bool


@pytest.mark.parametrize(
    "of_smoother", [{"iterations": np.array([3, 4, 5])}, {"degrees_of_freedom": RNG.normal(size=3)}]
)
def test_scores_are_saved_and_loaded_with_their_types(tmp_path: Path, of_smoother: dict[str, Any]) -> None:
    vector, flags = RNG.normal(size=3), np.array([False, False, True])
    evidence = pd.DataFrame({"q_value": [0.1, 0.2, np.nan]}).rename_axis("channel")
    fit = AceFit(vector, RNG.normal(size=(3, 7, 2)), RNG.normal(size=(3, 7)), **of_smoother)
    saved = ChannelScores(
        {"maximal": vector, "first": vector**2}, flags,
        {"maximal": evidence, "first": evidence[[]]}, {"maximal": np.array([[3, 0.5]]), "first": np.empty((0, 2))}, fit,
    )  # fmt: skip
    saved.save(tmp_path)
    loaded = ChannelScores.load(tmp_path)
    np.testing.assert_array_equal(loaded.dead, flags)
    assert loaded.fit is not None
    for name, array in vars(fit).items():
        if array is None:
            assert getattr(loaded.fit, name) is None
            continue
        np.testing.assert_array_equal(getattr(loaded.fit, name), array)
        assert getattr(loaded.fit, name).dtype == array.dtype
    assert list(loaded.values) == ["maximal", "first"]
    for name in saved.values:
        np.testing.assert_array_equal(loaded.values[name], saved.values[name])
        pd.testing.assert_frame_equal(loaded.evidence[name], saved.evidence[name], check_index_type=False)
        np.testing.assert_array_equal(loaded.curves[name], saved.curves[name])


def test_loaded_maps_are_memory_mapped(tmp_path: Path) -> None:
    maps = Workspace(tmp_path).empty(Activations.MAPS, (2, 3, 4, 5))
    maps[:] = RNG.normal(size=maps.shape)
    Activations(maps, np.arange(3.0)).save(tmp_path)
    loaded = Activations.load(tmp_path)
    assert isinstance(loaded.maps, np.memmap)
    assert loaded.maps.dtype == np.float32
    np.testing.assert_array_equal(loaded.maps, maps)
    np.testing.assert_array_equal(loaded.class_score, [0, 1, 2])


def test_a_workspace_in_memory_has_arrays_and_no_folder() -> None:
    workspace = Workspace()
    maps = workspace.empty(Activations.MAPS, (2, 3, 4, 5))
    assert not isinstance(maps, np.memmap)
    assert maps.shape == (2, 3, 4, 5)
    assert maps.dtype == np.float32
    with pytest.raises(ValueError, match=r"^the workspace must") as caught:
        workspace.folder  # noqa: B018
    assert str(caught.value) == (
        "the workspace must have a folder for a stage that writes files; got a workspace in memory. "
        "Use Workspace(folder)."
    )


def test_maps_in_memory_can_be_saved(tmp_path: Path) -> None:
    maps = Workspace().empty(Activations.MAPS, (2, 3, 4, 5))
    maps[:] = RNG.normal(size=maps.shape)
    Activations(maps, np.arange(3.0)).save(tmp_path)
    np.testing.assert_array_equal(Activations.load(tmp_path).maps, maps)


def test_a_channel_varies_if_any_of_its_pixels_differs_between_images() -> None:
    maps = np.zeros((3, 4, 2, 2), dtype=np.float32)
    maps[1] = np.arange(4).reshape(2, 2)  # the same map for all images
    maps[2, 3, 1, 1] = 1e-30
    activations = Activations(maps, np.arange(4.0))
    assert activations.varying().tolist() == [False, False, True]
    assert activations.means().dtype == np.float64
    assert activations.means()[1].tolist() == [1.5] * 4


@pytest.mark.parametrize(
    ("ratios", "dead", "description"),
    [
        ([[0.5], [0.7]], [False, False], "1 component holds 60% of the variance"),
        ([[0.5, 0.1], [0.7, 0.1]], [False, False], "2 components hold 70% of the variance"),
        ([[0.5, 0.0], [0.7, 0.1]], [False, False], "1 to 2 components hold 65% of the variance"),
        ([[0.5, 0.1], [0.0, 0.0]], [False, True], "2 components hold 60% of the variance"),
        ([[0.0, 0.0]], [True], "0 components hold 0% of the variance"),
    ],
)
def test_projections_are_described_by_their_components(
    ratios: list[list[float]], dead: list[bool], description: str
) -> None:
    values = np.zeros((len(ratios), 5, len(ratios[0])))
    assert Projections(values, np.array(ratios), np.array(dead)).description == description


def test_a_ranking_is_the_same_to_the_last_digit_in_csv_and_parquet(tmp_path: Path) -> None:
    table = pd.DataFrame({"rank": [1, 2], "channel": [1, 0], "score": [1 / 3, 0.1 + 0.2], "class_name": ["8", "8"]})
    for trust in (Trust(), Trust(0.4, float("inf"), 3, ((75, 0.25),), completeness_error=0.01)):
        Ranking(table, trust).save(tmp_path)
        assert Ranking.load(tmp_path).trust == trust
    pd.testing.assert_frame_equal(Ranking.load(tmp_path).table, table)
    written = pd.read_csv(tmp_path / Ranking.CSV, dtype={"class_name": str})
    pd.testing.assert_frame_equal(written, table)


def test_figures_are_listed_with_their_notes(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "a.png").write_bytes(b"")
    Figures(tmp_path, ("no CAM: reason",)).save(tmp_path)
    loaded = Figures.load(tmp_path)
    assert [path.name for path in loaded.paths] == ["a.png", "b.png"]
    assert loaded.notes == ("no CAM: reason",)
