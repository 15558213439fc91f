"""What can be asked for: frozen, typed, checked once, all faults reported together.

Default values are written in ``conf/`` and nowhere else; these classes say what is possible.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails, PydanticCustomError

from pipeline.data_settings import STRICT, DataSettings, Name, NonNegative, Positive
from pipeline.errors import SettingsError
from pipeline.score_settings import MIN_IMAGES, ScoreSettings, score_contradictions


def _count_or_share(value: object) -> object:
    """Take 1, 2, 3, ... components, or a share of the variance between 0 and 1."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if is_count or (isinstance(value, float) and 0 < value < 1):
        return value
    raise PydanticCustomError("count_or_share", "neither a count nor a share")


Library = Literal["torchvision", "timm"]
ComponentCount = Annotated[int | float, BeforeValidator(_count_or_share)]


@dataclass(frozen=True, config=STRICT)
class TransformSettings:
    """How a decoded image becomes the network's input.

    ``weights``: as the torchvision weights prescribe (resize, centre crop, normalise); ``resize``: straight to
    `size` x `size`, aspect ratio not kept, then normalise; ``none``: the image as it is, then normalise.
    """

    kind: Literal["weights", "resize", "none"]
    size: Positive
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]


@dataclass(frozen=True, config=STRICT)
class ModelSettings:
    """The network: a model of `library` by `name`, or your own by `factory` (``package.module:callable``).

    `channels` says where a layer's channels are: on axis 1 (``first``) or on the last one, or found out (``auto``).
    `randomized` modules with weights of their own, counted from the output down, are drawn anew with the seed.
    """

    library: Library
    name: Annotated[str, Field(min_length=1)]
    factory: Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$")] | None
    arguments: dict[str, Any]
    weights: str
    checkpoint: str | None
    class_names: tuple[Name, ...] | None
    input_size: Annotated[tuple[Positive, Positive, Positive], Field()]
    transform: TransformSettings
    batch_size: Positive
    device: Literal["auto", "cpu", "cuda"]
    channels: Literal["auto", "first", "last"]
    randomized: NonNegative


@dataclass(frozen=True, config=STRICT)
class ClassTarget:
    """The class score is read from the output for `target_class`.

    ``logit``: the output itself, unbounded; ``probability``: after the softmax (the logistic function where the network
    has one output), in [0, 1]; ``margin``: the logit less the largest other one.
    """

    kind: Literal["class"]
    score: Literal["logit", "probability", "margin"]


@dataclass(frozen=True, config=STRICT)
class RegressionTarget:
    """The class score is a regression network's output, as it is."""

    kind: Literal["regression"]
    output: NonNegative


TargetSettings = Annotated[ClassTarget | RegressionTarget, Field(discriminator="kind")]


@dataclass(frozen=True, config=STRICT)
class ReduceSettings:
    """What reducing the maps may cost."""

    memory_mib: Positive


@dataclass(frozen=True, config=STRICT)
class RankSettings:
    """What the channels are ranked by."""

    by: Literal["maximal", "first", "cross_fitted", "excess", "q_value"] | None


@dataclass(frozen=True, config=STRICT)
class RemoveSettings:
    """Whether channels are removed, to see how the class score moves.

    `mode` is how for the curves: a channel is set to ``zero``, to its ``mean`` over images and places, or to what it is
    for another image (``resample``). `n_draws` random orders make the curves' band.
    """

    when: Literal["auto", "always", "never"]
    mode: Literal["zero", "mean", "resample"]
    n_draws: Annotated[int, Field(ge=2)]

    MODES: ClassVar = ("zero", "mean", "resample")


@dataclass(frozen=True, config=STRICT)
class VisualizeSettings:
    """Which channels and images are drawn, and how."""

    n_top: Positive
    n_bottom: NonNegative
    channels: tuple[NonNegative, ...]
    images: Literal["spread", "driving"]
    image_ids: tuple[Name, ...]
    n_images: Positive
    scale: Literal["channel", "shared"]
    n_weighted: Positive
    maximize: Literal["auto", "always", "never"]
    n_maximized: Positive
    maximize_steps: Positive
    dpi: Annotated[int, Field(ge=50, le=600)]


@dataclass(frozen=True, config=STRICT)
class TrackingSettings:
    """Where a run is logged: an MLflow tracking address, or None for the SQLite file under the outputs."""

    enabled: bool
    uri: str | None
    experiment: Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, config=STRICT)
class PathSettings:
    """Where things are written."""

    outputs: Annotated[str, Field(min_length=1)]

    @property
    def downloads(self) -> Path:
        """Where pictures of the web are kept, whatever becomes of the run that fetched them."""
        return Path(self.outputs).absolute() / "downloads"


@dataclass(frozen=True, config=STRICT)
class Settings:
    """One question: which channels of `layer` matter for this class, judged on `n_images` images?"""

    layer: Annotated[str, Field(min_length=1)]
    class_name: Name | None
    target_class: NonNegative | None
    n_images: Annotated[int, Field(ge=MIN_IMAGES)]
    n_components: ComponentCount
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    model: ModelSettings
    data: DataSettings
    reduce: ReduceSettings
    target: TargetSettings
    score: ScoreSettings
    rank: RankSettings
    remove: RemoveSettings
    visualize: VisualizeSettings
    tracking: TrackingSettings
    paths: PathSettings

    @property
    def target_label(self) -> str:
        """What the score is of, in words: ``class tabby``, ``class number 281`` or ``output 0``."""
        if isinstance(self.target, RegressionTarget):
            return f"output {self.target.output}"
        return f"class {self.class_name or f'number {self.target_class}'}"


_ADAPTER = TypeAdapter(Settings)
UNIONS = ("data", "target", "score")  # which settings there are depends on which member is chosen


def settings_from(values: Mapping[str, Any]) -> Settings:
    """Turn a plain mapping, as composed from YAML, into `Settings`.

    Raises
    ------
    SettingsError
        If anything is unknown, missing, of the wrong type or out of range; one line for every fault.
    """
    try:
        # Through JSON, so that strict typing takes YAML's lists for tuples, yet never "3" for 3 or 1 for true.
        settings = _ADAPTER.validate_json(json.dumps(values))
    except ValidationError as error:
        # Taken out of the `except` so that the report, not pydantic's own text, is all there is to read.
        faults = [_fault(details, values) for details in error.errors()]
    else:
        faults = _contradictions(settings)
        if not faults:
            return settings
    raise SettingsError("\n".join(faults))


def _contradictions(settings: Settings) -> list[str]:
    """Faults that only show when several settings are read together."""
    faults = []
    transform, channels = settings.model.transform, settings.model.input_size[0]
    for name, values in (("mean", transform.mean), ("std", transform.std)):
        if transform.kind != "weights" and len(values) != channels:
            faults.append(
                f"model.transform.{name} must have one value per input channel ({channels}); got {list(values)}."
            )
    if transform.kind == "weights" and settings.model.factory is not None:
        faults.append(
            "model.transform.kind must be resize or none for a network of your own (model.factory); got weights."
        )
    faults += score_contradictions(settings.score, settings.rank.by, settings.n_images)
    model = settings.model
    if model.randomized and model.weights == "random" and model.checkpoint is None:
        faults.append(
            f"model.randomized must be 0 with model.weights=random; got {model.randomized}, and nothing is trained. "
            "Give model.checkpoint, or published weights."
        )
    if isinstance(settings.target, RegressionTarget) and settings.target_class is not None:
        faults.append(
            f"target_class must be null with target=regression; got {settings.target_class}. Set target.output instead."
        )
    if set(settings.layer) & set("*?,"):
        faults.append(_one_layer(json.dumps(settings.layer)))
    if settings.n_components > settings.n_images:
        faults.append(
            f"n_components must be at most n_images; got {settings.n_components} with {settings.n_images} images. "
            "Lower it or add images."
        )
    return faults


def _fault(details: ErrorDetails, values: Mapping[str, Any]) -> str:
    """One line for one of pydantic's findings, in the words of the person who typed the setting."""
    path = [str(part) for part in details["loc"]]
    if path[0] in UNIONS and len(path) > 1:
        del path[1]  # pydantic names the member of the union
    name, kind, context = ".".join(path), details["type"], details.get("ctx", {})
    got = json.dumps(details["input"])
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{name} must be a known setting; got {got}. {_nearest(path, values)}"
    if name == "layer" and kind == "string_type" and isinstance(details["input"], list):
        return _one_layer(got)
    if kind in ("missing", "missing_argument"):
        return f"{name} must be given; got nothing. Add {name}=... to the command."
    rules = {
        "greater_than": "be above {gt:g}",
        "greater_than_equal": "be at least {ge:g}",
        "less_than": "be below {lt:g}",
        "less_than_equal": "be at most {le:g}",
        "int_type": "be a whole number",
        "int_from_float": "be a whole number",
        "float_type": "be a number",
        "bool_type": "be true or false",
        "string_type": "be text",
        "string_too_short": "not be empty",
        "tuple_type": "be a list",
        "dict_type": "be a mapping",
        "literal_error": "be {expected}",
        "count_or_share": "be a whole number of at least 1, or a share of the variance in (0, 1)",
        "union_tag_invalid": "be one of {expected_tags}",
        "string_pattern_mismatch": "have the form "
        + ("package.module:callable" if name == "model.factory" else "https://host/path"),
        "value_error": "be a network such as 10.0.0.0/8",
    }
    if kind == "union_tag_invalid":
        name, got = f"{name}.{context['discriminator'].strip(chr(39))}", json.dumps(context["tag"])
    rule = rules.get(kind, "be valid (" + details["msg"].lower() + ")").format(**context)
    return f"{name} must {rule}; got {got}."


def _one_layer(got: str) -> str:
    return f"layer must be one layer; got {got}. For several, a run each: --multirun layer=conv1,conv2."


def _nearest(path: list[str], values: Mapping[str, Any]) -> str:
    """Suggest the known settings beside an unknown one."""
    siblings: Any = values
    for part in path[:-1]:
        siblings = siblings[part]
    known = [key for key in siblings if key != path[-1]]
    near = difflib.get_close_matches(path[-1], known, n=2, cutoff=0.6)
    prefix = "".join(f"{part}." for part in path[:-1])
    if near:
        return f"Did you mean {' or '.join(prefix + key for key in near)}?"
    return f"Known here: {', '.join(prefix + key for key in known)}."
