"""The sweep that this process has started, which a callback of Hydra records."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from pydantic import ValidationError

from pipeline.config import default_outputs, validated
from pipeline.errors import PipelineError
from pipeline.settings import TrackingSettings
from pipeline.sweep_folder import RESUME, hold


@dataclass(frozen=True)
class SweepStart:
    """A sweep that this process has started.

    Attributes
    ----------
    folder : Path
        Folder of the sweep, absolute; the folders of its jobs are below it.
    outputs : Path
        The setting `paths.outputs`, absolute.
    tracking : TrackingSettings or None
        Where the sweep is logged; None if the settings are not valid, which every job reports.
    """

    folder: Path
    outputs: Path
    tracking: TrackingSettings | None


_started: SweepStart | None = None


def started_sweep() -> SweepStart | None:
    """Return the sweep that this process has started, or None for a single run."""
    return _started


def resume_command(folder: Path) -> str:
    """Return the command that resumes the sweep in a folder."""
    is_default = folder.parent == Path(default_outputs()).absolute() / "sweeps"
    return shlex.join(["pcace", "run", RESUME, folder.name if is_default else str(folder)])


class SweepCallback(Callback):
    """Callback of Hydra that stores the folder of a sweep, which Hydra chooses just before the jobs run."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Store the sweep for `started_sweep`, and mark it as running."""
        del kwargs
        global _started
        try:
            tracking = validated(TrackingSettings, config.tracking)
        except ValidationError:
            tracking = None  # every job reports the fault
        _started = SweepStart(
            Path(str(config.hydra.sweep.dir)).absolute(), Path(str(config.paths.outputs)).absolute(), tracking
        )
        with suppress(PipelineError, OSError):  # a disk without locks, or a full one, which every job reports
            hold(_started.folder)
