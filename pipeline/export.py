"""The command ``pcace export``: write the report of a run or of a sweep into a folder for a web server."""

from __future__ import annotations

import json
import re
import shutil
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pipeline.command_line import command
from pipeline.errors import InputError, PipelineError, StorageError, listed
from pipeline.imports import import_for_command

if TYPE_CHECKING:
    from pipeline.private_paths import PrivatePaths
    from pipeline.sweep import Job

USAGE = """Usage: pcace export SWEEP_OR_RUN FOLDER [paths.outputs=OUTPUTS]

Writes the report of a run, of a network (layer=all) or of a sweep into FOLDER, which can be put on any web server or
opened from the disk: begin with index.html. SWEEP_OR_RUN is the folder of a run or a sweep, its name in OUTPUTS/runs or
OUTPUTS/sweeps, or last for the latest of all.

The pages contain everything they show and load nothing from elsewhere. Paths of this machine are replaced by their last
part, and the address of the MLflow store is left out. Tables can be downloaded as CSV. FOLDER must be new, empty, or an
earlier export, which is replaced.

    pcace export last site"""

INDEX = "index.html"
MARKER = "export.json"  # lists the files of an export, so that it can be replaced by a later one
RUN_TABLES = ("ranking.csv", "effects.csv", "network.csv", "layers.csv", "not_ranked.csv")
CAPTIONS = {
    "curves.png": "Scores by rank, one curve for each job.",
    "agreement.png": "Spearman correlation with the ranking of the first job that ranked the same channels.",
}


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes
    ----------
    folder : Path
        Folder of the run or the sweep.
    is_sweep : bool
        Whether it is a sweep.
    """

    folder: Path
    is_sweep: bool


@command
def main() -> None:
    """Export what the command line names."""
    typed = sys.argv[1:]
    if {"-h", "--help"} & set(typed):
        print(USAGE)
        return
    overrides = [each for each in typed if each.startswith("paths.outputs=")]
    names = [each for each in typed if each not in overrides]
    if len(names) != 2 or any(each.startswith("-") for each in names):
        raise InputError(
            f"export must have a run or a sweep and a folder; got {' '.join(typed) or 'nothing'}. "
            "See pcace export --help."
        )
    from pipeline.config import compose_settings

    source = found(names[0], Path(compose_settings(overrides).paths.outputs))
    target = Path(names[1])
    check_target(target)
    import_for_command("pipeline.sweep")
    written = export(source, target)
    size = sum(path.stat().st_size for path in written) / 2**20
    print(f"Page    {target / INDEX} ({len(written)} files, {size:.1f} MiB)")
    print(f"Browse  python -m http.server --directory {target}")


def found(name: str, outputs: Path) -> Source:
    """Return the run or the sweep with this name.

    Parameters
    ----------
    name : str
        The folder, its name below `outputs`, or ``last``.
    outputs : Path
        The setting `paths.outputs`.

    Raises
    ------
    InputError
        If there is none, or if a run has no report.
    """
    known = [*(outputs / "runs").glob("*/"), *(outputs / "sweeps").glob("*/")]
    sources = [source for path in known if (source := _source(path)) is not None]
    if name == "last" and sources:
        return max(sources, key=lambda each: (each.folder.stat().st_mtime, each.folder.name))
    for folder in (Path(name), outputs / "sweeps" / name, outputs / "runs" / name):
        if name and folder.is_dir() and (source := _source(folder)) is not None:
            return source
    latest = sorted(sources, key=lambda each: each.folder.stat().st_mtime, reverse=True)
    raise InputError(
        "export must be given the folder or the name of a sweep, or of a run with a report, or last; got "
        f"{name or 'nothing'}. Latest in {outputs}: {listed([each.folder.name for each in latest], 3) or 'none'}."
    )


def _source(folder: Path) -> Source | None:
    """Return what a folder contains, or None if it is neither a sweep nor a run with a report."""
    from pipeline.sweep_folder import RECORDED

    if (folder / RECORDED).is_file():
        return Source(folder.resolve(), is_sweep=True)
    return Source(folder.resolve(), is_sweep=False) if _page(folder) is not None else None


def _page(run_dir: Path) -> Path | None:
    """Return the page of a run: that of the network, or the report of a layer; None if there is none."""
    from pipeline.run_folder import NETWORK_PAGE, REPORT

    pages = (run_dir / NETWORK_PAGE, run_dir / REPORT)
    return next((page for page in pages if page.is_file()), None)


def check_target(target: Path) -> None:
    """Raise `InputError` if the folder of an export contains anything but an earlier export."""
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"an export must be written into a folder; got the file {target}. Choose another folder.")
    present = {str(path.relative_to(target)) for path in target.rglob("*") if not path.is_dir()}
    expected: set[str] = set()
    with suppress(OSError, ValueError, KeyError, TypeError):
        expected = {*json.loads((target / MARKER).read_text(encoding="utf-8"))["files"], MARKER}
    if others := sorted(present - expected):
        raise InputError(
            f"the folder of an export must be new, empty or that of an earlier export; got {target} with "
            f"{listed(others, 3)}. Choose another folder."
        )


def export(source: Source, target: Path) -> list[Path]:
    """Write the pages, the tables and the figures into a folder, all of them or none.

    Parameters
    ----------
    source : Source
        The run or the sweep.
    target : Path
        The folder, which `check_target` has accepted.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    StorageError
        If the folder cannot be written.
    """
    with _whole_folder(target) as folder:
        exporter = _Exporter(folder, _private(source))
        if source.is_sweep:
            exporter.sweep(source.folder)
        else:
            exporter.run(source.folder, Path(), [])
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        (folder / MARKER).write_text(json.dumps({"files": files}, indent=1) + "\n", encoding="utf-8")
    return [target / name for name in files]


@contextmanager
def _whole_folder(target: Path) -> Iterator[Path]:
    """Return a temporary folder, which takes the place of `target` if the context ends without an error."""
    place = target.resolve()  # the folder itself, which may be given by a link
    temporary = place.parent / f".{place.name}.{uuid.uuid4().hex}.part"
    try:
        try:
            temporary.mkdir(parents=True)
            yield temporary
            if place.exists():
                shutil.rmtree(place)
            temporary.rename(place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise StorageError(
            f"the folder of an export must be writable; got {target} ({error.strerror or error}). "
            "Choose another folder."
        ) from error


def _private(source: Source) -> PrivatePaths:
    from pipeline.private_paths import PrivatePaths
    from pipeline.run_folder import SETTINGS

    settings: list[Mapping[str, Any]] = []
    for path in (source.folder / SETTINGS, *sorted(source.folder.glob(f"*/{SETTINGS}"))):
        with suppress(OSError, ValueError):
            settings.append(json.loads(path.read_text(encoding="utf-8")))
    return PrivatePaths(settings, [Path.home(), Path.cwd(), source.folder, source.folder.parent.parent])


@dataclass(frozen=True)
class _Exporter:
    """Writes files into the folder of an export.

    Attributes
    ----------
    folder : Path
        The folder.
    private : PrivatePaths
        Removes paths from texts.
    """

    folder: Path
    private: PrivatePaths

    def run(self, run_dir: Path, place: Path, links: list[tuple[str, str]]) -> None:
        """Write the pages of a run, its tables and its figures at full size into the subfolder `place`."""
        from pipeline.run_folder import LAYERS, REPORT

        page = _page(run_dir)
        assert page is not None
        self._page(page, place / INDEX, links)
        self._files(run_dir, place)
        for layer in sorted((run_dir / LAYERS).glob("*/")):
            if (layer / REPORT).is_file():
                self._page(layer / REPORT, place / LAYERS / layer.name / REPORT, [])
                self._files(layer, place / LAYERS / layer.name)

    def sweep(self, sweep_dir: Path) -> None:
        """Write the page of a sweep, its tables, and each job in a subfolder of its own."""
        from pipeline.figures.sweep_page import SweepContent, render_sweep
        from pipeline.sweep import RANKINGS, draw, gather, side_by_side, summary
        from pipeline.sweep_folder import SUMMARY
        from pipeline.sweep_start import resume_command

        jobs = [self._without_paths(job) for job in gather(sweep_dir)]
        addresses = {}
        for job in jobs:
            if job.ranking is not None and _page(job.folder) is not None:
                place = Path("jobs") / job.folder.name
                self.run(job.folder, place, [("All jobs of the sweep", f"../../{INDEX}")])
                addresses[int(job.folder.name)] = (place / INDEX).as_posix()
        if not addresses:
            raise InputError(
                f"export must be given a sweep with a finished job; got {sweep_dir.name}. "
                f"Finish it: {resume_command(sweep_dir)}"
            )
        tables = {SUMMARY: summary(jobs), RANKINGS: side_by_side(jobs)}
        for name, table in tables.items():
            _write_table(table, self.folder / name)
        drawn = self.folder / "figures"
        drawn.mkdir()
        content = SweepContent(
            name=sweep_dir.name,
            summary=tables[SUMMARY],
            settings=_settings_of(jobs),
            rankings=tables[RANKINGS],
            figures=[(drawn / name, CAPTIONS[name]) for name in draw(jobs, drawn)],
            addresses=addresses,
            command=self.private.text(_command(sweep_dir)),
        )
        page = _with_links(render_sweep(content), [], list(tables))
        (self.folder / INDEX).write_text(page, encoding="utf-8")

    def _without_paths(self, job: Job) -> Job:
        clean = self.private.text
        record = replace(
            job.record, error=clean(job.record.error), overrides=[clean(each) for each in job.record.overrides]
        )
        return replace(job, label=clean(job.label), record=record)

    def _page(self, source: Path, place: Path, links: list[tuple[str, str]]) -> None:
        """Write a page without paths, with links to the tables beside it."""
        from pipeline.run_folder import NETWORK_PAGE

        page = self.private.page(source.read_text(encoding="utf-8"))
        page = re.sub(rf'href="([./]*){re.escape(NETWORK_PAGE)}', rf'href="\1{INDEX}', page)
        page = _with_links(page, links, [name for name in RUN_TABLES if (source.parent / name).is_file()])
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")

    def _files(self, run_dir: Path, place: Path) -> None:
        """Copy the tables and the figures of a run or a layer."""
        from pipeline.run_folder import FIGURES

        for name in RUN_TABLES:
            if (run_dir / name).is_file():
                text = self.private.text((run_dir / name).read_bytes().decode("utf-8"))
                (self.folder / place / name).write_bytes(text.encode("utf-8"))
        for source in sorted((run_dir / FIGURES).rglob("*.png")):
            path = self.folder / place / source.relative_to(run_dir)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)


def _with_links(page: str, links: Iterable[tuple[str, str]], tables: Iterable[str]) -> str:
    """Return a page with a line of links below its heading: to other pages, and to tables that are downloaded."""
    shown = [f'<a href="{escape(quote(address))}">{escape(text)}</a>' for text, address in links]
    files = [f'<a href="{escape(quote(name))}" download>{escape(name)}</a>' for name in tables]
    shown += [f"Tables: {', '.join(files)}"] if files else []
    line = f'<nav class="quiet" id="files" aria-label="Files">{" · ".join(shown)}</nav>'
    start, main, rest = page.partition("<main>")
    return f"{start}{main}\n{line}{rest}" if main and shown else page


def _settings_of(jobs: Iterable[Job]) -> list[dict[str, str]]:
    """Return the settings of each job that not all jobs have in common, by name."""
    overrides = [job.record.overrides for job in jobs]
    common = set.intersection(*map(set, filter(None, overrides)))
    return [
        {name: value for name, _, value in (each.partition("=") for each in job if each not in common)}
        for job in overrides
    ]


def _command(sweep_dir: Path) -> str:
    """Return the command that repeats a sweep, or an empty text if it is not known."""
    from pipeline.resume import Recorded

    try:
        return Recorded.load(sweep_dir).command
    except PipelineError:
        return ""


def _write_table(table: Any, path: Path) -> None:
    from pipeline.spreadsheets import marked_table

    marked_table(table).to_csv(path, index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
