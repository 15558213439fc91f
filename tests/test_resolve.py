from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pipeline.errors import InputError, NetworkError, SettingsError
from pipeline.resolve import check_network, resolve
from tests.helpers.settings import Compose


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """Three classes of five images; the override that reads them."""
    for name in ("cat", "crane", "tabby"):
        for index in range(5):
            (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
            Image.effect_noise((16, 16), 60).save(tmp_path / "photos" / name / f"{index}.png")
    return f"data.root={tmp_path / 'photos'}"


def resolved_class(compose: Compose, *overrides: str) -> tuple[str | None, int | None]:
    settings = resolve(compose("n_images=5", *overrides))
    return settings.class_name, settings.target_class


def test_name_and_index_follow_from_one_another(compose: Compose) -> None:
    assert resolved_class(compose, "class_name=3") == ("3", 3)
    assert resolved_class(compose, "class_name=null", "target_class=4") == ("4", 4)
    assert resolved_class(compose, "class_name=5", "target_class=5") == ("5", 5)


def test_the_weights_know_imagenets_names(compose: Compose, photos: str) -> None:
    resnet = ("model=resnet18", "data=folder", photos)
    assert resolved_class(compose, *resnet, "class_name=tabby") == ("tabby", 281)
    assert resolved_class(compose, *resnet, "class_name=null", "target_class=281") == ("tabby", 281)
    # A folder may spell a class otherwise (n02123045, cat): the index then says what is meant.
    assert resolved_class(compose, *resnet, "class_name=cat", "target_class=281") == ("cat", 281)


def test_a_name_that_two_classes_share_needs_the_index(compose: Compose) -> None:
    shared = "model.class_names=['0','1','2','3','4','5','6','7','8','8']"
    with pytest.raises(SettingsError) as caught:
        resolved_class(compose, shared, "class_name=8")
    assert str(caught.value) == (
        "class_name must name one class; got '8', which classes 8, 9 are called. Give target_class as well."
    )
    assert resolved_class(compose, shared, "class_name=8", "target_class=9") == ("8", 9)


def test_random_weights_take_any_output(compose: Compose, photos: str) -> None:
    untrained = ("model=vgg16", "model.weights=random", "data=folder", photos)
    assert resolved_class(compose, *untrained, "class_name=cat") == ("cat", 0)
    assert resolved_class(compose, *untrained, "class_name=tabby") == ("tabby", 281)


def test_a_folder_with_a_class_per_output_is_in_order(compose: Compose, photos: str) -> None:
    own = ("model.factory=torchvision.models:squeezenet1_1", "+model.arguments.num_classes=3", "model.class_names=null",
           "model.weights=random", "model.input_size=[3,64,64]", "model.transform.mean=[0,0,0]",
           "model.transform.std=[1,1,1]", "data=folder", photos)  # fmt: skip
    assert resolved_class(compose, *own, "class_name=crane") == ("crane", 1)
    assert resolved_class(compose, *own, "class_name=null", "target_class=2") == ("tabby", 2)


def test_what_cannot_be_told_is_asked_for(compose: Compose, photos: str) -> None:
    unnamed = ("model.class_names=null", "data=folder", photos)
    with pytest.raises(SettingsError) as caught:
        resolve(compose("class_name=null"))
    assert str(caught.value) == (
        "class_name or target_class must be given; got neither. Add class_name=... to the command."
    )
    with pytest.raises(SettingsError) as caught:
        resolve(compose(*unnamed, "class_name=cat"))
    assert str(caught.value) == (
        "target_class must be given; got null, and nothing says which output of the network is 'cat'. "
        "Add target_class=..., or model.class_names=[...]."
    )
    with pytest.raises(SettingsError, match=r"^class_name must be given; got null, and nothing says which of cat, cr"):
        resolve(compose(*unnamed, "class_name=null", "target_class=1"))


def test_contradictions_are_refused(compose: Compose) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(compose("class_name=3", "target_class=5"))
    assert str(caught.value) == (
        "class_name and target_class must mean one class; got '3' and 5, which is '5'. Give one of the two."
    )
    with pytest.raises(SettingsError) as caught:
        resolve(compose("class_name=null", "target_class=10"))
    assert str(caught.value) == "target_class must be in [0, 9]; got 10 (model 'digits_cnn')."


def test_an_unknown_class_lists_the_nearest(compose: Compose, photos: str) -> None:
    with pytest.raises(
        SettingsError, match=r"^class_name must be one of the network's 10 classes; got '10'\. Nearest:"
    ):
        resolve(compose("class_name=10"))
    with pytest.raises(SettingsError, match=r"1000 classes; got 'tabbi'\. Nearest: tabby"):
        resolve(compose("model=resnet18", "data=folder", photos, "class_name=tabbi"))


def test_both_spellings_resolve_to_one_layer(compose: Compose) -> None:
    assert resolve(compose("layer=layer4.1.conv2")).layer == "layer4.1.conv2"


def test_what_only_the_network_can_tell_is_refused_before_any_work(compose: Compose) -> None:
    with pytest.raises(NetworkError, match=r"^layer must be one of the network's layers; got 'conv9'\. Nearest: conv"):
        check_network(resolve(compose("layer=conv9")))
    with pytest.raises(InputError) as caught:
        check_network(resolve(compose("n_images=100", "n_components=65")))
    assert str(caught.value) == (
        "n_components must be in [1, 64]; got 65 (100 images, maps of 8 x 8 pixels). "
        "Lower it, or choose a layer with larger maps."
    )
    unnamed = resolve(compose("model.class_names=null", "class_name=8", "target_class=10"))
    with pytest.raises(InputError, match=r"^target_class must be in \[0, 9\]; got 10 \(model 'digits_cnn'\)\.$"):
        check_network(unnamed)
