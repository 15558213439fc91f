"""timm's models, with random weights: nothing is downloaded."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor

from pipeline import kept_values
from pipeline.artifacts import Activations
from pipeline.config import compose_settings
from pipeline.errors import NetworkError
from pipeline.networks.declared import class_names
from pipeline.networks.identity import identity
from pipeline.networks.inputs import Preprocessing
from pipeline.networks.known import layout_of
from pipeline.networks.libraries import library
from pipeline.networks.load import check_weights, load
from pipeline.runner import run as run_pipeline
from pipeline.settings import ModelSettings
from tests.helpers.project import in_ci
from tests.helpers.servers import photograph
from tests.helpers.settings import SMALL

if not in_ci():
    pytest.importorskip("timm", reason="timm is not installed: pip install 'pcace[timm]'")
import timm


def model(name: str, *overrides: str) -> ModelSettings:
    return compose_settings(["model=timm", f"model.name={name}", *overrides]).model


def test_class_names_and_transform_are_those_of_timms_weights() -> None:
    settings = model("resnet18.a1_in1k")
    check_weights(settings)
    names = class_names(settings)
    assert names is not None
    assert (len(names), names[281], names[0]) == (1000, "tabby", "tench")
    own = library(settings).preset(settings)
    assert own.crop_size == [224]
    assert Preprocessing(settings).visible_box(300, 235) == (38, 5.5, 262, 229.5)
    image = Image.effect_noise((300, 260), 60).convert("RGB")
    found = Preprocessing(settings).transform(image)
    short = image.resize((271, 235), Image.Resampling.BICUBIC)
    expected = to_tensor(short.crop((24, 6, 248, 230)))
    mean, std = torch.tensor(own.mean).view(3, 1, 1), torch.tensor(own.std).view(3, 1, 1)
    assert found.shape == (3, 224, 224)
    torch.testing.assert_close(found, (expected - mean) / std)


def test_random_weights_are_seeded_and_their_identity_contains_the_version_of_timm() -> None:
    settings = model("resnet10t", "model.weights=random")
    one, again, other = (load(settings, seed).state_dict()["layer1.0.conv1.weight"] for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert {"random", "timm", "torch"} == set(identity(settings, 0)["weights"])
    assert identity(model("resnet18.a1_in1k"), 0)["weights"]["weights"] == "resnet18.a1_in1k"
    assert identity(model("resnet18"), 0)["weights"] == identity(model("resnet18.a1_in1k"), 0)["weights"]


def test_layers_and_identity_depend_on_the_variables_of_the_environment_that_timm_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_values, "_folder", lambda: tmp_path)
    monkeypatch.setattr(timm.layers.config, "_USE_FUSED_ATTN", 1)
    monkeypatch.delenv("TIMM_FUSED_ATTN", raising=False)
    settings = model("vit_tiny_patch16_224", "model.weights=random", "+model.arguments.depth=1")
    fused, of_fused = layout_of(settings), identity(settings, 0)
    assert set(of_fused["architecture"]) == {"library", "version", "name", "arguments"}
    monkeypatch.setattr(timm.layers.config, "_USE_FUSED_ATTN", 0)  # read when timm is imported
    monkeypatch.setenv("TIMM_FUSED_ATTN", "0")
    assert {each.name for each in layout_of(settings).layers} - {each.name for each in fused.layers} == {
        "blocks.0.attn.attn_drop"
    }
    assert identity(settings, 0)["architecture"]["environment"] == {"TIMM_FUSED_ATTN": "0"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("resnet81",),
            "model.name must be one of timm's models; got 'resnet81'. Nearest: resnet18, resnet61q, resnet51q. "
            "timm.list_models() lists all models.",
        ),
        (
            ("resnet10t.best",),
            "model.name must end in one of the tags c3_in1k, or have no tag; got 'resnet10t.best' (timm).",
        ),
        (
            ("resnet18", "model.weights=IMAGENET1K_V1"),
            "model.weights must be DEFAULT or random; got 'IMAGENET1K_V1' (timm's 'resnet18'). "
            "Select timm's weights by the tag in model.name, or set model.checkpoint to a file of your own.",
        ),
        (
            ("davit_giant",),
            "model.weights must be random for a model without pretrained weights; got DEFAULT (timm's 'davit_giant'). "
            "Set model.weights=random or model.checkpoint.",
        ),
    ],
)
def test_unknown_models_tags_and_weights_are_rejected(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(NetworkError) as caught:
        check_weights(model(*overrides))
        layout_of(model(*overrides))
    assert str(caught.value) == message


def test_the_message_about_the_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(NetworkError) as caught:
        class_names(model("resnet18"))
    assert str(caught.value) == (
        'model.library must be installed; got timm, which is not installed. Run pip install "pcace[timm]".'
    )


@pytest.mark.parametrize(
    ("layer", "maps"),
    [
        ("patch_embed.proj", (192, 14, 14)),
        ("blocks.0", (192, 14, 14)),
        ("blocks.11.mlp.fc1", (768, 14, 14)),
        ("head", (1000, 1, 1)),
    ],
)
def test_the_layers_of_a_vision_transformer_have_maps_of_patches(layer: str, maps: tuple[int, ...]) -> None:
    assert layout_of(model("vit_tiny_patch16_224")).find(layer).maps == maps


def test_swins_blocks_have_channels_last_and_its_windows_are_rejected() -> None:
    found = layout_of(model("swin_tiny_patch4_window7_224"))
    assert found.find("layers.1.blocks.0").maps == (192, 28, 28)
    with pytest.raises(
        NetworkError, match=r"got an output that is not one tensor with one row per image \(layer 'layers"
    ):
        found.find("layers.0.blocks.0.attn.qkv")


def test_a_timm_network_is_ranked(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for index in range(8):
        (tmp_path / "photos" / f"{index}.jpg").write_bytes(photograph(index, (80, 70)))
    settings = compose_settings(
        [
            *SMALL, f"paths.outputs={tmp_path / 'outputs'}", "model=timm", "model.name=test_vit", "layer=blocks.1",
            "model.weights=random", "data=folder", f"data.root={tmp_path / 'photos'}", "n_images=8",
            "class_name=null", "target_class=281", "model.input_size=[3,160,160]",
        ]
    )  # fmt: skip
    result = run_pipeline(settings, tmp_path / "run")
    assert sorted(result.ranking.table.channel) == list(range(64))
    assert result.artifacts[Activations].maps.shape == (64, 8, 10, 10)
