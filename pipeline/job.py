"""One job of ``pcace run``: the function that Hydra calls in this process, or its launcher in another one."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.command_line import ignore_closed_output, print_error, provide_home
from pipeline.config import job_overrides, rerun_command, run_dir, settings_from_config, sweep_dir
from pipeline.errors import PipelineError
from pipeline.imports import import_for_command

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pipeline.observer import Observer
    from pipeline.records import Record


def run_job(config: DictConfig) -> None:
    """Run one job.

    A single run that fails exits with 1. A job of a sweep that fails writes the reason to ``result.json``, from which
    the summary of the sweep takes it, and the other jobs continue.

    Parameters
    ----------
    config : DictConfig
        The configuration that Hydra has composed.
    """
    # Both again, because a launcher may run the job in another process.
    ignore_closed_output()
    provide_home()
    sweep = sweep_dir()
    if sweep is not None:
        _run_in_sweep(config, sweep)
        return
    # Imported here, so that --help and messages about settings do not wait for torch and MLflow.
    from pipeline.records import Record

    try:
        _run(config, Record())
    except PipelineError as error:
        print_error(error)
        sys.exit(1)


def _run_in_sweep(config: DictConfig, sweep: Path) -> None:
    """Run one job of a sweep, unless another process has finished it in the meantime, and record how it went."""
    from pipeline.records import RESULT, Record
    from pipeline.store import storage_errors
    from pipeline.sweep_folder import running_job

    folder = Path(run_dir())
    record = Record(overrides=job_overrides())
    with ExitStack() as held:
        try:
            with storage_errors("the job's folder", folder):
                held.enter_context(running_job(sweep, folder.name, print))
                earlier = Record.load(folder)
                if earlier is not None and (earlier.status, earlier.overrides) == ("finished", record.overrides):
                    print(f"Job {folder.name} of the sweep is finished already.")
                    return
                (folder / RESULT).unlink(missing_ok=True)  # of an attempt that failed
            _run(config, record)
        except PipelineError as error:
            print_error(error)
            record.error = str(error)
        except Exception as error:
            record.error = f"{type(error).__name__}: {error}"
            logging.getLogger(__name__).exception("the job ended with an unexpected error")
        _save(record)


def _run(config: DictConfig, record: Record) -> None:
    """Run the pipeline with the observers that the command line uses."""
    settings = settings_from_config(config)
    several = settings.selects_several
    names = ["pipeline.runner", "pipeline.report_writer", "pipeline.console"]
    if several:
        names += ["pipeline.whole_network", "pipeline.network_report"]
    if settings.tracking.enabled:
        names.append("pipeline.tracking.network" if several else "pipeline.tracking.mlflow")
    import_for_command(*names)
    from pipeline.console import ConsoleObserver
    from pipeline.records import RecordingObserver
    from pipeline.report_writer import ReportWriter

    # The report comes first, because the tracker logs it.
    observers: list[Observer] = [ReportWriter(rerun_command(), rerun_command)]
    if several:
        from pipeline.network_report import NetworkReportWriter

        observers.append(NetworkReportWriter(rerun_command()))
    observers += [ConsoleObserver(), RecordingObserver(record)]
    if settings.tracking.enabled:
        sweep = sweep_dir()
        tags = {} if sweep is None else {"sweep": sweep.name, "job": Path(run_dir()).name}
        observers.append(_tracker(tags, is_of_network=several))
    if several:
        from pipeline.whole_network import run_network

        run_network(settings, Path(run_dir()), observers)
    else:
        from pipeline.runner import run

        run(settings, Path(run_dir()), observers)


def _tracker(tags: dict[str, str], *, is_of_network: bool) -> Observer:
    """Return the observer that logs to MLflow."""
    if is_of_network:
        from pipeline.tracking.network import NetworkTracker

        return NetworkTracker(tags)
    from pipeline.tracking.mlflow import MlflowTracker

    return MlflowTracker(tags)


def _save(record: Record) -> None:
    try:
        record.save(Path(run_dir()))
    except OSError as error:  # the summary of the sweep reports the job as one without a result
        print(f"error: the job's result must be written; got {error}. Free some space.", file=sys.stderr)
