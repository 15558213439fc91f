"""``pcace reproduce RUN_ID``: repeat a logged run and compare the two rankings."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pipeline.command_line import command
from pipeline.config import compose_settings
from pipeline.errors import SettingsError
from pipeline.imports import import_for_command
from pipeline.overrides import checked_overrides, value_of
from pipeline.settings import Settings, settings_from

if TYPE_CHECKING:
    from pipeline.reproduction import NetworkDifference, RankingDifference
    from pipeline.tracking.mlflow import MlflowTracker
    from pipeline.tracking.network import NetworkTracker
    from pipeline.tracking.provenance import Provenance

USAGE = """Usage: pcace reproduce RUN_ID [paths.outputs=FOLDER] [tracking.uri=ADDRESS] [setting=value ...]

Repeats a logged run with its own settings and compares the two rankings; of the run of a network, those of all its
layers. All artifacts are computed again, with the code, the packages, the weights and the images on this machine. The
ranking is one of:

  identical to the byte       expected on the same machine, with the same packages and batch size     (exit code 0)
  equal within the method's   scores differ by less than 1e-4, nine in ten by less than 1e-5, and their Spearman
  sensitivity                 correlation is above .999; expected on another machine or with other packages. With the
                              supersmoother, which makes discrete decisions, the largest difference may be .02
                                                                                                      (exit code 0)
  different                   followed by the differences in code, packages, weights and images       (exit code 1)

RUN_ID is the id of the run in MLflow (see `pcace ui`), or its first characters. The settings after it
replace those of the logged run, for example the folder of the images on this machine."""


def logged_settings(config: Mapping[str, Any], overrides: list[str], outputs: Path) -> Settings:
    """Return the settings of a logged run.

    Parameters
    ----------
    config : mapping
        The resolved settings of the logged run.
    overrides : list of str
        Settings that are replaced, such as ``data.root=PHOTOS``.
    outputs : Path
        The value of `paths.outputs`.

    Raises
    ------
    SettingsError
        If this version of pcace has other settings than the logged run, or an override is not possible.
    """
    values: dict[str, Any] = {**config, "engine": {"kind": "local"}}  # no result depends on what has computed it
    for override, checked in zip(overrides, checked_overrides(overrides), strict=True):
        path, value = value_of(checked)
        *parents, last = path.split(".")
        parent = values
        for part in parents:
            if not isinstance(parent.get(part), dict):
                raise SettingsError(f"{path} must be one of the run's settings; got {override}.")
            parent = parent[part]
        parent[last] = value
    settings = settings_from(values)
    return replace(settings, paths=replace(settings.paths, outputs=str(outputs)))


def reproduce(run_id: str, overrides: list[str]) -> bool:
    """Repeat a logged run, print how the rankings differ, and log it.

    Parameters
    ----------
    run_id : str
        The run's id in MLflow, or its first characters.
    overrides : list of str
        Settings that are replaced. Those of `paths` and `tracking` say where the runs are logged, those of `engine`
        where they are computed.

    Returns
    -------
    bool
        Whether the ranking is identical, or equal within the method's sensitivity.

    Raises
    ------
    PipelineError
        If there is no such run, or it cannot be repeated on this machine.
    """
    of_machine = [text for text in overrides if text.startswith(("paths.", "tracking.", "engine"))]
    of_run = [text for text in overrides if text not in of_machine]
    local = compose_settings([*of_machine, "data=digits"])  # of these, only the outputs and the tracking are used
    outputs = Path(local.paths.outputs).absolute()

    import_for_command("pipeline.whole_network", "pipeline.console", "pipeline.tracking.provenance")
    from pipeline.reproduction import DIFFERENT, compare_networks, compare_rankings
    from pipeline.tracking.provenance import load_provenance

    logged = load_provenance(run_id, outputs, local.tracking)
    print(f"Run {logged.run_id}, logged {logged.started} UTC (commit {logged.commit or 'unknown'}).")
    with TemporaryDirectory() as folder:
        settings = logged_settings(logged.config, of_run, Path(folder))
        settings = replace(settings, tracking=local.tracking, engine=local.engine)
        tracker = _repeat(settings, Path(folder) / "run", logged, outputs)
    repeated = load_provenance(tracker.run_id, outputs, local.tracking)
    difference: NetworkDifference | RankingDifference
    if logged.is_network:
        difference = compare_networks(logged.rankings, repeated.rankings, logged.tables, repeated.tables)
    else:
        (old,), (new,) = logged.rankings.values(), repeated.rankings.values()
        difference = compare_rankings(old, new)
    tracker.tag("reproduced", difference.verdict)
    _report(difference, logged, repeated)
    return difference.verdict != DIFFERENT


def _repeat(settings: Settings, run_dir: Path, logged: Provenance, outputs: Path) -> MlflowTracker | NetworkTracker:
    """Repeat a run, and return the tracker that has logged the repetition."""
    from pipeline.console import ConsoleObserver
    from pipeline.observer import NetworkResult, RunResult
    from pipeline.runner import run
    from pipeline.tracking.mlflow import MlflowTracker
    from pipeline.tracking.network import NetworkTracker
    from pipeline.whole_network import run_network

    class StageConsole(ConsoleObserver):
        def finished(self, result: RunResult) -> None:
            """Print nothing, because the files of the run are temporary."""

        def network_finished(self, result: NetworkResult) -> None:
            """Print nothing, because the files of the run are temporary."""

    tags = {"reproduces": logged.run_id}
    if settings.selects_several != logged.is_network:
        kind = "several layers" if logged.is_network else "one layer"
        raise SettingsError(f"layer must select {kind}, as in the logged run; got {settings.layer}.")
    if logged.is_network:
        network = NetworkTracker(tags, outputs=outputs)
        run_network(settings, run_dir, [StageConsole(), network])
        return network
    tracker = MlflowTracker(tags, outputs=outputs)
    run(settings, run_dir, [StageConsole(), tracker])
    return tracker


def _report(difference: NetworkDifference | RankingDifference, logged: Provenance, repeated: Provenance) -> None:
    """Print the difference between the rankings and, unless they are identical, between what they were made from."""
    from pipeline.reproduction import IDENTICAL, RankingDifference, differences, differences_of_layers

    if isinstance(difference, RankingDifference):
        print(f"\nThe ranking is {difference.verdict}.")
        lines = [] if difference.is_identical or not difference.has_same_channels else [difference.sentence]
    else:
        n_layers = len(logged.rankings)
        print(f"\nThe ranking of the network, {n_layers} layers, is {difference.verdict}.")
        lines = list(difference.sentences)
    for line in lines:
        print(f"  {line}")
    if difference.verdict == IDENTICAL:
        return
    found = [*differences(logged.origin, repeated.origin), *differences_of_layers(logged.keys, repeated.keys)]
    print("Differences between the logged run and this one:" if found else "Nothing that was logged differs.")
    for line in found:
        print(f"  {line}")


@command
def main() -> None:
    """Repeat the run that the command line names; exit with 1 if the ranking is different, or after an error."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    if not arguments or "=" in arguments[0]:
        raise SettingsError("RUN_ID must be given; got nothing. `pcace ui` shows the runs.")
    sys.exit(0 if reproduce(arguments[0], arguments[1:]) else 1)


if __name__ == "__main__":
    main()
