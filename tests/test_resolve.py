from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pipeline.errors import InputError, NetworkError, SettingsError
from pipeline.resolve import check_network, resolve
from tests.helpers.settings import Compose


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """Return the override for a folder with three classes of five images."""
    for name in ("cat", "crane", "tabby"):
        for index in range(5):
            (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
            Image.effect_noise((16, 16), 60).save(tmp_path / "photos" / name / f"{index}.png")
    return f"data.root={tmp_path / 'photos'}"


def resolved_class(compose: Compose, *overrides: str) -> tuple[str | None, int | None]:
    settings = resolve(compose("n_images=5", *overrides))
    return settings.class_name, settings.target_class


def test_the_name_gives_the_index_and_the_index_gives_the_name(compose: Compose) -> None:
    assert resolved_class(compose, "class_name=3") == ("3", 3)
    assert resolved_class(compose, "class_name=null", "target_class=4") == ("4", 4)
    assert resolved_class(compose, "class_name=5", "target_class=5") == ("5", 5)


def test_the_names_of_imagenet_come_with_the_weights(compose: Compose, photos: str) -> None:
    resnet = ("model=resnet18", "data=folder", photos)
    assert resolved_class(compose, *resnet, "class_name=tabby") == ("tabby", 281)
    assert resolved_class(compose, *resnet, "class_name=null", "target_class=281") == ("tabby", 281)
    # A folder may use another name for the class (n02123045, cat); the index then identifies it.
    assert resolved_class(compose, *resnet, "class_name=cat", "target_class=281") == ("cat", 281)


def test_a_name_of_two_classes_needs_the_index(compose: Compose) -> None:
    shared = "model.class_names=['0','1','2','3','4','5','6','7','8','8']"
    with pytest.raises(SettingsError) as caught:
        resolved_class(compose, shared, "class_name=8")
    assert str(caught.value) == (
        "class_name must identify one class; got '8', the name of the classes 8, 9. Give target_class as well."
    )
    assert resolved_class(compose, shared, "class_name=8", "target_class=9") == ("8", 9)


def test_with_random_weights_any_class_of_the_data_can_be_selected(compose: Compose, photos: str) -> None:
    untrained = ("model=vgg16", "model.weights=random", "data=folder", photos)
    assert resolved_class(compose, *untrained, "class_name=cat") == ("cat", 0)
    assert resolved_class(compose, *untrained, "class_name=tabby") == ("tabby", 281)


def test_the_classes_of_a_folder_are_the_outputs_if_there_are_as_many(compose: Compose, photos: str) -> None:
    own = ("model.factory=torchvision.models:squeezenet1_1", "+model.arguments.num_classes=3", "model.class_names=null",
           "model.weights=random", "model.input_size=[3,64,64]", "model.transform.mean=[0,0,0]",
           "model.transform.std=[1,1,1]", "data=folder", photos)  # fmt: skip
    assert resolved_class(compose, *own, "class_name=crane") == ("crane", 1)
    assert resolved_class(compose, *own, "class_name=null", "target_class=2") == ("tabby", 2)


def test_a_class_that_cannot_be_determined_must_be_given(compose: Compose, photos: str) -> None:
    unnamed = ("model.class_names=null", "data=folder", photos)
    with pytest.raises(SettingsError) as caught:
        resolve(compose("class_name=null"))
    assert str(caught.value) == (
        "class_name or target_class must be given; got neither. Add class_name=... to the command."
    )
    with pytest.raises(SettingsError) as caught:
        resolve(compose(*unnamed, "class_name=cat"))
    assert str(caught.value) == (
        "target_class must be given; got null (it is not known which output of the network is 'cat'). "
        "Add target_class=... or model.class_names=[...]."
    )
    with pytest.raises(SettingsError) as caught:
        resolve(compose(*unnamed, "class_name=null", "target_class=1"))
    assert str(caught.value) == (
        "class_name must be given; got null (it is not known which of cat, crane, tabby is class 1). "
        "Add class_name=... or model.class_names=[...]."
    )


def test_a_name_and_an_index_that_contradict_each_other_are_rejected(compose: Compose) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(compose("class_name=3", "target_class=5"))
    assert str(caught.value) == (
        "class_name and target_class must refer to the same class; got '3' and 5 (class 5 is '5'). "
        "Give only one of them."
    )
    with pytest.raises(SettingsError) as caught:
        resolve(compose("class_name=null", "target_class=10"))
    assert str(caught.value) == (
        "target_class must be in [0, 9]; got 10 (model 'digits_cnn'). Give the index of one of the network's outputs."
    )


def test_the_message_about_an_unknown_class_lists_the_nearest_names(compose: Compose, photos: str) -> None:
    with pytest.raises(
        SettingsError, match=r"^class_name must be one of the network's 10 classes; got '10'\. Nearest:"
    ):
        resolve(compose("class_name=10"))
    with pytest.raises(SettingsError, match=r"1000 classes; got 'tabbi'\. Nearest: tabby"):
        resolve(compose("model=resnet18", "data=folder", photos, "class_name=tabbi"))


def test_the_layer_is_resolved_to_its_dotted_path(compose: Compose) -> None:
    for spelling in ("layer4.1.conv2", "layer4[1].conv2"):
        assert resolve(replace(compose(), layer=spelling)).layer == "layer4.1.conv2"


def test_settings_that_the_network_does_not_allow_are_rejected(compose: Compose) -> None:
    with pytest.raises(NetworkError, match=r"^layer must be one of the network's layers; got 'conv9'\. Nearest: conv"):
        check_network(resolve(compose("layer=conv9")))
    with pytest.raises(InputError) as caught:
        check_network(resolve(compose("n_images=100", "n_components=65")))
    assert str(caught.value) == (
        "n_components must be in [1, 64]; got 65 (100 images, maps of 8 x 8 pixels). "
        "Lower it, or choose a layer with larger maps."
    )
    unnamed = resolve(compose("model.class_names=null", "class_name=8", "target_class=10"))
    with pytest.raises(InputError) as caught:
        check_network(unnamed)
    assert str(caught.value) == (
        "target_class must be in [0, 9]; got 10 (model 'digits_cnn'). Give the index of one of the network's outputs."
    )
