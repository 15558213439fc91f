"""All settings of a run: the groups that are small, `Settings` as a whole, and how it is made from plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from pipeline.errors import SettingsError
from pipeline.settings.data import DataSettings
from pipeline.settings.engine import EngineSettings
from pipeline.settings.faults import faults_of
from pipeline.settings.model import (
    ModelSettings,
    RegressionTarget,
    TargetSettings,
    model_contradictions,
    target_contradictions,
)
from pipeline.settings.score import MIN_IMAGES, ScoreSettings, automatic_components, score_contradictions
from pipeline.settings.types import (
    STRICT,
    ComponentCount,
    LayerName,
    Name,
    NonNegative,
    Positive,
    Text,
    selects_several,
)

MAX_LIST = 24  # number of characters; longer lists of layers are not spelled out in names and sentences


@dataclass(frozen=True, config=STRICT)
class ActivateSettings:
    """How the activation maps are stored."""

    dtype: Literal["float32", "float16"]
    """Type in which the activation maps are stored. float16 halves the disk space and rounds them to three digits."""


@dataclass(frozen=True, config=STRICT)
class ReduceSettings:
    """How much memory the principal components may take, in MiB."""

    memory_mib: Positive
    """Maximum memory in MiB for reducing the maps, independent of the size of the layer."""


@dataclass(frozen=True, config=STRICT)
class NetworkSettings:
    """How much of the disk the activation maps of several layers may take at a time, in GiB."""

    disk_gib: Annotated[float, Field(gt=0)]
    """Maximum space in GiB for the activation maps of all layers; if they need more, several passes are made."""


@dataclass(frozen=True, config=STRICT)
class RankSettings:
    """The score that channels are ranked by; None for the ranker's own."""

    by: Literal["maximal", "first", "penalised", "cross_fitted", "excess", "q_value"] | None
    """Score that the channels are ranked by; null: score.statistic."""


@dataclass(frozen=True, config=STRICT)
class AblateSettings:
    """Whether and how channels are removed, to measure the change of the class score.

    `mode` is used for the curves: a channel is set to ``zero``, to its ``mean`` over images and positions, or to its
    values for another image (``resample``). `n_draws` is the number of random orders that the curves are compared with.
    """

    when: Literal["auto", "always", "never"]
    """Whether channels are ablated; auto: as many, on as many images, as `budget_tflop` allows; always: all channels on
    all images.
    """
    budget_tflop: Annotated[float, Field(gt=0)]
    """Number of operations, in 10^12, that ablation may take with when=auto, in all layers of the run together; 5 take
    about a minute on one core of a CPU.
    """
    mode: Literal["zero", "mean", "resample"]
    """How channels are ablated for the deletion and insertion curves: set to zero, to the mean over images and
    positions, or to the map for another image (resample).
    """
    n_draws: Annotated[int, Field(ge=2)]
    """Number of random orders of the channels that the curves are compared with."""

    MODES: ClassVar = ("zero", "mean", "resample")


@dataclass(frozen=True, config=STRICT)
class VisualizeSettings:
    """Which channels and images are drawn, and how."""

    n_top: Positive
    """Number of best channels that are drawn."""
    n_bottom: NonNegative
    """Number of last varying channels that are drawn."""
    channels: tuple[NonNegative, ...]
    """Channels that are drawn instead of the best and the last ones; empty: those."""
    images: Literal["spread", "driving"]
    """Images that are drawn: evenly spaced over the set (spread), or for each channel those that activate it most
    (driving).
    """
    image_ids: tuple[Name, ...]
    """Ids of the images that are drawn instead, such as 5/0005; empty: those that `images` selects."""
    n_images: Positive
    """Number of images that are drawn."""
    scale: Literal["channel", "shared"]
    """One colour scale for each channel, or one for all, so that channels can be compared (shared)."""
    n_weighted: Positive
    """Number of best channels in the channel-weighted map."""
    maximize: Literal["auto", "always", "never"]
    """Whether inputs that maximise the activation of channels are computed; auto: for as many of the best channels as
    `maximize_tflop` allows; always: for `n_maximized` channels.
    """
    maximize_tflop: Annotated[float, Field(gt=0)]
    """Number of operations, in 10^12, that activation maximisation may take with maximize=auto, in all layers of the
    run together; 5 take about a minute on one core of a CPU.
    """
    n_maximized: Positive
    """Number of best channels whose activation is maximised."""
    maximize_steps: Positive
    """Number of steps of the gradient ascent."""
    dpi: Annotated[int, Field(ge=50, le=600)]
    """Resolution of the figures in dots per inch."""


@dataclass(frozen=True, config=STRICT)
class TrackingSettings:
    """Where a run is logged: an MLflow tracking address, or None for the SQLite file under the outputs."""

    enabled: bool
    """Whether runs are logged to MLflow."""
    uri: str | None
    """Tracking address of MLflow; null: the SQLite file mlflow.db in paths.outputs."""
    experiment: Text
    """Name of the MLflow experiment."""


@dataclass(frozen=True, config=STRICT)
class PathSettings:
    """Where files are written."""

    outputs: Text
    """Folder of the runs, the artifact store and mlflow.db."""

    @property
    def downloads(self) -> Path:
        """The folder of downloaded images, which outlives the run that downloaded them."""
        return Path(self.outputs).absolute() / "downloads"


@dataclass(frozen=True, config=STRICT)
class Settings:
    """All settings of a run: which channels of `layer` matter for this class, judged on `n_images` images?

    `layer` is one layer, or selects several: see `selects_several`.
    """

    layer: LayerName
    """Layer whose channels are ranked, as the dotted path of a module: layer4.1.conv2 or layer4[1].conv2. A pattern
    such as layer*.conv2, a list, or all selects several layers.
    """
    class_name: Name | None
    """Name of the class in the data and in the network."""
    target_class: NonNegative | None
    """Index of the class among the network's outputs; null: derived from class_name."""
    n_images: Annotated[int, Field(ge=MIN_IMAGES)]
    """Number of images."""
    n_components: ComponentCount
    """Number of principal components of each channel, or a share of its variance; auto: a number up to 20, chosen
    by cross-validation for the whole layer.
    """
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    """Seed of all random choices: images, random weights, permutations, folds, halves and random orders."""
    model: ModelSettings
    """The network."""
    data: DataSettings
    """The images."""
    activate: ActivateSettings
    """The activation maps."""
    reduce: ReduceSettings
    """The principal components."""
    network: NetworkSettings
    """Several layers in one run."""
    target: TargetSettings
    """The class score."""
    score: ScoreSettings
    """The ranker."""
    rank: RankSettings
    """The order of the channels."""
    ablate: AblateSettings
    """Ablation of channels."""
    visualize: VisualizeSettings
    """The figures."""
    tracking: TrackingSettings
    """The log of runs."""
    engine: EngineSettings
    """Where the stages are computed."""
    paths: PathSettings
    """The folders in which files are written."""

    @property
    def selects_several(self) -> bool:
        """Whether `layer` selects several layers, which are ranked together as a network."""
        return selects_several(self.layer)

    def of_layer(self, layer: str, n_layers: int) -> Self:
        """Return the settings for one of several layers, which share the budgets for ablation and maximisation."""
        return replace(
            self,
            layer=layer,
            ablate=replace(self.ablate, budget_tflop=_share(self.ablate.budget_tflop, n_layers)),
            visualize=replace(self.visualize, maximize_tflop=_share(self.visualize.maximize_tflop, n_layers)),
        )

    @property
    def budgets(self) -> list[str]:
        """The budgets that this run uses, as overrides of the command line."""
        budgets = []
        if self.ablate.when == "auto":
            budgets.append(f"ablate.budget_tflop={self.ablate.budget_tflop:g}")
        if self.visualize.maximize == "auto":
            budgets.append(f"visualize.maximize_tflop={self.visualize.maximize_tflop:g}")
        return budgets

    @property
    def layer_label(self) -> str:
        """The layer; for a long list, its first and its last layer: ``conv1 to layer4.1.conv2``."""
        selected = self.layer.split(",")
        is_long = len(selected) > 1 and len(self.layer) > MAX_LIST
        return f"{selected[0]} to {selected[-1]}" if is_long else self.layer

    @property
    def target_label(self) -> str:
        """The output that the class score is read from: ``class tabby``, ``class number 281`` or ``output 0``."""
        if isinstance(self.target, RegressionTarget):
            return f"output {self.target.output}"
        return f"class {self.class_name or f'number {self.target_class}'}"


def _share(budget: float, n_layers: int) -> float:
    """Return a budget divided by the number of layers, as a number that is easily typed."""
    return budget if n_layers == 1 else float(f"{budget / n_layers:.3g}")


_ADAPTER = TypeAdapter(Settings)
UNIONS = ("data", "target", "score", "engine")  # groups whose settings depend on the member that is chosen


def settings_from(values: Mapping[str, Any], further_faults: Sequence[str] = ()) -> Settings:
    """Turn a plain mapping, as composed from YAML, into `Settings`.

    Parameters
    ----------
    values : mapping
        The settings by their names.
    further_faults : sequence of str
        Faults that were found in the files, to be reported together with those found here.

    Raises
    ------
    SettingsError
        If a setting is unknown, missing, of the wrong type or out of range; one line for each fault.
    """
    try:
        # Through JSON, so that strict typing takes YAML's lists for tuples, but never "3" for 3 or 1 for true.
        settings = _ADAPTER.validate_json(json.dumps(values))
    except ValidationError as error:
        # Raised outside of the `except`, so that pydantic's own message is not shown as the cause.
        faults = faults_of(error, values, UNIONS)
    else:
        faults = _contradictions(settings)
        if not faults and not further_faults:
            return settings
    named = {fault.split()[0] for fault in faults}  # one line for each setting
    faults += [fault for fault in further_faults if fault.split()[0] not in named]
    raise SettingsError("\n".join(faults))


def _contradictions(settings: Settings) -> list[str]:
    """Return one line for each fault that only shows when several settings are read together."""
    faults = [
        *model_contradictions(settings.model),
        *score_contradictions(settings.score, settings.rank.by, settings.n_images),
        *target_contradictions(settings.target, settings.target_class),
    ]
    if settings.n_components == "auto":
        faults += automatic_components(settings.score, settings.n_images)
    elif settings.n_components > settings.n_images:
        faults.append(
            f"n_components must be at most n_images; got {settings.n_components} with {settings.n_images} images. "
            "Lower it or add images."
        )
    return faults
