"""The folder of a sweep: how it is found, and how it is known that the sweep or one of its jobs is still running.

The process that started a sweep holds a lock as long as the sweep runs, and every job holds one of its own, wherever
its launcher has started it. The operating system releases a lock when its process ends or is killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pipeline.errors import InputError, listed
from pipeline.store.locks import claimed, exclusive

RECORDED = "multirun.yaml"  # written by Hydra when a sweep starts: its overrides
SUMMARY = "summary.csv"
RESUME = "--resume"  # the option that resumes a sweep
LAST = "last"  # stands for the sweep that was started or resumed last
_LOCKS, _SWEEP = ".locks", "sweep"
_held = ExitStack()


def hold(folder: Path) -> str:
    """Mark a sweep as running until `release` is called or this process ends.

    Returns
    -------
    str
        Empty if the sweep is now marked; otherwise a description of the process that runs it.
    """
    return _held.enter_context(claimed(folder / _LOCKS / _SWEEP))


def release() -> None:
    """Mark the sweep that `hold` has marked as no longer running."""
    _held.close()


@contextmanager
def running_job(folder: Path, job: str, note: Callable[[str], None]) -> Iterator[None]:
    """Mark a job of a sweep as running within the context; if another process runs it, wait for its end.

    Parameters
    ----------
    folder : Path
        Folder of the sweep.
    job : str
        Name of the folder of the job.
    note : callable
        Called with a message if another process runs the job.
    """
    with exclusive(folder / _LOCKS / job, f"job {job} of the sweep", note):
        yield


def running_jobs(folder: Path) -> dict[str, str]:
    """Return a description of the process of each job of a sweep that is running, by the name of the job's folder."""
    found = {}
    for path in sorted((folder / _LOCKS).glob("*")):
        if path.name != _SWEEP:
            with claimed(path) as owner:
                if owner:
                    found[path.name] = owner
    return found


def sweeps_in(outputs: Path) -> list[Path]:
    """Return the folders of the sweeps below `paths.outputs`, the one that was started or resumed last first."""
    found = [path for path in (outputs / "sweeps").glob("*/") if (path / RECORDED).is_file()]
    return sorted(found, key=lambda path: ((path / RECORDED).stat().st_mtime, path.name), reverse=True)


def interrupted(outputs: Path, most: int) -> Iterator[Path]:
    """Yield the folders of the latest sweeps that ended without a summary, at most `most` of them."""
    without = [path for path in sweeps_in(outputs) if not (path / SUMMARY).exists()]
    for folder in without[:most]:
        with claimed(folder / _LOCKS / _SWEEP) as owner:
            if not owner and not running_jobs(folder):
                yield folder


def found_sweep(name: str, outputs: Path, asked_by: str) -> Path:
    """Return the folder of a sweep, absolute.

    Parameters
    ----------
    name : str
        The folder, its name below `outputs`, or `LAST`.
    outputs : Path
        The setting `paths.outputs`.
    asked_by : str
        What the user has given the name to, for the message.

    Raises
    ------
    InputError
        If there is no such sweep.
    """
    known = sweeps_in(outputs)
    if name == LAST and known:
        return known[0].resolve()
    for folder in (Path(name), outputs / "sweeps" / name):
        if name and (folder / RECORDED).is_file():
            return folder.resolve()
    latest = listed([path.name for path in known], 3) or "none"
    raise InputError(
        f"{asked_by} must be the folder or the name of a sweep, or {LAST}; got {name or 'nothing'}. "
        f"Latest sweeps in {outputs}: {latest}."
    )
