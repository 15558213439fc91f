"""``python -m pipeline.reproduce RUN_ID``: run a logged run again, and say whether the ranking is the same."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pipeline.command_line import command
from pipeline.config import compose_settings
from pipeline.errors import SettingsError
from pipeline.settings import Settings, settings_from

if TYPE_CHECKING:
    import pandas as pd

USAGE = """Usage: python -m pipeline.reproduce RUN_ID [paths.outputs=FOLDER] [tracking.uri=ADDRESS] [setting=value ...]

Runs a logged run again from its own configuration, from nothing (the artifact store does not help), with the code, the
libraries, the weights and the images that are here now, and compares the rankings:

  the same to the byte           what one machine, one build and one batch size owe          exit code 0
  the same within sensitivity    scores within .02, nine in ten within 1e-5, Spearman above .999: what another machine
                                 or build may move, because ACE takes decisions              exit code 0
  different                      and then what differs: code, libraries, weights, images     exit code 1

RUN_ID is shown by `python -m pipeline.ui`, or by its first digits. What follows it overrides the logged configuration:
where photographs or weights lie on this machine, say."""

MOST_MOVED = 0.02  # METHOD: what another machine, build or number of threads may move a score by
MOSTLY_MOVED = 1e-5
SHARE_STILL = 0.9
LEAST_SPEARMAN = 0.999


@dataclass(frozen=True)
class Comparison:
    """How two rankings of the same channels differ.

    Attributes
    ----------
    is_same_bytes : bool
        Whether the files are equal.
    is_same_channels : bool
        Whether they rank the same channels at all; if not, the numbers below are NaN.
    most : float
        The largest difference of a channel's score.
    share_still : float
        Share of the channels whose scores differ by less than 1e-5, in [0, 1].
    spearman : float
        Rank correlation of the scores.
    """

    is_same_bytes: bool
    is_same_channels: bool
    most: float
    share_still: float
    spearman: float

    @property
    def verdict(self) -> str:
        """``the same to the byte``, ``the same within the method's sensitivity`` or ``different``."""
        if self.is_same_bytes:
            return "the same to the byte"
        within = self.most < MOST_MOVED and self.share_still >= SHARE_STILL and self.spearman > LEAST_SPEARMAN
        return "the same within the method's sensitivity" if self.is_same_channels and within else "different"


def compare(old: bytes, new: bytes) -> Comparison:
    """Return how two ``ranking.csv`` differ."""
    from io import BytesIO

    import pandas as pd

    tables = [pd.read_csv(BytesIO(data)).set_index("channel").sort_index() for data in (old, new)]
    if not tables[0].index.equals(tables[1].index):
        return Comparison(False, False, float("nan"), float("nan"), float("nan"))
    difference = (tables[0].score - tables[1].score).abs()
    return Comparison(
        old == new,
        True,
        float(difference.max()),
        float((difference < MOSTLY_MOVED).mean()),
        _spearman(tables[0].score, tables[1].score),
    )


def _spearman(one: pd.Series[float], other: pd.Series[float]) -> float:
    return 1.0 if one.equals(other) else float(one.corr(other, method="spearman"))


def differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """Yield ``name: old -> new`` for every leaf of two nested mappings that is not the same in both."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from differences(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
    elif old != new:
        yield f"{name}: {_shown(old)} -> {_shown(new)}"


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return f"{text[:12]}..." if len(text) == 64 else text


def logged_settings(config: Mapping[str, Any], overrides: list[str], outputs: Path) -> Settings:
    """Return a logged run's settings, with what the command line overrides, writing below `outputs`.

    Raises
    ------
    SettingsError
        If this version of pcace knows other settings than the run's did, or an override does not suit.
    """
    values: dict[str, Any] = {**config}
    for override in overrides:
        path, _, value = override.partition("=")
        *parents, last = path.split(".")
        parent = values
        for part in parents:
            if not isinstance(parent.get(part), dict):
                raise SettingsError(f"{path} must be one of the run's settings; got {override}.")
            parent = parent[part]
        try:
            parent[last] = json.loads(value)
        except ValueError:
            parent[last] = value  # text
    settings = settings_from(values)
    return replace(settings, paths=replace(settings.paths, outputs=str(outputs)))


def reproduce(run_id: str, overrides: list[str]) -> bool:
    """Run a logged run again, print the verdict and what differs, log it; say whether the ranking is the same.

    Raises
    ------
    PipelineError
        If there is no such run, or it cannot be run here.
    """
    here = [text for text in overrides if text.startswith(("paths.", "tracking."))]
    place = compose_settings([*here, "data=digits"])

    from pipeline.console import ConsoleObserver
    from pipeline.observer import RunResult
    from pipeline.runner import run
    from pipeline.tracking.mlflow import MlflowTracker
    from pipeline.tracking.recorded import load_run

    logged = load_run(run_id, Path(place.paths.outputs).absolute(), place.tracking)

    class Progress(ConsoleObserver):
        def finished(self, result: RunResult) -> None:
            """Say nothing of files that are about to go; the verdict follows."""

    others = [text for text in overrides if text not in here]
    print(f"Run {logged.run_id}, logged {logged.when} (commit {logged.commit or 'unknown'}).")
    with TemporaryDirectory() as scratch:
        settings = logged_settings(logged.config, others, Path(scratch))
        tracker = MlflowTracker({"reproduces": logged.run_id}, outputs=Path(place.paths.outputs).absolute())
        settings = replace(settings, tracking=place.tracking)
        run(settings, Path(scratch) / "run", [Progress(), tracker])
        found = compare(logged.ranking, (Path(scratch) / "run" / "ranking.csv").read_bytes())
        again = load_run(tracker.run_id, Path(place.paths.outputs).absolute(), place.tracking)
        tracker.tag("reproduced", found.verdict)
    print(f"\nThe ranking is {found.verdict}.")
    if not found.is_same_bytes:
        if found.is_same_channels:
            print(
                f"  Scores differ by {found.most:.2g} at most, {found.share_still:.0%} of them by less than 1e-5; "
                f"Spearman {found.spearman:.5f}."
            )
        moved = [*differences(logged.made_from, again.made_from), *differences(logged.keys, again.keys)]
        print("What differs between then and now:" if moved else "Nothing that was recorded differs.")
        for line in moved:
            print(f"  {line}")
    return found.verdict != "different"


@command
def main() -> None:
    """Reproduce the run that the command line names; exit with 1 where it comes out different, or cannot be run."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    if not arguments or "=" in arguments[0]:
        raise SettingsError("RUN_ID must be given; got nothing. `python -m pipeline.ui` shows the runs.")
    sys.exit(0 if reproduce(arguments[0], arguments[1:]) else 1)


if __name__ == "__main__":
    main()
