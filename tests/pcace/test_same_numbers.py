"""`pcace.rank` gives the numbers of the pipeline, to the byte, for the same network and the same inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import pcace
from pipeline.artifacts import Activations, Artifact, ChannelScores, Effects, ImageSet, Projections
from pipeline.artifacts.base import DESCRIPTION
from pipeline.networks.examined import NetworkRequest
from pipeline.networks.load import load
from pipeline.resolve import resolve
from pipeline.runner import run
from pipeline.settings import Settings
from tests.helpers.data import data_folder
from tests.helpers.project import ROOT
from tests.helpers.settings import Compose

# The columns with the settings of a run name the class and the network differently.
NAMES = ["model", "class_name"]
SAVED: dict[str, type[Artifact]] = {
    "activations": Activations,
    "projections": Projections,
    "scores": ChannelScores,
    "effects": Effects,
}


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of an artifact, without the description that the store adds."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != DESCRIPTION}


def same_as_a_run(settings: Settings, folder: Path, options: dict[str, Any]) -> pcace.Ranking:
    """Run the pipeline, rank the same inputs in memory, compare all files and tables, and return the ranking."""
    result = run(settings, folder / "run")
    settings = resolve(settings)
    inputs = NetworkRequest.of(settings).inputs(result.artifacts[ImageSet])
    images = inputs.read(slice(None))
    network = load(settings.model, settings.seed)
    files = sorted(folder.rglob("*"))
    ranking = pcace.rank(network, images, settings.layer, settings.target_class, **options)
    assert sorted(folder.rglob("*")) == files  # nothing is written
    saved = ranking.save(folder / "saved")
    for name, kind in SAVED.items():
        assert contents(saved / name) == contents(result.artifacts.folders[kind]), name
    pd.testing.assert_frame_equal(
        ranking.to_frame().drop(columns=NAMES), result.ranking.table.drop(columns=NAMES), check_exact=True
    )
    assert ranking.trust == result.ranking.trust
    assert ranking.sentences == result.sentences
    return ranking


@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        (
            ("n_images=40", "score.permutations=10", "score.bootstrap=10", "score.folds=2", "n_components=2"),
            {"permutations": 10, "bootstrap": 10, "folds": 2, "n_components": 2, "n_jobs": 1},
        ),
        (
            ("score=gradient_x_activation", "score.bootstrap=10", "layer=conv2", "seed=3", "target.score=margin",
             "activate.dtype=float16"),
            {"ranker": "gradient_x_activation", "bootstrap": 10, "n_components": 1, "seed": 3,
             "settings": {"target.score": "margin", "activate.dtype": "float16"}},
        ),
        (
            ("score=conductance", "score.bootstrap=0", "score.n_steps=40", "n_images=30"),
            {"ranker": "conductance", "bootstrap": 0, "n_steps": 40, "n_components": 1},
        ),
    ],
    ids=["ace", "gradient_x_activation", "conductance"],
)  # fmt: skip
def test_the_digits_are_ranked_as_by_the_pipeline(
    overrides: tuple[str, ...], options: dict[str, Any], compose: Compose, tmp_path: Path
) -> None:
    same_as_a_run(compose(*overrides), tmp_path, options)


def test_the_default_settings_are_those_of_the_pipeline(compose: Compose) -> None:
    settings = compose("n_components=3", "score.n_jobs=0", "n_images=60", "target_class=8")
    given = resolve(settings)
    network = load(settings.model, 0)
    images = torch.rand(60, 1, 8, 8)
    ranking = pcace.rank(network, images, "conv1", 8, settings={"ablate.when": "never"}, permutations=0, bootstrap=0)
    ours = ranking.settings
    assert (ours.seed, ours.n_components, ours.rank, ours.reduce) == (
        given.seed, given.n_components, given.rank, given.reduce,
    )  # fmt: skip
    assert ours.model.batch_size == given.model.batch_size
    assert ours.score.kind == given.score.kind
    differing = {"permutations", "bootstrap"}
    names = set(vars(given.score)) - differing
    assert {name: getattr(ours.score, name) for name in names} == {name: getattr(given.score, name) for name in names}


@pytest.mark.skipif(not (data_folder() / "cifar10").exists(), reason="needs the benchmark data")
def test_the_cifar10_resnet20_is_ranked_as_by_the_pipeline(
    photographs: Path, resnet20_weights: Path, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    small = ("score.permutations=10", "score.bootstrap=10", "ablate.when=never", "visualize.maximize=never")
    settings = compose(
        "experiment=cifar10_resnet20", f"data.root={photographs}", f"model.checkpoint={resnet20_weights}",
        "class_name=cat", "layer=layer3.2.conv2", "n_images=96", "n_components=3", *small,
    )  # fmt: skip
    options: dict[str, Any] = {"permutations": 10, "bootstrap": 10, "settings": {"ablate.when": "never"}, "n_jobs": 1}
    ranking = same_as_a_run(settings, tmp_path, options)
    assert len(ranking.channels) == 64

    # A DataLoader with workers gives the same bytes, whatever the size of its batches, because images are batched anew.
    settings = resolve(settings)
    network = load(settings.model, settings.seed)
    images = (
        NetworkRequest.of(settings).inputs(ImageSet.load(*tmp_path.glob("outputs/store/download/*"))).read(slice(None))
    )
    loader = DataLoader(TensorDataset(images, torch.arange(len(images))), batch_size=13, num_workers=2)
    loaded = pcace.rank(network, loader, network.get_submodule("layer3.2.conv2"), 3, **options)
    assert loaded.activations.maps.tobytes() == ranking.activations.maps.tobytes()
    pd.testing.assert_frame_equal(loaded.to_frame(), ranking.to_frame(), check_exact=True)
