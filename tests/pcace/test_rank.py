"""`pcace.rank`: the forms of images, targets and layers that people have, and the network that is left as it was."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import pcace

N_IMAGES = 40
QUICK: dict[str, Any] = {"ranker": "pearson", "bootstrap": 0, "settings": {"ablate.when": "never"}, "progress": False}


class Small(nn.Module):
    """A network with everything that a ranking could change: dropout, batch normalisation and in-place activations."""

    def __init__(self, n_outputs: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.head = nn.Linear(6 * 36, n_outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images).flatten(1))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(N_IMAGES, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Small()


def maps(network: Any, images: object, **options: Any) -> np.ndarray[Any, Any]:
    """Return the maps of the first layer for images in any form."""
    return pcace.rank(network, images, "features.0", 1, **{**QUICK, **options}).activations.maps


class Pairs(Dataset[tuple[torch.Tensor, int]]):
    """A data set of images and labels."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images
        self.n_reads = 0

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.n_reads += 1
        return self.images[index], index


class Stream(IterableDataset[torch.Tensor]):
    """A data set without a length."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self.images)


class Dictionaries(Dataset[dict[str, Any]]):
    """A data set of dictionaries."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"label": index, "image": self.images[index]}


FORMS: dict[str, Callable[[torch.Tensor], object]] = {
    "array": lambda images: images.numpy(),
    "array of float64": lambda images: images.double().numpy(),
    "list of tensors": list,
    "list of arrays": lambda images: [image.numpy() for image in images],
    "list of pairs": lambda images: [(image, 0) for image in images],
    "pair of images and labels": lambda images: (images, torch.zeros(len(images), dtype=torch.long)),
    "dictionary": lambda images: {"labels": torch.zeros(len(images)), "pixel_values": images},
    "batches": lambda images: iter(torch.split(images, 7)),
    "batches with labels": lambda images: ((batch, torch.zeros(len(batch))) for batch in torch.split(images, 7)),
    "batches in dictionaries": lambda images: ({"image": batch, "label": 1} for batch in torch.split(images, 7)),
    "dataset": Pairs,
    "dataset of one tensor": TensorDataset,
    "dataset of dictionaries": Dictionaries,
    "stream": Stream,
    "loader": lambda images: DataLoader(Pairs(images), batch_size=9),
    "loader of one tensor": lambda images: DataLoader(TensorDataset(images), batch_size=9),
    "loader of dictionaries": lambda images: DataLoader(Dictionaries(images), batch_size=9),
    "loader of a stream": lambda images: DataLoader(Stream(images), batch_size=9),
    "loader without batches": lambda images: DataLoader(Pairs(images), batch_size=None),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_images_in_every_form_give_the_same_maps(form: str, network: nn.Module, images: torch.Tensor) -> None:
    assert maps(network, FORMS[form](images)).tobytes() == maps(network, images).tobytes()


def test_pictures_and_files_are_transformed(network: nn.Module, images: torch.Tensor, tmp_path: Path) -> None:
    levels = (images[:, 0] * 255).round().byte().numpy()
    pictures = [Image.fromarray(picture) for picture in levels]
    paths = [tmp_path / f"{index}.png" for index in range(N_IMAGES)]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)

    def transform(picture: Any) -> torch.Tensor:
        return torch.from_numpy(np.asarray(picture.convert("L")) / np.float32(255))[None]

    expected = maps(network, torch.from_numpy(levels / np.float32(255))[:, None])
    assert maps(network, pictures, transform=transform).tobytes() == expected.tobytes()
    assert maps(network, paths, transform=transform).tobytes() == expected.tobytes()
    assert maps(network, map(str, paths), transform=transform).tobytes() == expected.tobytes()


def test_images_are_read_once(network: nn.Module, images: torch.Tensor) -> None:
    data = Pairs(images)
    pcace.rank(network, data, "features.0", 1, ranker="gradient_x_activation", bootstrap=0, progress=False)
    assert data.n_reads == N_IMAGES


def test_n_images_limits_what_is_read(network: nn.Module, images: torch.Tensor) -> None:
    data = Pairs(images)
    assert maps(network, data, n_images=12).tobytes() == maps(network, images[:12]).tobytes()
    assert data.n_reads == 12


def test_a_shuffled_loader_with_workers_gives_the_same_ranking(network: nn.Module, images: torch.Tensor) -> None:
    loader = DataLoader(Pairs(images), batch_size=9, shuffle=True, num_workers=2)
    shuffled = pcace.rank(network, loader, "features.0", 1, **QUICK)
    ordered = pcace.rank(network, images, "features.0", 1, **QUICK)
    assert shuffled.activations.class_score.tolist() != ordered.activations.class_score.tolist()
    assert shuffled.channels == ordered.channels
    np.testing.assert_allclose(shuffled.to_frame().score, ordered.to_frame().score, rtol=0, atol=1e-6)


def test_layers_are_found_by_both_spellings_and_by_module(network: Small, images: torch.Tensor) -> None:
    expected = maps(network, images)
    for layer in ("features[0]", network.features[0]):
        found = pcace.rank(network, images, layer, 1, **QUICK)
        assert found.layer == "features.0"
        assert found.activations.maps.tobytes() == expected.tobytes()


def test_targets_by_index_name_and_function_are_the_same_outputs(network: nn.Module, images: torch.Tensor) -> None:
    def class_scores(target: Any, **options: Any) -> list[float]:
        return pcace.rank(network, images, "features.0", target, **QUICK, **options).activations.class_score.tolist()

    expected = class_scores(2)
    assert class_scores(np.int64(2)) == expected
    assert class_scores("ship", class_names=["cat", "dog", "ship"]) == expected
    assert class_scores(lambda outputs: outputs[:, 2]) == expected
    assert class_scores(lambda outputs: outputs[:, 2:]) == expected
    with torch.no_grad():
        difference = (network.eval()(images)[:, 0] - network(images)[:, 1]).double()
    found = class_scores(lambda outputs: outputs[:, 0] - outputs[:, 1])
    np.testing.assert_allclose(found, difference.numpy(), rtol=0, atol=1e-6)


def test_the_names_of_a_data_set_name_the_target(network: nn.Module, images: torch.Tensor) -> None:
    data = Pairs(images)
    data.classes = ["cat", "dog", "ship"]  # type: ignore[attr-defined]
    ranking = pcace.rank(network, DataLoader(data, batch_size=8), "features.0", "dog", **QUICK)
    assert ranking.settings.target_class == 1
    assert ranking.target == "class dog"


def test_a_network_with_one_output_needs_no_target(images: torch.Tensor) -> None:
    ranking = pcace.rank(Small(n_outputs=1), images, "features.0", **QUICK)
    assert ranking.target == "the output"
    assert ranking.to_frame().target_class.isna().all()


def test_copies_are_counted(network: nn.Module, images: torch.Tensor) -> None:
    ranking = pcace.rank(network, torch.cat([images, images[:10]]), "features.0", 1, **QUICK)
    assert ranking.images.n_copies == 10
    assert ranking.sentences[-1].startswith("10 of the 50 images are copies of others")


def test_a_wrapped_network_is_unwrapped(network: nn.Module, images: torch.Tensor) -> None:
    expected = maps(network, images)
    wrapped = nn.DataParallel(network)
    assert maps(wrapped, images).tobytes() == expected.tobytes()
    assert pcace.rank(wrapped, images, "module.features.0", 1, **QUICK).layer == "features.0"


def test_a_compiled_network_is_run_without_compilation(network: nn.Module, images: torch.Tensor) -> None:
    expected = maps(network, images)
    compiled = torch.compile(network, backend="eager")
    assert maps(compiled, images).tobytes() == expected.tobytes()
    assert pcace.rank(compiled, images, "_orig_mod.features.0", 1, **QUICK).layer == "features.0"
    network.compile(backend="eager")
    assert maps(network, images).tobytes() == expected.tobytes()
    assert network._compiled_call_impl is not None


def test_other_memory_formats_and_frozen_parameters(network: nn.Module, images: torch.Tensor) -> None:
    expected = maps(network, images)
    frozen = network.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    np.testing.assert_allclose(maps(frozen, images), expected, rtol=0, atol=1e-6)
    pcace.rank(frozen, images, "features.0", 1, **{**QUICK, "ranker": "conductance"})


def states(network: nn.Module) -> dict[str, Any]:
    """Return everything that a ranking must not change."""
    numpy_state = np.random.get_state()  # noqa: NPY002
    return {
        "modes": [module.training for module in network.modules()],
        "in place": [getattr(module, "inplace", None) for module in network.modules()],
        "hooks": [(len(each._forward_hooks), len(each._forward_pre_hooks)) for each in network.modules()],
        "gradients": [(each.requires_grad, each.grad) for each in network.parameters()],
        "values": {name: (value.data_ptr(), value.tolist()) for name, value in network.state_dict().items()},
        "python": random.getstate(),
        "numpy": [each.tolist() if isinstance(each, np.ndarray) else each for each in numpy_state],
        "torch": torch.get_rng_state().tolist(),
        "enabled": torch.is_grad_enabled(),
    }


# The rankers that run the network, and ACE, after which the channels are ablated.
RUNNING = ["ace", "weight_norm", "gradient_x_activation", "conductance", "integrated_gradients", "deeplift", "ablation"]


@pytest.mark.parametrize("ranker", RUNNING)
@pytest.mark.parametrize("is_training", [False, True])
def test_the_network_is_left_as_it_was_found(
    ranker: str, is_training: bool, network: Small, images: torch.Tensor
) -> None:
    network.train(is_training)
    network.features[1].eval()  # as in fine-tuning, where some modules have another mode
    before = states(network)
    loader = DataLoader(Pairs(images), batch_size=9, shuffle=True)
    options: dict[str, Any] = {"permutations": 5, "folds": 2} if ranker == "ace" else {}
    pcace.rank(network, loader, "features.0", 1, ranker=ranker, bootstrap=8, progress=False, **options)
    assert states(network) == before
    network.train()(images).sum().backward()


class Keeping(Small):
    """A network that computes a tensor in its first forward pass and uses it in all others, also in training."""

    position: torch.Tensor | None = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.position is None:
            self.position = torch.linspace(-1, 1, images.shape[-1], device=images.device)
        return super().forward(images * self.position)


def test_tensors_that_the_network_keeps_can_be_used_in_training(images: torch.Tensor) -> None:
    network = Keeping()
    pcace.rank(network, images, "features.0", 1, **QUICK)
    assert network.position is not None
    network.train()(images.clone().requires_grad_()).sum().backward()  # a tensor of inference mode would be refused


@pytest.mark.parametrize("ranker", RUNNING)
def test_no_forward_pass_runs_in_inference_mode(ranker: str, images: torch.Tensor) -> None:
    modes = set()

    class Recording(Small):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            modes.add(torch.is_inference_mode_enabled())
            return super().forward(images)

    options: dict[str, Any] = {"permutations": 5, "folds": 0} if ranker == "ace" else {}
    pcace.rank(Recording(), images, "features.0", 1, ranker=ranker, bootstrap=0, progress=False, **options)
    assert modes == {False}


def test_the_network_is_left_as_it_was_found_if_the_ranking_is_interrupted(
    network: Small, images: torch.Tensor
) -> None:
    network.train()

    def interrupt(outputs: torch.Tensor) -> torch.Tensor:
        torch.rand(3)
        random.random()
        np.random.rand()  # noqa: NPY002
        raise KeyboardInterrupt

    before = states(network)
    with pytest.raises(KeyboardInterrupt):
        pcace.rank(network, images, network.features[0], interrupt, **QUICK)
    assert states(network) == before


class Interrupted(Small):
    """A network that is interrupted when it runs the third time."""

    n_runs = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.n_runs += 1
        if self.n_runs == 3:
            torch.rand(3)
            raise KeyboardInterrupt
        return super().forward(images)


def test_an_interruption_while_images_are_read_or_the_network_runs_changes_nothing(
    network: Small, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reading() -> Iterator[torch.Tensor]:
        yield images
        random.random()
        raise KeyboardInterrupt

    def scoring(*_arguments: Any) -> None:
        np.random.rand()  # noqa: NPY002
        raise KeyboardInterrupt

    with torch.random.fork_rng():
        interrupted = Interrupted()
    for each, given in ((network, reading()), (interrupted, images), (network, images)):
        each.train()
        before = states(each)
        with pytest.raises(KeyboardInterrupt), monkeypatch.context() as context:
            if each is network and given is images:
                context.setattr("pcace._computation.load_stage", scoring)
            pcace.rank(each, given, "features.0", 1, **QUICK)
        assert states(each) == before


@pytest.mark.parametrize("ranker", ["ace", "conductance", "integrated_gradients", "deeplift"])
@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad])
def test_networks_are_ranked_inside_of_contexts_without_gradients(
    context: Callable[[], Any], ranker: str, network: Small, images: torch.Tensor
) -> None:
    options: dict[str, Any] = {"permutations": 2, "folds": 0} if ranker == "ace" else {}
    options |= {"ranker": ranker, "bootstrap": 0, "progress": False, "settings": {"ablate.when": "never"}}
    expected = pcace.rank(network, images, "features.0", 1, **options)
    with context():
        found = pcace.rank(network, images, "features.0", 1, **options)
    assert found.to_frame().equals(expected.to_frame())


def test_the_names_of_the_classes_are_kept(network: nn.Module, images: torch.Tensor) -> None:
    names = ("cat", "dog", "ship")
    network.pretrained_cfg = {"label_names": names}  # type: ignore[assignment]
    ranking = pcace.rank(network, images, "features.0", "dog", **QUICK)
    assert ranking.settings.model.class_names == names
    assert set(ranking.to_frame().class_name) == {"dog"}


def test_buffers_that_the_network_changes_are_restored(images: torch.Tensor) -> None:
    class Counting(Small):
        calls: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return super().forward(images)

    network = Counting()
    pcace.rank(network, images, "features.0", 1, **QUICK)
    assert network.calls == 0


def test_a_network_whose_mode_does_more_than_flags_is_restored_by_it(images: torch.Tensor) -> None:
    class Merging(Small):
        is_merged = False

        def train(self, mode: bool = True) -> Merging:
            self.is_merged = not mode
            super().train(mode)
            return self

    network = Merging()
    pcace.rank(network, images, "features.0", 1, **QUICK)
    assert network.training
    assert not network.is_merged


def test_nothing_is_written(
    network: nn.Module, images: torch.Tensor, tmp_path: Path, monkeypatch: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ranking = pcace.rank(network, images, "features.0", 1, bootstrap=0, permutations=5)
    ranking._repr_html_()
    assert os.listdir(tmp_path) == []
    assert capfd.readouterr() == ("", "")  # the progress is shown in terminals and notebooks only


def test_the_layers_are_listed_after_reading_two_images_at_most() -> None:
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Flatten(), nn.Linear(216, 3))

    def batches() -> Iterator[torch.Tensor]:
        yield torch.zeros(2, 1, 8, 8)
        pytest.fail("more images are read than needed")

    assert pcace.layers(model, batches()).layer.tolist() == ["0", "1", "2"]
    assert pcace.layers(model, torch.zeros(1, 1, 8, 8)).layer.tolist() == ["0", "1", "2"]


def test_the_layers_are_listed_for_pictures_with_a_transform() -> None:
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Flatten(), nn.Linear(216, 3))
    pictures = [Image.new("L", (8, 8))] * 3
    found = pcace.layers(model, pictures, transform=lambda picture: torch.from_numpy(np.asarray(picture) / 255.0)[None])
    assert found.layer.tolist() == ["0", "1", "2"]
