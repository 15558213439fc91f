from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import cast

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from pipeline import overrides as overrides_module
from pipeline.config import compose_settings, register_resolvers, with_absolute_outputs, with_defaults
from pipeline.errors import SettingsError
from pipeline.overrides import as_entered, checked_overrides
from pipeline.resources import conf_dir, options
from pipeline.settings import AceSettings, settings_from

GROUPS = ("model", "data", "score", "visualize", "tracking", "engine", "target", "experiment")
# Settings that an option of a group requires from the user.
NEEDED = {
    "model=torchvision": ["model.name=alexnet"],
    "model=timm": ["model.name=resnet18"],
    "model=transformers": ["model.name=vit"],
    "data=folder": ["data.root=photographs"],
    "data=manifest": ["data.file=images.csv"],
    "data=street_view": ["data.file=panoramas.csv"],
    "data=torchvision": ["data.name=MNIST"],
    "data=urls": ["data.file=CLASS.txt"],
    "experiment=cifar10_resnet20": ["data.root=photographs"],
    "experiment=street_level": ["data.file=panoramas.csv"],
    "experiment=original_resnet18": ["data.root=photographs", "class_name=tabby"],
    "experiment=original_vgg16": ["data.root=photographs", "class_name=tabby"],
}


@pytest.mark.parametrize("choice", [f"{group}={option}" for group in GROUPS for option in options(group)])
def test_every_yaml_composes(choice: str) -> None:
    settings = compose_settings([choice, *NEEDED.get(choice, [])])
    assert settings.n_images >= 5


@pytest.mark.parametrize(("net", "layer"), [("resnet18", "layer4.1.conv2"), ("vgg16", "features.28")])
def test_the_settings_of_each_original_script_are_a_file(net: str, layer: str) -> None:
    settings = compose_settings([f"experiment=original_{net}", "data.root=photographs", "class_name=tabby"])
    assert (settings.model.name, settings.layer) == (net, layer)
    assert isinstance(settings.score, AceSettings)
    assert (settings.n_images, settings.score.statistic, settings.model.transform.kind) == (300, "first", "resize")


def swept(*overrides: str) -> dict[str, str]:
    register_resolvers()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        composed = compose("config", overrides=list(overrides), return_hydra_config=True)
    return cast("dict[str, str]", OmegaConf.to_container(composed.hydra.sweeper.params, resolve=True))


def test_experiments_sweep_over_the_values_that_they_describe() -> None:
    assert swept("experiment=pca_sizes") == {"n_components": "1,2,3,5,10"}
    assert swept("experiment=image_counts") == {"n_images": "25,50,100,150"}
    assert swept("experiment=randomized_weights") == {"model.randomized": "0,1,2,3,4"}
    resnet = swept("experiment=[cifar10_resnet20,randomized_weights]", "data.root=photographs")
    assert resnet == {"model.randomized": "0,1,6,13,20,26,32,39"}


def test_the_convolutions_of_a_network_can_be_selected() -> None:
    register_resolvers()
    chosen = ["experiment=whole_network", "layer=${convolutions:}"]
    settings = compose_settings(chosen)
    assert (settings.layer, settings.selects_several) == ("conv1,conv2,conv3", True)
    vgg = compose_settings([*chosen, "model=vgg16"]).layer.split(",")
    assert (len(vgg), vgg[0], vgg[-1]) == (13, "features.0", "features.28")
    assert compose_settings(["experiment=whole_network"]).layer == "all"
    own = [*chosen, "model=torchvision", "model.name=own", "model.weights=random", "model.input_size=[3,8,8]"]
    own += ["model.transform.kind=none", "target_class=1"]
    factory = f"model.factory={__name__}:"
    assert compose_settings([*own, f"{factory}derived_convolutions"]).layer == "0,2"
    with pytest.raises(SettingsError) as caught:
        compose_settings([*own, f"{factory}no_convolutions"])
    assert str(caught.value) == (
        "layer must select a layer that can be ranked; got ${convolutions:}, but own has no convolution that can be "
        "ranked. Set layer=all, or a list of the names that `pcace layers` prints."
    )


class Convolution(nn.Conv2d):
    """A convolution of a class of its own, as many libraries have one."""


def derived_convolutions() -> nn.Module:
    return nn.Sequential(Convolution(3, 3, 3), nn.ReLU(), nn.ConvTranspose2d(3, 2, 3), nn.Flatten(), nn.Linear(128, 3))


def no_convolutions() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.ReLU(), nn.Linear(4, 3))


def test_experiments_can_be_combined() -> None:
    settings = compose_settings(["experiment=[cifar10_resnet20,randomized_weights]", "data.root=photographs"])
    assert (settings.model.name, settings.layer, settings.visualize.maximize) == (
        "cifar10_resnet20",
        "layer3.2.conv2",
        "never",
    )
    with pytest.raises(SettingsError) as caught:
        checked_overrides(["experiment=[cifar10_resnet20,randomised]"])
    assert str(caught.value).endswith("; got 'randomised'.")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["layer=conv1"], ["layer=conv1", "paths.outputs='{cwd}/outputs'"]),
        (["paths.outputs=there", "layer=conv1"], ["layer=conv1", "paths.outputs='{cwd}/there'"]),
        (["paths.outputs='it\\'s here'"], ["paths.outputs='{cwd}/it\\'s here'"]),
        (["paths.outputs=/elsewhere"], ["paths.outputs='/elsewhere'"]),
    ],
)
def test_the_outputs_of_a_sweep_are_one_folder_whatever_the_working_folder_of_its_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], expected: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = with_absolute_outputs(overrides)
    assert found == [text.format(cwd=tmp_path) for text in expected]
    assert Path(compose_settings(found).paths.outputs).is_absolute()


def test_every_group_is_tested() -> None:
    assert {path.name for path in conf_dir().iterdir() if path.is_dir()} == {*GROUPS, "hydra"}


@pytest.mark.parametrize("name", ["resnet18", "vgg16", "squeezenet1_1", "densenet161", "densenet121"])
def test_each_network_of_the_original_scripts_has_a_file(name: str) -> None:
    model = compose_settings([f"model={name}"]).model
    assert (model.name, model.weights, model.transform.kind) == (name, "IMAGENET1K_V1", "weights")


def test_both_spellings_of_a_layer_are_accepted() -> None:
    assert checked_overrides(["layer=layer4[1].conv2"]) == ["layer=layer4.1.conv2"]
    assert checked_overrides(["layer=layer4[0].conv1,layer4[1].conv2"], is_sweep=True) == [
        "layer=layer4.0.conv1,layer4.1.conv2"
    ]
    assert compose_settings(["layer=features[28]"]).layer == "features.28"


def test_a_list_is_not_taken_for_a_layer_with_brackets() -> None:
    assert checked_overrides(["model.input_size=[3,64,64]"]) == ["model.input_size=[3,64,64]"]


def test_the_message_for_an_unknown_option_lists_the_options_of_the_group() -> None:
    with pytest.raises(SettingsError) as caught:
        checked_overrides(["model=resnet50", "data=pigeons"])
    assert str(caught.value).splitlines() == [
        "model must be one of cifar10_resnet20, densenet121, densenet161, digits_cnn, efficientnet_lite0, mnist_cnn, "
        "resnet18, squeezenet1_1, street_level, timm, torchvision, transformers, vgg16; got 'resnet50'. "
        "Any torchvision model works: model=torchvision model.name=resnet50.",
        "data must be one of digits, folder, manifest, street_view, torchvision, urls; got 'pigeons'.",
    ]


def test_null_is_refused_for_a_group_that_needs_an_option() -> None:
    with pytest.raises(SettingsError) as caught:
        checked_overrides(["target=null"])
    assert str(caught.value) == "target must be one of class, regression; got null."


@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local", "submitit_slurm", "ray"])
def test_a_launcher_is_refused_only_where_its_package_is_missing(
    launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overrides_module, "find_spec", lambda name: object())
    assert checked_overrides([f"hydra/launcher={launcher}"]) == [f"hydra/launcher={launcher}"]
    monkeypatch.setattr(overrides_module, "find_spec", lambda name: None)
    if launcher != "basic":
        with pytest.raises(
            SettingsError, match=rf"^hydra/launcher={launcher} must have its package installed; got none\. I"
        ):
            checked_overrides([f"hydra/launcher={launcher}"])
    with pytest.raises(SettingsError) as caught:
        checked_overrides(["hydra/launcher=pbs"])
    known = "basic, joblib, ray, submitit_local, submitit_slurm"
    assert str(caught.value) == f"hydra/launcher must be one of {known}; got 'pbs'."


def test_the_message_for_an_override_that_cannot_be_parsed_is_one_line() -> None:
    with pytest.raises(SettingsError) as caught:
        checked_overrides(["n_images=[3"])
    assert str(caught.value).count("\n") == 0
    assert str(caught.value).startswith("every argument must have the form setting=value; got n_images=[3 (")


def test_the_help_lists_the_main_settings_with_their_defaults() -> None:
    text = (conf_dir() / "hydra" / "help" / "pcace.yaml").read_text()
    settings = compose_settings([])
    for name in ("layer", "class_name", "target_class", "n_images", "n_components", "seed"):
        value = getattr(settings, name)
        assert f"{name}={'null' if value is None else value} " in text


def test_outputs_default_to_the_environment_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PCACE_OUTPUTS", str(tmp_path))
    assert compose_settings([]).paths.outputs == str(tmp_path)


def test_overrides_are_shown_as_the_user_entered_them() -> None:
    entered = ["score.bass=5", "data.root=x", "layer=conv1", "++model.arguments.width=2", "score=pearson"]
    assert [as_entered(override) for override in checked_overrides(entered)] == entered


def test_settings_that_did_not_exist_when_a_file_was_written_get_their_defaults() -> None:
    now = compose_settings(["visualize.n_top=7"])
    written = json.loads(json.dumps(asdict(now)))
    for group in ("activate", "network", "engine"):
        del written[group]
    del written["ablate"]["budget_tflop"], written["visualize"]["maximize_tflop"]
    assert settings_from(with_defaults(written)) == now
