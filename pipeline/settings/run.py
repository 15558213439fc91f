"""All settings of a run: the groups that are small, `Settings` as a whole, and how it is made from plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from pipeline.errors import SettingsError
from pipeline.settings.data import DataSettings
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


@dataclass(frozen=True, config=STRICT)
class ReduceSettings:
    """How much memory the principal components may take, in MiB."""

    memory_mib: Positive


@dataclass(frozen=True, config=STRICT)
class NetworkSettings:
    """How much of the disk the activation maps of several layers may take at a time, in GiB."""

    disk_gib: Annotated[float, Field(gt=0)]


@dataclass(frozen=True, config=STRICT)
class RankSettings:
    """The score that channels are ranked by; None for the ranker's own."""

    by: Literal["maximal", "first", "penalised", "cross_fitted", "excess", "q_value"] | None


@dataclass(frozen=True, config=STRICT)
class AblateSettings:
    """Whether and how channels are removed, to measure the change of the class score.

    `mode` is used for the curves: a channel is set to ``zero``, to its ``mean`` over images and positions, or to its
    values for another image (``resample``). `n_draws` is the number of random orders that the curves are compared with.
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
    experiment: Text


@dataclass(frozen=True, config=STRICT)
class PathSettings:
    """Where files are written."""

    outputs: Text

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
    class_name: Name | None
    target_class: NonNegative | None
    n_images: Annotated[int, Field(ge=MIN_IMAGES)]
    n_components: ComponentCount
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    model: ModelSettings
    data: DataSettings
    reduce: ReduceSettings
    network: NetworkSettings
    target: TargetSettings
    score: ScoreSettings
    rank: RankSettings
    ablate: AblateSettings
    visualize: VisualizeSettings
    tracking: TrackingSettings
    paths: PathSettings

    @property
    def selects_several(self) -> bool:
        """Whether `layer` selects several layers, which are ranked together as a network."""
        return selects_several(self.layer)

    @property
    def target_label(self) -> str:
        """The output that the class score is read from: ``class tabby``, ``class number 281`` or ``output 0``."""
        if isinstance(self.target, RegressionTarget):
            return f"output {self.target.output}"
        return f"class {self.class_name or f'number {self.target_class}'}"


_ADAPTER = TypeAdapter(Settings)
UNIONS = ("data", "target", "score")  # groups whose settings depend on the member that is chosen


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
