"""``python -m pipeline.reproduce RUN_ID``: repeat a logged run and compare the two rankings."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
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
    import pandas as pd

    from pipeline.tracking.provenance import Provenance

USAGE = """Usage: python -m pipeline.reproduce RUN_ID [paths.outputs=FOLDER] [tracking.uri=ADDRESS] [setting=value ...]

Repeats a logged run with its own settings and compares the two rankings. All artifacts are computed again, with the
code, the packages, the weights and the images on this machine. The ranking is one of:

  identical to the byte       expected on the same machine, with the same packages and batch size     (exit code 0)
  equal within the method's   scores differ by less than 1e-4, nine in ten by less than 1e-5, and their Spearman
  sensitivity                 correlation is above .999; expected on another machine or with other packages. With the
                              supersmoother, which makes discrete decisions, the largest difference may be .02
                                                                                                      (exit code 0)
  different                   followed by the differences in code, packages, weights and images       (exit code 1)

RUN_ID is the id of the run in MLflow (see `python -m pipeline.ui`), or its first characters. The settings after it
replace those of the logged run, for example the folder of the images on this machine."""

# The limits of "equal within the method's sensitivity".
MAX_DIFFERENCE = 1e-4  # of scores that are continuous functions of the activations
MAX_DIFFERENCE_DISCRETE = 0.02  # of the supersmoother's ACE, and of mutual information, which is based on neighbours
SMALL_DIFFERENCE = 1e-5
MIN_SHARE_SMALL = 0.9
MIN_SPEARMAN = 0.999


@dataclass(frozen=True)
class RankingDifference:
    """The difference between two rankings.

    Attributes
    ----------
    is_identical : bool
        Whether the files are equal.
    has_same_channels : bool
        Whether both rank the same channels; if not, the other values are NaN.
    is_continuous : bool
        Whether small differences of the activations can only cause small differences of the scores.
    largest : float
        The largest absolute difference between the two scores of a channel, in units of the largest score if that is
        above 1.
    share_small : float
        Share of the channels whose scores differ by less than 1e-5, in the same units, in [0, 1].
    spearman : float
        Spearman correlation between the scores.
    """

    is_identical: bool
    has_same_channels: bool
    is_continuous: bool = True
    largest: float = float("nan")
    share_small: float = float("nan")
    spearman: float = float("nan")

    @property
    def verdict(self) -> str:
        """``identical to the byte``, ``equal within the method's sensitivity`` or ``different``."""
        if self.is_identical:
            return "identical to the byte"
        most = MAX_DIFFERENCE if self.is_continuous else MAX_DIFFERENCE_DISCRETE
        is_small = self.largest < most and self.share_small >= MIN_SHARE_SMALL
        is_equal = self.has_same_channels and is_small and self.spearman > MIN_SPEARMAN
        return "equal within the method's sensitivity" if is_equal else "different"


def compare_rankings(old: bytes, new: bytes) -> RankingDifference:
    """Return the difference between two rankings, given the contents of their ``ranking.csv``."""
    import pandas as pd

    first, second = (pd.read_csv(BytesIO(data)).set_index("channel").sort_index() for data in (old, new))
    if not first.index.equals(second.index):
        return RankingDifference(is_identical=False, has_same_channels=False)
    scale = max(1.0, float(first.score.abs().max()), float(second.score.abs().max()))
    difference = (first.score - second.score).abs() / scale
    return RankingDifference(
        is_identical=old == new,
        has_same_channels=True,
        is_continuous="iterations" not in first and set(first.by) != {"mutual_information"},
        largest=float(difference.max()),
        share_small=float((difference < SMALL_DIFFERENCE).mean()),
        spearman=_spearman(first.score, second.score),
    )


def _spearman(first: pd.Series[float], second: pd.Series[float]) -> float:
    """Return the Spearman correlation; 1 for equal values, for which it is not defined if all of them are the same."""
    return 1.0 if first.equals(second) else float(first.corr(second, method="spearman"))


def differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """Yield ``name: old -> new`` for every value that is not the same in two nested mappings.

    Parameters
    ----------
    old, new : mapping
        The mappings. A key that only one of them has counts as None in the other.
    name : str
        Prefix of the dotted names.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from differences(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
    elif old != new:
        yield f"{name}: {_shortened(old)} -> {_shortened(new)}"


def _shortened(value: Any) -> str:
    """Return a value as text; of a digest, only the first characters."""
    text = "none" if value is None else str(value)
    return f"{text[:12]}..." if len(text) == 64 else text


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

    import_for_command("pipeline.runner", "pipeline.console", "pipeline.tracking.provenance")
    from pipeline.console import ConsoleObserver
    from pipeline.observer import RunResult
    from pipeline.runner import run
    from pipeline.tracking.mlflow import MlflowTracker
    from pipeline.tracking.provenance import load_provenance

    class StageConsole(ConsoleObserver):
        def finished(self, result: RunResult) -> None:
            """Print nothing, because the files of the run are temporary."""

    logged = load_provenance(run_id, outputs, local.tracking)
    print(f"Run {logged.run_id}, logged {logged.started} UTC (commit {logged.commit or 'unknown'}).")
    with TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        settings = logged_settings(logged.config, of_run, Path(folder))
        settings = replace(settings, tracking=local.tracking, engine=local.engine)
        tracker = MlflowTracker({"reproduces": logged.run_id}, outputs=outputs)
        run(settings, run_dir, [StageConsole(), tracker])
        difference = compare_rankings(logged.ranking, (run_dir / "ranking.csv").read_bytes())
        tracker.tag("reproduced", difference.verdict)
        repeated = load_provenance(tracker.run_id, outputs, local.tracking)
    _report(difference, logged, repeated)
    return difference.verdict != "different"


def _report(difference: RankingDifference, logged: Provenance, repeated: Provenance) -> None:
    """Print the difference between the rankings and, unless they are identical, between what they were made from."""
    print(f"\nThe ranking is {difference.verdict}.")
    if difference.is_identical:
        return
    if difference.has_same_channels:
        print(
            f"  Scores differ by at most {difference.largest:.2g}, {difference.share_small:.0%} of them by less than "
            f"1e-5; Spearman correlation {difference.spearman:.5f}."
        )
    lines = [*differences(logged.origin, repeated.origin), *differences(logged.keys, repeated.keys)]
    print("Differences between the logged run and this one:" if lines else "Nothing that was logged differs.")
    for line in lines:
        print(f"  {line}")


@command
def main() -> None:
    """Repeat the run that the command line names; exit with 1 if the ranking is different, or after an error."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    if not arguments or "=" in arguments[0]:
        raise SettingsError("RUN_ID must be given; got nothing. `python -m pipeline.ui` shows the runs.")
    sys.exit(0 if reproduce(arguments[0], arguments[1:]) else 1)


if __name__ == "__main__":
    main()
