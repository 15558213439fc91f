"""One job of the command line: what Hydra calls in this process, or a launcher in another one."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.command_line import outlive_readers, print_error
from pipeline.config import job_overrides, run_dir, settings_from_config, sweep_id, typed_command
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pipeline.observer import Observer
    from pipeline.records import Record


def run_job(config: DictConfig) -> None:
    """Run one job.

    A single run that fails ends with exit code 1. A sweep's job leaves its reason in ``result.json``, where the
    summary finds it, and the other jobs alone.
    """
    # Late, so that --help and a mistyped setting do not wait for torch and MLflow.
    from pipeline.records import Record

    outlive_readers()  # the process of a launcher has not called it yet
    record = Record(overrides=job_overrides())
    try:
        _answer(config, record)
    except PipelineError as error:
        print_error(error)
        record.error = str(error)
    except Exception as error:
        if sweep_id() is None:
            raise
        record.error = f"{type(error).__name__}: {error}"
        logging.getLogger(__name__).exception("the job ended with an error that nobody foresaw")
    if sweep_id() is not None:
        _save(record)
    elif record.error:
        sys.exit(1)


def _answer(config: DictConfig, record: Record) -> None:
    settings = settings_from_config(config)
    from pipeline.console import ConsoleObserver
    from pipeline.records import RecordingObserver
    from pipeline.report_writer import ReportWriter
    from pipeline.runner import run

    # The report first: the tracker logs it.
    observers: list[Observer] = [ReportWriter(typed_command()), ConsoleObserver(), RecordingObserver(record)]
    if settings.tracking.enabled:
        from pipeline.tracking.mlflow import MlflowTracker

        sweep = sweep_id()
        observers.append(MlflowTracker({} if sweep is None else {"sweep": sweep}))
    run(settings, Path(run_dir()), observers)


def _save(record: Record) -> None:
    try:
        record.save(Path(run_dir()))
    except OSError as error:  # the summary will miss the file, and say so
        print(f"error: the job's result must be written; got {error}. Free some space.", file=sys.stderr)
