"""Wrong arguments of `pcace.rank` are reported in one line each, before anything is computed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import pcace

IMAGES = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


class Noise(nn.Module):
    """Outputs with noise, also in evaluation mode."""

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs + torch.randn_like(outputs)


class Detached(nn.Sequential):
    """A network whose outputs have no gradients."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = super().forward(images)  # type: ignore[no-untyped-call]
        return outputs.detach()


def rank(**changed: Any) -> pcace.Ranking:
    arguments: dict[str, Any] = {"model": network(), "images": IMAGES, "layer": "0", "target": 1, "ranker": "pearson"}
    return pcace.rank(**{**arguments, "progress": False, **changed})


PICTURES = [Image.new("L", (8, 8), index) for index in range(20)]
CASES: dict[str, tuple[Callable[[], dict[str, Any]], str | re.Pattern[str]]] = {
    "a ranker that does not exist": (
        lambda: {"ranker": "persona"},
        "ranker must be one of ablation, ace, conductance, deeplift, distance_correlation, gradient_x_activation, "
        "integrated_gradients, mean_activation, multiple_correlation, mutual_information, pearson, weight_norm; "
        "got 'persona'. Did you mean pearson?",
    ),
    "a setting that does not exist": (
        lambda: {"bootstrp": 4},
        "bootstrp must be a setting of a ranking in memory; got 4. Did you mean bootstrap?",
    ),
    "an argument that is misspelt": (
        lambda: {"n_imgs": 4},
        "n_imgs must be a setting of a ranking in memory; got 4. Did you mean n_images?",
    ),
    "a setting of another ranker": (
        lambda: {"settings": {"score": {"n_steps": 4}}},
        "n_steps must be a setting of a ranking in memory; got 4. "
        "The settings of pearson are bootstrap, top_k; docs/python.md lists the others.",
    ),
    "the engine of the command line": (
        lambda: {"engine": "ray"},
        "engine must be a setting of a ranking in memory; got 'ray'. Use the command: pcace run engine=ray.",
    ),
    "the ranker as on the command line": (
        lambda: {"score": "ace"},
        "score must be a setting of a ranking in memory; got 'ace'. Give ranker='ace'.",
    ),
    "two wrong values": (
        lambda: {"n_components": 0, "bootstrap": 3.5},
        "n_components must be a whole number of at least 1, a share of the variance in (0, 1), or auto; got 0.\n"
        "bootstrap must be a whole number; got 3.5.",
    ),
    "a setting of the smoother that is not used": (
        lambda: {"ranker": "ace", "bass": 3, "settings": {"score": {"maxit": 50}}},
        'bass must be left at 5.0 with smoother="spline", which does not use it; got 3. Add smoother="supersmoother".\n'
        'maxit must be left at 20 with smoother="spline", which does not use it; got 50. Add smoother="supersmoother".',
    ),
    "an odd number of halves": (
        lambda: {"bootstrap": 3},
        "bootstrap must be even, halves come in pairs; got 3.",
    ),
    "no layer": (
        lambda: {"layer": []},
        "layer must name at least one layer; got an empty list. Give names or patterns.",
    ),
    "a pattern without a match": (
        lambda: {"layer": "features.*"},
        "layer must match layers of the network; got the pattern 'features.*', which matches none. Nearest: 1, 2, 3. "
        "pcace.layers(model, images) lists all.",
    ),
    "a layer by its index": (
        lambda: {"layer": 0},
        "layer must be the name of a layer or a module; got int. pcace.layers lists the layers that can be ranked.",
    ),
    "a module of another network": (
        lambda: {"layer": nn.Conv2d(1, 2, 3)},
        "layer must be a module inside of the network; got another one (Conv2d). "
        "pcace.layers lists the layers that can be ranked.",
    ),
    "a layer that does not exist": (
        lambda: {"layer": "9"},
        "layer must be one of the network's layers; got '9'. Nearest: 1, 2, 3. pcace.layers(model, images) lists all.",
    ),
    "no network": (
        lambda: {"model": "resnet18"},
        "model must be a torch.nn.Module; got str. Pass the network itself.",
    ),
    "a lazy network": (
        lambda: {"model": nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3))},
        "model must have initialised parameters; got lazy ones (0.weight, 0.bias, 2.weight and 1 more). "
        "Call the network once on a batch of images.",
    ),
    "no target": (
        lambda: {"target": None},
        "target must be given for a network with 3 outputs; got None. "
        "Give the index of a class, or a function of the outputs.",
    ),
    "a class that does not exist": (
        lambda: {"target": 3},
        "target must be in [0, 2], the outputs of the network; got 3.",
    ),
    "a negative class": (
        lambda: {"target": -1},
        "target must be the index of a class, the name of one, a function of the outputs or None; got -1.",
    ),
    "a name without names": (
        lambda: {"target": "cat"},
        "target must be an index where the names of the classes are not known; got 'cat'. "
        "Give class_names=[...] as well.",
    ),
    "a name that does not exist": (
        lambda: {"target": "cats", "class_names": ["cat", "dog", "ship"]},
        "target must be the name of one class; got 'cats' (there is none). Nearest: cat. An index is always possible.",
    ),
    "names of other classes": (
        lambda: {"class_names": ["cat", "dog"]},
        "class_names must have one name for each of the 3 outputs of the network; got 2.",
    ),
    "arrays with the channels last": (
        lambda: {"images": np.zeros((20, 8, 9, 3), dtype=np.float32)},
        "images in arrays must have the channels before height and width; got shape (20, 8, 9, 3), which looks like "
        "channels last. Give array.transpose(0, 3, 1, 2), or transform=..., which does so for one image; a tensor is "
        "passed to the network as it is.",
    ),
    "a list of arrays with the channels last": (
        lambda: {"images": [np.zeros((8, 9, 3))] * 20},
        "images in arrays must have the channels before height and width; got shape (8, 9, 3), which looks like "
        "channels last. Give array.transpose(2, 0, 1), or transform=..., which does so for one image; a tensor is "
        "passed to the network as it is.",
    ),
    "images of several types": (
        lambda: {"images": [torch.rand(1, 8, 8), torch.rand(1, 8, 8).double()]},
        "all images must have one type; got float32 and float64 (image 1). Convert them to one of the two.",
    ),
    "images that the network cannot process": (
        lambda: {"images": torch.rand(20, 2, 8, 8)},
        re.compile(
            r"the network must process the images; got RuntimeError: .* \(input of shape \(2, 2, 8, 8\)\)\. "
            r"Check the shape of the images and the code of the network\."
        ),
    ),
    "a function that returns all outputs": (
        lambda: {"target": lambda outputs: outputs},
        "target must return a tensor with one real number for each image, (n_images,); got shape (2, 3).",
    ),
    "a function that returns a number": (
        lambda: {"target": lambda outputs: 1.0},
        "target must return a tensor with one real number for each image; got type float.",
    ),
    "a constant class score": (
        lambda: {"target": lambda outputs: outputs[:, 0] * 0 + 2},
        "class scores must differ between images; got 2 for every image (a function of the outputs, 20 images). "
        "Check that the weights are trained, the images differ and their normalisation is that of the training.",
    ),
    "pictures without a transform": (
        lambda: {"images": PICTURES},
        "transform must be given for images that are not tensors; got PIL images. Pass the transform that the weights "
        "need, for example ResNet18_Weights.DEFAULT.transforms().",
    ),
    "one picture": (
        lambda: {"images": PICTURES[0]},
        "images must be several images; got one (Image). Pass a list of images, a tensor, a Dataset, a DataLoader or "
        "batches.",
    ),
    "whole numbers": (
        lambda: {"images": (IMAGES * 255).byte()},
        "images must be floating-point inputs of the network; got type uint8. "
        "Normalise them as in training, or give transform=..., which does so for one image.",
    ),
    "images of several sizes": (
        lambda: {"images": [torch.rand(1, 8, 8), torch.rand(1, 8, 9)]},
        "all images must have one shape; got 1 x 8 x 8 and 1 x 8 x 9 (image 1). "
        "Resize them, for example in transform=...",
    ),
    "no images": (
        lambda: {"images": iter(())},
        "images must contain at least one image; got none. A generator can be read only once.",
    ),
    "something else": (
        lambda: {"images": 3},
        "images must be a tensor, an array, a list, a Dataset, a DataLoader or batches; got int.",
    ),
    "text in an array": (
        lambda: {"images": np.array(["a", "b"])},
        "images must be tensors, arrays or PIL images; got ndarray.",
    ),
    "a dictionary without images": (
        lambda: {"images": {"first": IMAGES, "second": IMAGES}},
        "images in dictionaries must have one of the names pixel_values, image, images, img, inputs, input, x, data, "
        "or be the only images; got the names first, second. Pass the images alone.",
    ),
    "too few images": (
        lambda: {"images": IMAGES[:4]},
        "images must include at least 5 that differ; got 4 among 4. Add other images.",
    ),
    "copies of one image": (
        lambda: {"images": IMAGES[:1].repeat(30, 1, 1, 1)},
        "images must include at least 5 that differ; got 1 among 30. Add other images.",
    ),
    "more images than there are": (
        lambda: {"n_images": 21},
        "n_images must be at most 20, the number of images; got 21. Lower it.",
    ),
    "more components than pixels": (
        lambda: {"layer": "3", "n_components": 2},
        "n_components must be in [1, 1]; got 2 (20 images, maps of 1 x 1 pixels). "
        "Lower it, or choose a layer with larger maps.",
    ),
    "random outputs": (
        lambda: {"model": nn.Sequential(*network(), Noise())},
        re.compile(
            r"the network must give an image the same outputs in every pass; got outputs that differ by \S+ % between "
            r"two passes over the same images\. Switch off dropout and random augmentation in evaluation mode, e\.g\. "
            r"functional\.dropout\(x, p, self\.training\)\."
        ),
    ),
    "outputs that depend on the batch": (
        lambda: {"model": nn.Sequential(*network(), nn.BatchNorm1d(3, track_running_stats=False))},
        re.compile(
            r"the network must compute an image's outputs independently of the other images in the batch; got outputs "
            r"that differ by \S+ % between single images and a batch.*\. Use batch normalisation in evaluation mode "
            r"with running statistics, or normalise each image by itself\."
        ),
    ),
    "a layer that no gradient reaches": (
        lambda: {"model": Detached(*network()), "ranker": "conductance"},
        "gradients must pass from the network's outputs to the layer; got none (layer '0'). Remove torch.no_grad and "
        'detach from the network, or choose a ranker that needs no gradients, for example ranker="ablation".',
    ),
    "a ranker that cannot score the layer": (
        lambda: {"layer": "1", "ranker": "weight_norm"},
        'layer must have weights for each of its 4 channels for ranker="weight_norm"; got a layer of type ReLU. '
        "Choose a convolution or a linear layer.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_arguments_are_reported_in_one_line(case: str) -> None:
    changed, message = CASES[case]
    with pytest.raises(pcace.PipelineError) as caught:
        rank(**changed())
    if isinstance(message, re.Pattern):
        assert message.fullmatch(str(caught.value)) is not None
    else:
        assert str(caught.value) == message


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_scripted_network_is_rejected() -> None:
    with pytest.raises(pcace.PipelineError) as caught:
        rank(model=torch.jit.script(network()))
    assert str(caught.value) == (
        "model must run in Python, so that the outputs of its layers can be read; got TorchScript modules "
        "(the network, 0, 1 and 2 more). Pass the network that was scripted or traced."
    )


def test_an_empty_generator_is_named() -> None:
    batches = iter(torch.split(IMAGES, 5))
    assert rank(images=batches).n_images == 20
    with pytest.raises(pcace.PipelineError, match=r"^images must contain at least one image; got none"):
        rank(images=batches)
