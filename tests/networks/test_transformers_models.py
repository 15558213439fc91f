"""The image classifiers of transformers, from local folders and with random weights: nothing is downloaded."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pipeline.artifacts import Activations
from pipeline.config import compose_settings
from pipeline.errors import NetworkError
from pipeline.networks.class_labels import class_labels
from pipeline.networks.declared import class_names, input_shape
from pipeline.networks.identity import identity
from pipeline.networks.inputs import Preprocessing
from pipeline.networks.known import layout_of
from pipeline.networks.load import check_weights, load
from pipeline.runner import plan
from pipeline.runner import run as run_pipeline
from pipeline.settings import ModelSettings, Settings
from tests.helpers.project import in_ci
from tests.helpers.servers import photograph
from tests.helpers.settings import SMALL

if not in_ci():
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'pcace[transformers]'")

TINY: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
NAMES = {0: "dog", 1: "tabby", 2: "ship"}
TYPE = ["model.weights=random", *(f"+model.arguments.{name}={value}" for name, value in TINY.items())]


def model(name: str | Path, *overrides: str) -> ModelSettings:
    return compose_settings(["model=transformers", f"model.name={name}", *overrides]).model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as `save_pretrained` writes it: a small network, and a processor that resizes and crops."""
    transformers = pytest.importorskip("transformers")

    folder = tmp_path_factory.mktemp("vit")
    config = transformers.ViTConfig(**TINY, num_labels=3, id2label=NAMES, label2id={v: k for k, v in NAMES.items()})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.ViTForImageClassification(config).save_pretrained(folder)
    transformers.CLIPImageProcessor(
        size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}, image_mean=[0.5, 0.4, 0.3],
        image_std=[0.5, 0.25, 0.2],
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "mine")


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_a_folder_gives_its_weights_and_the_names_of_its_classes(folder: Path, images: torch.Tensor) -> None:
    transformers = pytest.importorskip("transformers")

    settings = model(folder)
    check_weights(settings)
    assert class_names(settings) == ("dog", "tabby", "ship")
    own = transformers.ViTForImageClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        assert torch.equal(load(settings, 0)(images).logits, own(images).logits)
        assert not torch.equal(load(model(folder, "model.weights=random"), 1)(images).logits, own(images).logits)


def test_images_become_what_the_image_processor_of_the_folder_makes_of_them(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")

    preprocessing = Preprocessing(model(folder))
    image = Image.effect_noise((100, 60), 60).convert("RGB")
    expected = transformers.AutoImageProcessor.from_pretrained(folder)(images=image, return_tensors="pt")
    assert torch.equal(preprocessing.transform(image), expected["pixel_values"][0])
    assert input_shape(model(folder)) == (3, 32, 32)
    mean, std = preprocessing.normalization
    torch.testing.assert_close(mean.flatten(), torch.tensor([0.5, 0.4, 0.3]))
    torch.testing.assert_close(std.flatten(), torch.tensor([0.5, 0.25, 0.2]))
    # The shorter side is resized to 40 pixels, of which the middle 32 remain: 48 of 60.
    np.testing.assert_allclose(preprocessing.visible_box(100, 60), (26, 6, 74, 54), atol=0.4)


PROCESSORS: dict[str, tuple[str, dict[str, Any], tuple[float, float, float, float]]] = {
    "stretched": ("ViTImageProcessor", {"size": {"height": 32, "width": 32}}, (0, 0, 90, 60)),
    "stretched and cropped": (
        "DeiTImageProcessor", {"size": {"height": 40, "width": 40}, "crop_size": {"height": 32, "width": 32}},
        (9, 6, 81, 54),
    ),
    "share": ("ConvNextImageProcessor", {"size": {"shortest_edge": 32}, "crop_pct": 0.8}, (21, 6, 69, 54)),
    "flipped": (
        "MobileViTImageProcessor", {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}},
        (21, 6, 69, 54),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", PROCESSORS)
def test_the_visible_part_is_right_for_every_processor(kind: str, folder: Path) -> None:
    transformers = pytest.importorskip("transformers")

    name, options, box = PROCESSORS[kind]
    (folder / "preprocessor_config.json").unlink()
    getattr(transformers, name)(**options).save_pretrained(folder)
    preprocessing = Preprocessing(model(folder))
    np.testing.assert_allclose(preprocessing.visible_box(90, 60), box, atol=0.5)
    pictures = preprocessing.to_pictures(preprocessing.transform(Image.new("RGB", (90, 60), (50, 100, 200)))[None])
    expected = [200, 100, 50] if kind == "flipped" else [50, 100, 200]
    np.testing.assert_allclose(pictures[0][16, 16].astype(int), expected, atol=1)


def test_the_key_contains_the_weights_and_the_processor_and_not_the_folder(folder: Path, tmp_path: Path) -> None:
    first = identity(model(folder), 0)
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    (moved / "README.md").write_text("the same network")
    assert identity(model(moved), 0) == first
    assert str(tmp_path) not in json.dumps(first)
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps({**config, "id2label": {"0": "a", "1": "b", "2": "c"}}))
    assert identity(model(moved), 0) == first  # names do not change what is computed
    weights = load_file(moved / "model.safetensors")
    weights["classifier.bias"][1] += 1
    save_file(weights, moved / "model.safetensors", metadata={"format": "pt"})
    assert identity(model(moved), 0)["weights"] != first["weights"]
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**processor, "image_mean": [0, 0, 0]}))
    assert identity(model(folder), 0)["architecture"] != first["architecture"]
    resized = model(folder, "model.transform.kind=resize", "model.transform.size=32")
    assert "processor" not in identity(resized, 0)["architecture"]  # it is not used


def test_a_type_of_model_has_seeded_random_weights_and_values_of_the_configuration(images: torch.Tensor) -> None:
    settings = model("vit", *TYPE)
    with torch.no_grad():
        one, again, other = (load(settings, seed)(images).logits for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert input_shape(settings) == (3, 32, 32)
    assert class_names(settings) is None
    found = identity(settings, 0)
    assert found["weights"].keys() == {"random", "torch", "transformers"}
    assert found["architecture"]["configuration"]["hidden_size"] == 16
    image = Image.effect_noise((50, 40), 60).convert("RGB")
    resized = model("vit", *TYPE, "model.transform.kind=resize", "model.transform.size=32")
    assert torch.equal(Preprocessing(settings).transform(image), Preprocessing(resized).transform(image))


def test_imagenets_names_are_the_first_of_their_synonyms() -> None:
    assert class_labels({0: "red, small", 1: "blue"}) == ("red, small", "blue")
    names = {index: f"class {index}, another name" for index in range(1000)}
    assert class_labels(names) == tuple(f"class {index}" for index in range(1000))
    assert class_labels({0: "LABEL_0", 1: "LABEL_1"}) is None


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def base(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["ViTModel"]}))


def headless(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("classifier")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def uncropped(folder: Path) -> None:
    config = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**config, "do_center_crop": False}))


FOLDERS: list[tuple[Callable[[Path], None], tuple[str, ...], str]] = [
    (
        without("config.json"), (),
        "model.name must be a folder that save_pretrained has written; got 'FOLDER', which does not contain "
        "config.json. Give the folder with the configuration and the weights.",
    ),
    (
        base, (),
        "model.name must be a network with class scores (ForImageClassification); got 'FOLDER' with ViTModel, which "
        "returns something else. Save it with a classifier, or set model.factory to a network of your own that "
        "computes a score from it.",
    ),
    (
        headless, (),
        "model.name must have all weights of a ViTForImageClassification; got 'FOLDER', which lacks or has in another "
        "shape: classifier.bias, classifier.weight. Check model.arguments, or use model.weights=random.",
    ),
    (
        uncropped, (),
        "model.transform.kind must be resize or none if the image processor does not make all images equally large; "
        "got weights ('FOLDER', 40 x 60 and 60 x 40 pixels for two images). Set model.transform.kind=resize, size, "
        "mean and std.",
    ),
    (
        lambda folder: None, ("+model.arguments.hidden_sise=8",),
        "model.arguments must be values of the model's configuration; got hidden_sise (transformers' FOLDER; its "
        "values are hidden_size, hidden_act, architectures, attention_probs_dropout_prob, chunk_size_feed_forward, "
        "dtype, encoder_stride, hidden_dropout_prob and 20 more). Correct or remove them.",
    ),
    (
        lambda folder: None, ("model.weights=IMAGENET1K_V1",),
        "model.weights must be DEFAULT or random; got 'IMAGENET1K_V1' (transformers' 'FOLDER'). Set model.name to the "
        "folder of the weights, or model.checkpoint to a file.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "overrides", "message"), FOLDERS)
def test_a_folder_that_is_not_complete_is_rejected(
    change: Callable[[Path], None], overrides: tuple[str, ...], message: str, folder: Path
) -> None:
    change(folder)
    with pytest.raises(NetworkError) as caught:
        check_weights(model(folder, *overrides))
        layout_of(model(folder, *overrides))
    assert str(caught.value).replace(str(folder), "FOLDER") == message


def test_a_folder_without_a_processor_needs_a_transform(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(NetworkError, match=r"^model\.transform\.kind must be resize or none for a model without an"):
        input_shape(model(folder))
    assert layout_of(model(folder, "model.transform.kind=resize", "model.transform.size=32")).n_outputs == 3


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        (
            "vitt", (),
            "model.name must be a folder that save_pretrained has written, hf-hub:OWNER/NAME, or one of transformers' "
            "types of image classifiers; got 'vitt'. Nearest types: vit, levit, pvt. Check the path of the folder.",
        ),
        (
            "vit", (),
            "model.weights must be random for a type of model; got DEFAULT (transformers' 'vit'). Set "
            "model.weights=random or model.checkpoint, or set model.name to a folder or to hf-hub:OWNER/NAME.",
        ),
        (
            "vit", ("model.weights=random", "+model.arguments.hidden_size=many"),
            "model.arguments must suit the network; got hidden_size=many (transformers' vit, "
            "StrictDataclassFieldValidationError: Validation error for field 'hidden_size': TypeError: Field "
            "'hidden_size' expected int, got str (value: 'many')). Correct or remove them.",
        ),
    ],
)  # fmt: skip
def test_unknown_types_and_values_are_rejected(name: str, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(NetworkError) as caught:
        layout_of(model(name, *overrides))
        check_weights(model(name, *overrides))
    assert str(caught.value) == message


def test_a_model_of_the_hub_comes_from_the_cache_and_is_identified_by_its_commit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: torch.Tensor
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    commit, kept = "0123456789abcdef0123456789abcdef01234567", tmp_path / "hub" / "models--someone--small"
    shutil.copytree(folder, kept / "snapshots" / commit)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(commit)
    settings = model("hf-hub:someone/small")
    assert class_names(settings) == ("dog", "tabby", "ship")
    assert identity(settings, 0)["weights"] == {"hub": "someone/small", "commit": commit}
    with torch.no_grad():
        assert torch.equal(load(settings, 0)(images).logits, load(model(folder), 0)(images).logits)
    assert input_shape(settings) == (3, 32, 32)
    with pytest.raises(NetworkError) as caught:
        layout_of(model("hf-hub:someone/else"))
    assert str(caught.value).startswith(
        "model.name must be in the cache of the Hugging Face hub or downloadable; got 'hf-hub:someone/else' ("
    )


def test_the_message_about_the_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(NetworkError) as caught:
        class_names(model("vit"))
    assert str(caught.value) == (
        "model.library must be installed; got transformers, which is not installed. "
        'Run pip install "pcace[transformers]".'
    )


def test_titles_contain_the_last_part_of_a_path() -> None:
    assert [model(name).label for name in ("/home/me/cats", "./vit", "vit", "hf-hub:someone/cats")] == [
        "cats", "vit", "vit", "hf-hub:someone/cats",
    ]  # fmt: skip


def settings_of(folder: Path, tmp_path: Path, *overrides: str) -> Settings:
    photos = tmp_path / "photos" / "tabby"
    photos.mkdir(parents=True, exist_ok=True)
    for index in range(8):
        (photos / f"{index}.jpg").write_bytes(photograph(index, (80, 70)))
    return compose_settings(
        [
            *SMALL, f"paths.outputs={tmp_path / 'outputs'}", "model=transformers", f"model.name={folder}",
            "layer=vit.layers[1].mlp.activation_fn", "data=folder", f"data.root={tmp_path / 'photos'}", "n_images=8",
            "class_name=tabby", "ablate.when=never", *overrides,
        ]
    )  # fmt: skip


def test_a_network_of_a_folder_is_ranked_and_new_weights_give_new_results(folder: Path, tmp_path: Path) -> None:
    settings = settings_of(folder, tmp_path)
    result = run_pipeline(settings, tmp_path / "run")
    found = result.artifacts[Activations]
    assert found.maps.shape == (32, 8, 4, 4)
    with torch.no_grad():
        inputs = Preprocessing(settings.model).load(sorted((tmp_path / "photos" / "tabby").iterdir()))
        expected = load(settings.model, 0)(inputs).logits[:, 1].numpy()
    np.testing.assert_allclose(np.sort(found.class_score), np.sort(expected), rtol=0, atol=1e-5)
    before = plan(result.settings)
    assert plan(result.settings) == before
    weights = load_file(folder / "model.safetensors")
    save_file({name: 2 * value for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    after = plan(result.settings)
    assert after["activate"] != before["activate"]
    (tmp_path / "other").mkdir()
    place = str(folder.rename(tmp_path / "other" / folder.name))
    assert plan(replace(result.settings, model=replace(result.settings.model, name=place))) == after
    assert after["download"] == before["download"]
