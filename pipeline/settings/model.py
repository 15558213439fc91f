"""Settings of the network, of its input and of the class score that is read from its output."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.settings.types import STRICT, CallablePath, Name, NonNegative, Positive, Text

Library = Literal["torchvision", "timm", "transformers"]


@dataclass(frozen=True, config=STRICT)
class TransformSettings:
    """How a decoded image becomes the network's input.

    ``weights``: as the torchvision weights prescribe (resize, centre crop, normalise); ``resize``: resized to
    `size` x `size` without keeping the aspect ratio, then normalised; ``none``: normalised at its own size.
    """

    kind: Literal["weights", "resize", "none"]
    size: Positive
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]


@dataclass(frozen=True, config=STRICT)
class ModelSettings:
    """The network: the model `name` of `library`, or a network of your own built by `factory`.

    `factory` has the form ``package.module:callable``. `channels` says which axis of a layer's output holds the
    channels: axis 1 (``first``), the last axis (``last``), or the one that the layer and the network imply (``auto``).
    `randomized` is the number of modules with weights of their own, counted from the output, whose weights are drawn
    anew with the seed.
    """

    library: Library
    name: Text
    factory: CallablePath | None
    arguments: dict[str, Any]
    weights: str
    checkpoint: str | None
    class_names: tuple[Name, ...] | None
    input_size: tuple[Positive, Positive, Positive]
    transform: TransformSettings
    batch_size: Positive
    device: Literal["auto", "cpu", "cuda"]
    channels: Literal["auto", "first", "last"]
    randomized: NonNegative


@dataclass(frozen=True, config=STRICT)
class ClassTarget:
    """The class score is read from the network's output for `target_class`.

    ``logit``: the output itself, unbounded; ``probability``: after the softmax (the logistic function where the network
    has one output), in [0, 1]; ``margin``: the logit minus the largest of the other logits.
    """

    kind: Literal["class"]
    score: Literal["logit", "probability", "margin"]


@dataclass(frozen=True, config=STRICT)
class RegressionTarget:
    """The class score is the output of a regression network, unchanged."""

    kind: Literal["regression"]
    output: NonNegative


TargetSettings = Annotated[ClassTarget | RegressionTarget, Field(discriminator="kind")]


def model_contradictions(model: ModelSettings) -> list[str]:
    """Return one line for each fault that only shows when several settings of the model are read together."""
    faults = []
    transform, n_channels = model.transform, model.input_size[0]
    if n_channels not in (1, 3):
        faults.append(
            f"model.input_size must begin with 1 (grey images) or 3 (colour images); got {list(model.input_size)}. "
            "Wrap a network with other inputs in a module that takes grey or colour images."
        )
    for name, values in (("mean", transform.mean), ("std", transform.std)):
        if n_channels in (1, 3) and transform.kind != "weights" and len(values) != n_channels:
            faults.append(
                f"model.transform.{name} must have one value per input channel ({n_channels}); got {list(values)}."
            )
    if transform.kind == "weights" and model.factory is not None:
        faults.append(
            "model.transform.kind must be resize or none for a network of your own (model.factory); got weights."
        )
    if model.randomized and model.weights == "random" and model.checkpoint is None:
        faults.append(
            f"model.randomized must be 0 with model.weights=random; got {model.randomized}, and nothing is trained. "
            "Give model.checkpoint, or published weights."
        )
    return faults


def target_contradictions(target: TargetSettings, target_class: int | None) -> list[str]:
    """Return one line for each fault that only shows when the target is read together with `target_class`."""
    if isinstance(target, RegressionTarget) and target_class is not None:
        return [f"target_class must be null with target=regression; got {target_class}. Set target.output instead."]
    return []
