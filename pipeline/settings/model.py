"""Settings of the network, of its input and of the class score that is read from its output."""

from __future__ import annotations

from pathlib import Path
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
    """As the weights prescribe (weights), resized to `size` x `size` without keeping the aspect ratio (resize), or
    at the image's own size (none).
    """
    size: Positive
    """Width and height of the network's input in pixels, for kind=resize."""
    mean: tuple[float, ...]
    """Mean of each input channel, which is subtracted; for kind=resize and kind=none."""
    std: tuple[Annotated[float, Field(gt=0)], ...]
    """Standard deviation of each input channel, which the difference is divided by; for kind=resize and kind=none."""


@dataclass(frozen=True, config=STRICT)
class ModelSettings:
    """The network: the model `name` of `library`, or a network of your own built by `factory`.

    `factory` has the form ``package.module:callable``. `channels` says which axis of a layer's output holds the
    channels: axis 1 (``first``), the last axis (``last``), or the one that the layer and the network imply (``auto``).
    `randomized` is the number of modules with weights of their own, counted from the output, whose weights are drawn
    anew with the seed.
    """

    library: Library
    """Library that builds the network, if there is no factory."""
    name: Text
    """Name of the model in the library; of a network of your own, any name."""
    factory: CallablePath | None
    """Callable that returns a network of your own, as package.module:callable; null: a model of the library."""
    arguments: dict[str, Any]
    """Keyword arguments of the model or the factory."""
    weights: str
    """Member of the model's weights in the library, such as DEFAULT or IMAGENET1K_V1; random: drawn with `seed`."""
    checkpoint: str | None
    """File with weights of your own, which replace `weights`: .safetensors, .pth, .pt or .th."""
    class_names: tuple[Name, ...] | None
    """Names of the network's outputs; null: those of the weights or of the data."""
    input_size: tuple[Positive, Positive, Positive]
    """Channels (1: grey, 3: colour), height and width of the network's input."""
    transform: TransformSettings
    """How an image becomes the network's input."""
    batch_size: Positive
    """Maximum number of images in a forward pass; it changes the last digits of the activations."""
    device: Literal["auto", "cpu", "cuda"]
    """Device of the network; auto: a GPU if there is one."""
    channels: Literal["auto", "first", "last"]
    """Axis of a layer's output that holds the channels: axis 1 (first), the last axis (last), or the one that the
    layer implies (auto).
    """
    randomized: NonNegative
    """Number of modules with weights, counted from the output, whose weights are drawn anew with `seed`."""

    @property
    def label(self) -> str:
        """Name of the network in titles: of a folder, which `name` may be with transformers, only the last part."""
        is_folder = self.library == "transformers" and self.factory is None and not self.name.startswith("hf-hub:")
        return (Path(self.name).name or self.name) if is_folder else self.name


@dataclass(frozen=True, config=STRICT)
class ClassTarget:
    """The class score is read from the network's output for `target_class`.

    ``logit``: the output itself, unbounded; ``probability``: after the softmax (the logistic function where the network
    has one output), in [0, 1]; ``margin``: the logit minus the largest of the other logits.
    """

    kind: Literal["class"]
    """The target: an output of a classification network."""
    score: Literal["logit", "probability", "margin"]
    """The output itself (logit), after the softmax (probability), or minus the largest of the other outputs
    (margin).
    """


@dataclass(frozen=True, config=STRICT)
class RegressionTarget:
    """The class score is the output of a regression network, unchanged."""

    kind: Literal["regression"]
    """The target: an output of a regression network."""
    output: NonNegative
    """Index of the output."""


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
