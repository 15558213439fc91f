"""Where a network looks for a class: class activation maps, exact where they exist, by gradients elsewhere.

CAM is defined for networks that end in global average pooling and one linear layer: the class score is then the
mean over the map of ``sum_c weight[class, c] * feature[c]`` (plus a bias), and that sum is the map. For all other
networks, Grad-CAM puts the mean gradient of the class score in the weight's place; on a network that has a CAM it
gives the same map, divided by the map's number of pixels.

References
----------
Zhou et al. (2016), "Learning deep features for discriminative localization", arXiv 1512.04150.
Selvaraju et al. (2017), "Grad-CAM: visual explanations from deep networks", arXiv 1610.02391.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.arrays import FloatArray
from pipeline.networks.hooks import attached

Method = Literal["CAM", "Grad-CAM"]


@dataclass(frozen=True)
class ClassActivation:
    """What a network predicts for some images, and where in the images it finds the class.

    Attributes
    ----------
    probabilities : ndarray of shape (n_images, n_classes)
        Softmax of the logits, in [0, 1].
    predicted : ndarray of shape (n_images,)
        Index of the likeliest class, int64.
    method : {"CAM", "Grad-CAM"} or None
        What the maps are; None where the network has no maps of more than one pixel.
    target_maps, predicted_maps : ndarray of shape (n_images, map_height, map_width) or None
        What each place adds to the target's, the predicted class's logit: unbounded, negative where it speaks
        against the class.
    """

    probabilities: FloatArray
    predicted: NDArray[np.int64]
    method: Method | None
    target_maps: FloatArray | None
    predicted_maps: FloatArray | None


@dataclass(frozen=True)
class _Pass:
    """What one forward pass showed: the logits, each module's maps, each linear layer's input and output."""

    logits: torch.Tensor
    maps: list[tuple[nn.Module, torch.Tensor]]
    linear: list[tuple[nn.Linear, torch.Tensor, torch.Tensor]]


def class_activation(network: nn.Module, inputs: torch.Tensor, target_class: int) -> ClassActivation:
    """Run `inputs`, (n_images, channels, height, width), and return predictions and class activation maps."""
    seen = _watch(network, inputs)
    probabilities = seen.logits.softmax(dim=1).cpu().numpy()
    predicted = seen.logits.argmax(dim=1)
    target = torch.full_like(predicted, target_class)
    head = _pooled_head(seen)
    method: Method | None = None
    found: list[FloatArray | None] = [None, None]
    if head is not None:
        method = "CAM"
        weight, features = head
        found = [torch.einsum("nc,nchw->nhw", weight[each], features).cpu().numpy() for each in (target, predicted)]
    elif seen.maps:
        method = "Grad-CAM"
        layer = next((module for module, _ in reversed(seen.maps) if isinstance(module, nn.Conv2d)), seen.maps[-1][0])
        found = [grad_cam(network, layer, inputs, each) for each in (target, predicted)]
    return ClassActivation(probabilities, predicted.cpu().numpy(), method, *found)


def grad_cam(network: nn.Module, layer: nn.Module, inputs: torch.Tensor, classes: torch.Tensor) -> FloatArray:
    """Return Grad-CAM before its last rectification, (n_images, map_height, map_width), for one class per image."""
    from captum.attr import LayerGradCam  # late: it takes a second to import

    with no_overwriting(network), torch.enable_grad():
        attributions = LayerGradCam(network, layer).attribute(inputs, target=classes)
    assert isinstance(attributions, torch.Tensor)
    found: FloatArray = attributions.detach()[:, 0].cpu().numpy()
    return found


def _watch(network: nn.Module, inputs: torch.Tensor) -> _Pass:
    """Run `inputs` and note what every module puts out; outputs are cloned, as in-place operations may follow."""
    maps: list[tuple[nn.Module, torch.Tensor]] = []
    linear: list[tuple[nn.Linear, torch.Tensor, torch.Tensor]] = []

    def record(module: nn.Module, arguments: tuple[torch.Tensor, ...], output: object) -> None:
        if isinstance(module, nn.Linear) and isinstance(output, torch.Tensor):
            linear.append((module, arguments[0].clone(), output.clone()))
        elif isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            maps.append((module, output.clone()))

    hooks = attached(module.register_forward_hook(record) for module in network.modules())
    with hooks, torch.inference_mode():
        logits = network(inputs)
    return _Pass(logits, maps, linear)


def _pooled_head(seen: _Pass) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return the last linear layer's weight and the maps that are pooled into it, where the network ends so."""
    if not seen.linear:
        return None
    linear, pooled, output = seen.linear[-1]
    if not torch.equal(output, seen.logits):
        return None
    features = _pooled_from([output for _, output in seen.maps], pooled)
    return None if features is None else (linear.weight.detach(), features)


def _pooled_from(maps: Sequence[torch.Tensor], pooled: torch.Tensor) -> torch.Tensor | None:
    """Return the maps, rectified where that is what it takes, whose mean over height and width is `pooled`.

    Found by the numbers, not by the modules' names: pooling and ReLU are as often functions as modules.
    """
    for recorded in reversed(maps):
        if pooled.ndim != 2 or recorded.shape[:2] != pooled.shape:
            continue
        for candidate in (recorded, recorded.relu()):
            if torch.allclose(candidate.mean(dim=(2, 3)), pooled, rtol=1e-4, atol=1e-6):
                return candidate
    return None


@contextmanager
def no_overwriting(network: nn.Module) -> Iterator[None]:
    """Let no activation overwrite its input inside the context: gradients need what stood there."""
    overwriting = [module for module in network.modules() if getattr(module, "inplace", False) is True]
    for module in overwriting:
        module.inplace = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in overwriting:
            module.inplace = True  # type: ignore[assignment]
