"""``python -m pipeline``: compose the config, run the job or the sweep's jobs, sum a sweep up."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import hydra
from hydra.errors import HydraException

from pipeline.command_line import command, print_error
from pipeline.config import (
    CONFIG_NAME,
    SweepStart,
    checked_overrides,
    register_resolvers,
    started_sweep,
    with_absolute_outputs,
)
from pipeline.errors import PipelineError
from pipeline.job import run_job
from pipeline.resources import conf_dir


@command
def main() -> None:
    """Run what the command line asks for; exit with 1 where it cannot be done, 130 where it was stopped."""
    arguments = sys.argv[1:]
    # What has no "=" and follows a flag is that flag's value, as in `--cfg job`.
    is_override = [
        not argument.startswith("-") and ("=" in argument or not before.startswith("-"))
        for before, argument in itertools.pairwise(["", *arguments])
    ]
    overrides = list(itertools.compress(arguments, is_override))
    is_sweep = bool({"-m", "--multirun"} & set(arguments)) or "hydra.mode=MULTIRUN" in overrides
    checked = checked_overrides(overrides, is_sweep=is_sweep)
    flags = [argument for argument, is_one in zip(arguments, is_override, strict=True) if not is_one]
    if {"-m", "--multirun"} & set(flags):
        checked = with_absolute_outputs(checked)
    sys.argv[1:] = [*flags, *checked]  # Hydra takes no override after a flag that stands between others
    register_resolvers()
    sys.exit(_launched())


def _launched() -> int:
    """Hand over to Hydra, then sum up if it was a sweep; return the exit code."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # its errors come here, where they become a line
    error = None
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=CONFIG_NAME)(run_job)()
    except KeyboardInterrupt:
        print("stopped; what is finished stays in the store", file=sys.stderr)
        return 130
    except HydraException as refusal:
        print_error(PipelineError(" ".join(str(refusal).split())))
        return 1
    except OSError as refusal:  # Hydra makes the run's folder
        return _refused_by_disk(refusal)
    except Exception as fault:
        if started_sweep() is None:
            raise
        error = fault  # a job's process was killed, say: what the others found is summed up all the same
    sweep = started_sweep()
    return 0 if sweep is None else _sum_up(sweep, error)


def _refused_by_disk(refusal: OSError) -> int:
    from pipeline.store import storage_errors

    try:
        with storage_errors("the run's folder", Path(refusal.filename or ".")):
            raise refusal
    except PipelineError as error:
        print_error(error)
        return 1


def _sum_up(sweep: SweepStart, launcher_error: Exception | None) -> int:
    from pipeline.sweep import sum_up

    try:
        is_complete = sum_up(sweep)
        if launcher_error is not None:
            lines = str(launcher_error).strip().splitlines() or [type(launcher_error).__name__]
            raise PipelineError(f"every job must come back from its launcher; got: {lines[-1]}. See {sweep.folder}.")
    except PipelineError as error:
        print_error(error)
        return 1
    return 0 if is_complete else 1


if __name__ == "__main__":
    main()
