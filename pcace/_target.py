"""The class score: an output of the network by index or by name, or a function of all outputs."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from pipeline.errors import NetworkError, listed
from pipeline.networks.class_labels import class_labels
from pipeline.networks.forward import reported_errors

Score = Callable[[Any], torch.Tensor]
Target = int | str | Score | None


@dataclass(frozen=True)
class FoundTarget:
    """What channels are ranked for.

    Attributes
    ----------
    index : int or None
        Index of the class; None for a single output and for a function.
    score : callable or None
        The function of the outputs; None for an output of the network.
    label : str
        Name in titles and messages.
    names : tuple of str or None
        Names of all classes, if they are known.
    """

    index: int | None
    score: Score | None
    label: str
    names: tuple[str, ...] | None = None

    @property
    def class_name(self) -> str | None:
        """Name of the class, if it is known."""
        is_known = self.index is not None and self.names is not None and self.index < len(self.names)
        return self.names[self.index] if is_known else None  # type: ignore[index]


def found_target(target: Target, network: nn.Module, images: object, class_names: Sequence[str] | None) -> FoundTarget:
    """Return what channels are ranked for.

    Parameters
    ----------
    target : int, str, callable or None
        See `pcace.rank`.
    network : Module
        The network, which may know the names of its classes.
    images : object
        The images; a data set may know the names of the classes.
    class_names : sequence of str or None
        Names of the classes, if they are given.

    Raises
    ------
    NetworkError
        If there is no such class, or its name is not known.
    """
    names = _class_names(network, images, class_names)
    if target is None:
        return FoundTarget(None, None, "the output")
    if isinstance(target, str):
        return FoundTarget(_index(target, names), None, f"class {target}", names)
    if callable(target):
        name = getattr(target, "__name__", type(target).__name__)
        label = "a function of the outputs" if name == "<lambda>" else name
        return FoundTarget(None, _checked(target), label)
    try:
        index = operator.index(target)
    except TypeError:
        index = -1
    if isinstance(target, bool) or index < 0:
        raise NetworkError(
            f"target must be the index of a class, the name of one, a function of the outputs or None; got {target!r}."
        )
    found = FoundTarget(index, None, f"class {index}", names)
    return found if found.class_name is None else replace(found, label=f"class {found.class_name}")


def _class_names(network: nn.Module, images: object, given: Sequence[str] | None) -> tuple[str, ...] | None:
    if given is not None:
        return tuple(str(name) for name in given)
    by_index = getattr(getattr(network, "config", None), "id2label", None)  # transformers
    if isinstance(by_index, dict) and (labels := class_labels(by_index)) is not None:
        return tuple(labels)
    config = getattr(network, "pretrained_cfg", None)  # timm
    of_timm = config.get("label_names") if isinstance(config, dict) else None
    if isinstance(of_timm, list | tuple):
        return tuple(str(name) for name in of_timm)
    of_data = getattr(getattr(images, "dataset", images), "classes", None)  # torchvision's data sets
    return tuple(str(name) for name in of_data) if isinstance(of_data, list | tuple) else None


def _index(name: str, names: Sequence[str] | None) -> int:
    if names is None:
        raise NetworkError(
            f"target must be an index where the names of the classes are not known; got {name!r}. "
            "Give class_names=[...] as well."
        )
    matches = [index for index, each in enumerate(names) if each == name]
    if len(matches) != 1:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or list(names)
        found = f"classes {listed([str(index) for index in matches])} have it" if matches else "there is none"
        raise NetworkError(
            f"target must be the name of one class; got {name!r} ({found}). Nearest: {listed(near, 5)}. "
            "An index is always possible."
        )
    return matches[0]


def _checked(score: Score) -> Score:
    """Return a function of the outputs whose results are checked and converted to float64."""

    def checked(outputs: Any) -> torch.Tensor:
        with reported_errors(
            "target must return one number for each image",
            f"outputs of type {type(outputs).__name__}",
            "Correct the function.",
        ):
            values = score(outputs)
        if not isinstance(values, torch.Tensor) or values.is_complex():
            found = "complex numbers" if isinstance(values, torch.Tensor) else f"type {type(values).__name__}"
            raise NetworkError(f"target must return a tensor with one real number for each image; got {found}.")
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1:
            raise NetworkError(
                f"target must return a tensor with one real number for each image, (n_images,); got shape "
                f"{tuple(values.shape)}."
            )
        return values.double()

    return checked
