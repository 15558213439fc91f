"""Class activation maps: exact where they are defined (CAM), by gradients for other networks (Grad-CAM).

CAM is defined for networks that end in global average pooling and one linear layer. The class score is then, up to a
bias, the mean of ``sum_c weight[class, c] * feature[c]`` over all positions, and that sum is the map. For all other
networks, Grad-CAM uses the mean gradient of the class score as the weight. For a network that has a CAM, Grad-CAM gives
the same map divided by its number of pixels.

References
----------
Zhou et al. (2016), "Learning deep features for discriminative localization", arXiv 1512.04150.
Selvaraju et al. (2017), "Grad-CAM: visual explanations from deep networks", arXiv 1610.02391.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from pipeline.arrays import FloatArray, Int64Array
from pipeline.networks.forward import NetworkCodeError, Scores, described, forward
from pipeline.networks.gradients import reaches
from pipeline.networks.hooks import attached, without_inplace
from pipeline.networks.maps import as_float

Method = Literal["CAM", "Grad-CAM"]


@dataclass(frozen=True)
class ClassActivation:
    """A network's predictions for some images, and the class activation maps.

    Attributes
    ----------
    outputs : ndarray of shape (n_images, n_classes)
        The network's outputs.
    probabilities : ndarray of shape (n_images, n_classes) or None
        Softmax of the outputs, in [0, 1], or the outputs themselves if they already are probabilities. None if the
        network has only one output, whose softmax would be 1 for every image.
    predicted : ndarray of shape (n_images,)
        Index of the most probable class, int64.
    method : {"CAM", "Grad-CAM"} or None
        How the maps were computed; None if there are none.
    target_maps, predicted_maps : ndarray of shape (n_images, map_height, map_width) or None
        Contribution of each position to the logit of the target class and of the predicted class: unbounded, and
        negative at positions that lower the logit. There are no maps of the predicted class if the network has only
        one output.
    failure : str or None
        Why Grad-CAM could not be computed: for example, the network has no gradients. None if it was not needed, or if
        the network has no maps of more than one pixel.
    """

    outputs: FloatArray
    probabilities: FloatArray | None
    predicted: Int64Array
    method: Method | None
    target_maps: FloatArray | None
    predicted_maps: FloatArray | None
    failure: str | None = None

    def _first(self) -> ClassActivation:
        """Return the same for the first image only."""
        first: dict[str, Any] = {name: value[:1] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return replace(self, **first)


@dataclass(frozen=True)
class _ForwardPass:
    """One forward pass: the logits, each module's maps, and the input and output of each linear layer."""

    logits: torch.Tensor
    maps: list[tuple[nn.Module, torch.Tensor]]
    linear: list[tuple[nn.Linear, torch.Tensor, torch.Tensor]]


def class_activation(network: nn.Module, inputs: torch.Tensor, target_class: int) -> ClassActivation:
    """Return the predictions and the class activation maps for some inputs.

    Parameters
    ----------
    network : Module
        In evaluation mode.
    inputs : tensor of shape (n_images, n_input_channels, height, width)
        On the network's device.
    target_class : int
        Index of the target class.
    """
    if len(inputs) == 1:  # some networks cannot process a single image
        return class_activation(network, inputs.repeat(2, 1, 1, 1), target_class)._first()
    recorded = _record(network, inputs)
    predicted = recorded.logits.argmax(dim=1)
    classes = [torch.full_like(predicted, target_class), predicted][: recorded.logits.shape[1]]
    head = _pooled_head(recorded)
    method: Method | None = None
    failure: str | None = None
    found: list[FloatArray] = []
    if head is not None:
        method = "CAM"
        weight, features = (as_float(each) for each in head)
        found = [torch.einsum("nc,nchw->nhw", weight[each], features).cpu().numpy() for each in classes]
    elif recorded.maps:
        modules = [module for module, _ in recorded.maps]
        layer = next((module for module in reversed(modules) if isinstance(module, nn.Conv2d)), modules[-1])
        found, failure = _grad_cams(network, layer, inputs, classes)
        method = None if failure else "Grad-CAM"
    target_maps, predicted_maps, *_ = (*found, None, None)
    return ClassActivation(
        recorded.logits.cpu().numpy(),
        _probabilities(recorded.logits),
        predicted.cpu().numpy(),
        method,
        target_maps,
        predicted_maps,
        failure,
    )


def _grad_cams(
    network: nn.Module, layer: nn.Module, inputs: torch.Tensor, classes: Sequence[torch.Tensor]
) -> tuple[list[FloatArray], str | None]:
    """Return Grad-CAM for each tensor of classes; or no maps, and why they could not be computed."""
    if not reaches(network, layer, inputs):
        return [], "no gradient of the class score reaches the last convolution"
    try:
        found = [grad_cam(network, layer, inputs, each) for each in classes]
    except (RuntimeError, NetworkCodeError) as error:  # of autograd: quantised modules
        return [], described(error)
    if not any(each.any() for each in found):
        return [], "the gradient of the class score is 0 at the last convolution"
    return found, None


def _probabilities(outputs: torch.Tensor) -> FloatArray | None:
    """Return the probabilities of the classes, see `ClassActivation`."""
    if outputs.shape[1] == 1:
        return None
    totals = outputs.sum(dim=1)
    are_probabilities = bool((outputs >= 0).all()) and torch.allclose(totals, torch.ones_like(totals), atol=1e-3)
    found: FloatArray = (outputs if are_probabilities else outputs.softmax(dim=1)).cpu().numpy()
    return found


def grad_cam(network: nn.Module, layer: nn.Module, inputs: torch.Tensor, classes: torch.Tensor) -> FloatArray:
    """Return Grad-CAM without its final ReLU, (n_images, map_height, map_width), for one class per image.

    Parameters
    ----------
    network : Module
        In evaluation mode. It returns logits, (n_images, n_classes).
    layer : Module
        A layer that returns maps, (n_images, n_channels, map_height, map_width).
    inputs : tensor of shape (n_images, n_input_channels, height, width)
        On the network's device.
    classes : int64 tensor of shape (n_images,)
        Index of each image's class.
    """
    from captum.attr import LayerGradCam  # imported here because it takes a second

    with without_inplace(network), torch.enable_grad():
        attributions = LayerGradCam(Scores(network), layer).attribute(inputs, target=classes)
    assert isinstance(attributions, torch.Tensor)
    found: FloatArray = as_float(attributions.detach()[:, 0]).cpu().numpy()
    return found


def _record(network: nn.Module, inputs: torch.Tensor) -> _ForwardPass:
    """Run the network and record the modules' outputs, cloned because in-place operations may follow."""
    maps: list[tuple[nn.Module, torch.Tensor]] = []
    linear: list[tuple[nn.Linear, torch.Tensor, torch.Tensor]] = []

    def record(module: nn.Module, arguments: tuple[torch.Tensor, ...], output: object) -> None:
        if isinstance(module, nn.Linear) and isinstance(output, torch.Tensor):
            linear.append((module, arguments[0].clone(), output.clone()))
        elif isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            maps.append((module, output.dequantize() if output.is_quantized else output.clone()))

    hooks = attached(module.register_forward_hook(record) for module in network.modules())
    with hooks, torch.inference_mode():
        logits = forward(network, inputs)
    return _ForwardPass(logits, maps, linear)


def _pooled_head(recorded: _ForwardPass) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return the last linear layer's weight and the maps that are pooled into it, or None if CAM is not defined."""
    if not recorded.linear:
        return None
    linear, pooled, output = recorded.linear[-1]
    logits = recorded.logits
    if output.numel() != logits.numel() or not torch.equal(as_float(output).reshape(logits.shape), logits):
        return None
    features = _pooled_from([output for _, output in recorded.maps], pooled)
    return None if features is None else (linear.weight.detach(), features)


def _pooled_from(maps: Sequence[torch.Tensor], pooled: torch.Tensor) -> torch.Tensor | None:
    """Return the maps, after a ReLU if necessary, whose mean over height and width is `pooled`.

    They are identified by their values, not by the names of modules, because networks apply pooling and ReLU as
    functions as often as by modules.
    """
    for recorded in reversed(maps):
        if pooled.ndim != 2 or recorded.shape[:2] != pooled.shape:
            continue
        for candidate in (recorded, recorded.relu()):
            if torch.allclose(candidate.mean(dim=(2, 3)), pooled, rtol=1e-4, atol=1e-6):
                return candidate
    return None
