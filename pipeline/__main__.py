"""``python -m pipeline``: compose the config, turn it into settings, run the stages."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hydra

from pipeline.config import CONFIG_NAME, checked_overrides, run_dir, settings_from_config, sweep_id, typed_command
from pipeline.errors import PipelineError
from pipeline.resources import conf_dir

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pipeline.runner import Observer

_exit_code = 0


def report(error: PipelineError) -> None:
    """Print what went wrong, one line for each fault."""
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)


def _task(config: DictConfig) -> None:
    """Run one job; a failed one is reported and leaves the other jobs of its sweep alone."""
    global _exit_code
    try:
        settings = settings_from_config(config)
        # Late, so that --help and a mistyped setting do not wait for torch and MLflow.
        from pipeline.console import ConsoleObserver
        from pipeline.runner import run
        from pipeline.tracking.report import ReportWriter

        observers: list[Observer] = [ReportWriter(typed_command()), ConsoleObserver()]
        if settings.tracking.enabled:
            from pipeline.tracking.mlflow import MlflowTracker

            observers.append(MlflowTracker(sweep_id()))
        run(settings, Path(run_dir()), observers)
    except PipelineError as error:
        report(error)
        _exit_code = 1


def main() -> None:
    """Run what the command line asks for; exit with 1 where it cannot be done, 130 where it was stopped."""
    arguments = sys.argv[1:]
    # What has no "=" and follows a flag is that flag's value, as in `--cfg job`.
    is_override = [
        not argument.startswith("-") and ("=" in argument or not before.startswith("-"))
        for before, argument in itertools.pairwise(["", *arguments])
    ]
    try:
        overrides = list(itertools.compress(arguments, is_override))
        is_sweep = bool({"-m", "--multirun"} & set(arguments)) or "hydra.mode=MULTIRUN" in overrides
        checked = iter(checked_overrides(overrides, is_sweep=is_sweep))
    except PipelineError as error:
        report(error)
        sys.exit(1)
    sys.argv[1:] = [
        next(checked) if is_one else argument for argument, is_one in zip(arguments, is_override, strict=True)
    ]
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=CONFIG_NAME)(_task)()
    except KeyboardInterrupt:
        print("stopped; what is finished stays in the store", file=sys.stderr)
        sys.exit(130)
    sys.exit(_exit_code)


if __name__ == "__main__":
    main()
