"""``pcace run``: compose the settings, run one job or the jobs of a sweep, and summarise the sweep.

Hydra is imported only if a job is composed, and MLflow only if one runs, so that ``--help`` and messages about settings
appear at once. PyTorch is imported only if something is computed.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.command_line import command, print_error
from pipeline.commands import dispatched
from pipeline.errors import PipelineError
from pipeline.resources import conf_dir

if TYPE_CHECKING:
    from pipeline.sweep_start import SweepStart


@command
def main() -> None:
    """Run what the command line asks for; exit with 0, with 1 after an error, or with 130 after Ctrl-C."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        _print_usage()
        return
    import hydra

    from pipeline.config import CONFIG_NAME, check_folders, register_resolvers, with_absolute_outputs
    from pipeline.job import run_job
    from pipeline.overrides import checked_overrides, with_own_options
    from pipeline.sweep_folder import RESUME

    register_resolvers()
    if any(text.partition("=")[0] == RESUME for text in arguments):
        from pipeline.resume import go_on, requested

        request = requested(arguments)
        sys.exit(_run_hydra(lambda: go_on(request)))
    # An argument without "=" that follows a flag is the value of the flag, as in `--cfg job`.
    is_override = [
        not argument.startswith("-") and ("=" in argument or not before.startswith("-"))
        for before, argument in itertools.pairwise(["", *arguments])
    ]
    overrides = list(itertools.compress(arguments, is_override))
    is_sweep = bool({"-m", "--multirun"} & set(arguments)) or "hydra.mode=MULTIRUN" in overrides
    checked = checked_overrides(overrides, is_sweep=is_sweep)
    check_folders(checked)
    flags = [argument for argument, is_one in zip(arguments, is_override, strict=True) if not is_one]
    if is_sweep:
        from pipeline.resume import prepare_sweep

        checked = with_absolute_outputs(checked)
        prepare_sweep(checked)
    sys.argv[1:] = [*flags, *with_own_options(checked)]  # Hydra does not accept overrides on both sides of a flag
    sys.exit(_run_hydra(hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=CONFIG_NAME)(run_job)))


def _print_usage() -> None:
    """Print the help; exit with 1 if it cannot be written."""
    from pipeline.usage import usage

    try:
        print(usage(), flush=True)
    except OSError as error:
        sys.exit(_report_disk_error(error))


def _run_hydra(start: Callable[[], None]) -> int:
    """Let Hydra run the job or the jobs of a sweep, summarise the sweep if there was one, and return the exit code."""
    from pipeline.sweep_folder import release

    try:
        return _run_and_summarise(start)
    finally:
        release()


def _run_and_summarise(start: Callable[[], None]) -> int:
    from pipeline.config import COMPOSITION_ERRORS
    from pipeline.sweep_start import resume_command, started_sweep

    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises errors instead of printing and exiting
    launcher_error = None
    try:
        start()
    except KeyboardInterrupt:
        stopped = started_sweep()
        how = "" if stopped is None else f". Resume the sweep: {resume_command(stopped.folder)}"
        print(f"stopped; finished stages are kept in the store{how}", file=sys.stderr)
        return 130
    except COMPOSITION_ERRORS as error:
        print_error(PipelineError(" ".join(str(error).split())))
        return 1
    except OSError as error:  # Hydra could not create the folder of the run
        return _report_disk_error(error)
    except Exception as error:
        if started_sweep() is None or isinstance(error, PipelineError):
            raise
        launcher_error = error  # for example, the process of a job was killed; the other jobs are summarised
    sweep = started_sweep()
    return 0 if sweep is None else _summarise(sweep, launcher_error)


def _report_disk_error(disk_error: OSError) -> int:
    """Print one line for an error of the disk and return the exit code; raise any other error again."""
    from pipeline.store import storage_errors

    try:
        with storage_errors("the run's folder", Path(disk_error.filename or ".")):
            raise disk_error
    except PipelineError as error:
        print_error(error)
        return 1


def _summarise(sweep: SweepStart, launcher_error: Exception | None) -> int:
    """Print and log the summary of a sweep; return the exit code, which is 0 only if every job has finished."""
    from pipeline.sweep import sum_up
    from pipeline.sweep_start import resume_command

    try:
        is_complete = sum_up(sweep)
        if launcher_error is not None:
            lines = str(launcher_error).strip().splitlines() or [type(launcher_error).__name__]
            raise PipelineError(
                f"every job must end without an error of its launcher; got: {lines[-1]}. "
                f"See the logs in {sweep.folder}."
            )
    except PipelineError as error:
        print_error(error)
        is_complete = False
    if not is_complete:
        print(f"Resume   {resume_command(sweep.folder)} (runs the jobs that have not finished)")
    return 0 if is_complete else 1


if __name__ == "__main__" and not dispatched():
    main()
