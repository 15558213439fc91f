"""Resume a sweep that was interrupted: the jobs that have not finished are run, in the folder of the sweep."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from pipeline.config import CONFIG_NAME, default_outputs, settings_from_config
from pipeline.errors import InputError, listed
from pipeline.job import run_job
from pipeline.overrides import as_entered, checked_overrides, quoted, value_of
from pipeline.resources import conf_dir
from pipeline.settings import Settings
from pipeline.sweep_folder import RECORDED, RESUME, SUMMARY, found_sweep, hold, interrupted, running_jobs
from pipeline.sweep_start import resume_command, started_sweep

if TYPE_CHECKING:
    from pipeline.records import Record

LAUNCHER = ("hydra/launcher=", "hydra.launcher.", "++hydra.launcher.", "+hydra.launcher.")
OUTPUTS, FOLDER = "paths.outputs=", "hydra.sweep.dir="
N_SEARCHED = 10  # interrupted sweeps whose overrides are compared with those of a new one: each takes some 30 ms


@dataclass(frozen=True)
class Request:
    """What the user has typed.

    Attributes
    ----------
    sweep : str
        Folder or name of the sweep, or ``last``.
    launcher : sequence of str
        Overrides of the launcher.
    outputs : Path
        Folder in which the sweep is looked for by its name.
    """

    sweep: str
    launcher: Sequence[str]
    outputs: Path


def requested(arguments: Sequence[str]) -> Request:
    """Return the sweep that the command line asks to resume.

    Raises
    ------
    InputError
        If there are further arguments that would change the sweep.
    """
    rest = [text for text in arguments if text not in ("-m", "--multirun")]
    place = next(place for place, text in enumerate(rest) if text.partition("=")[0] == RESUME)
    _, is_given, sweep = rest.pop(place).partition("=")
    if not is_given and place < len(rest) and not rest[place].startswith("-"):
        sweep = rest.pop(place)
    others = [text for text in rest if not text.startswith((*LAUNCHER, OUTPUTS))]
    if others:
        raise InputError(
            f"{RESUME} must be given without other arguments than paths.outputs and settings of the launcher; got "
            f"{listed(others)}. The sweep has its own settings: start a new sweep to change them."
        )
    checked = checked_overrides(rest)
    outputs = [str(value_of(text)[1]) for text in checked if text.startswith(OUTPUTS)]
    launcher = [text for text in checked if not text.startswith(OUTPUTS)]
    return Request(sweep, launcher, Path(outputs[-1] if outputs else default_outputs()))


@dataclass(frozen=True)
class Recorded:
    """The overrides of a sweep, as Hydra recorded them when it started.

    Attributes
    ----------
    task : list of str
        Overrides of the settings, as `checked_overrides` returned them.
    hydra : list of str
        Overrides of Hydra itself, such as the launcher.
    """

    task: list[str]
    hydra: list[str]

    @classmethod
    def load(cls, folder: Path) -> Recorded:
        """Read the overrides from the folder of a sweep."""
        try:
            loaded: Any = OmegaConf.load(folder / RECORDED)
            found = OmegaConf.to_container(loaded.hydra.overrides, resolve=False)
            assert isinstance(found, dict)
            return cls([str(each) for each in found["task"]], [str(each) for each in found["hydra"]])
        except Exception as error:
            raise InputError(
                f"a sweep must have a file {RECORDED} with its settings; got {folder / RECORDED}, which cannot be read "
                f"({str(error).splitlines()[0]}). Start the sweep again: finished stages come from the store."
            ) from error

    def is_of(self, overrides: Sequence[str]) -> bool:
        """Return whether these are the recorded overrides, in any order."""
        own = ("hydra.mode=", "hydra.searchpath=")
        recorded, given = ([each for each in texts if not each.startswith(own)] for texts in (self.hydra, overrides))
        return sorted([*self.task, *recorded]) == sorted(given)

    @property
    def command(self) -> str:
        """The command that starts the sweep anew."""
        own = ("hydra.mode=", "hydra.sweep.dir=", "hydra.searchpath=")
        typed = [each for each in self.hydra if not each.startswith(own)]
        for text in self.task:
            if text.startswith(OUTPUTS) and "${" not in text:  # `with_absolute_outputs` has added it
                outputs = str(value_of(text)[1])
                if outputs != str(Path(default_outputs()).absolute()):
                    typed.append(f"{OUTPUTS}{outputs}")
            else:
                typed.append(as_entered(text))
        return shlex.join(["pcace", "run", "--multirun", *typed])


def prepare_sweep(overrides: Sequence[str]) -> None:
    """Check that a new sweep gets a folder of its own, and say if an interrupted one with the same overrides exists.

    Parameters
    ----------
    overrides : sequence of str
        Overrides that `checked_overrides` has returned, with an absolute `paths.outputs`.

    Raises
    ------
    InputError
        If ``hydra.sweep.dir`` is the folder of an earlier sweep.
    """
    known = dict(value_of(text) for text in overrides if text.startswith((OUTPUTS, FOLDER)) and "${" not in text)
    folder = Path(str(known.get("hydra.sweep.dir", "")))
    if "hydra.sweep.dir" in known and (folder / RECORDED).exists():
        raise InputError(
            f"hydra.sweep.dir must be a folder without an earlier sweep; got {folder}. "
            f"Choose another folder, or resume that sweep: {resume_command(folder.absolute())}"
        )
    if "paths.outputs" not in known:
        return
    for earlier in interrupted(Path(str(known["paths.outputs"])), N_SEARCHED):
        with suppress(InputError):
            if Recorded.load(earlier).is_of(overrides):
                print(f"An interrupted sweep with the same settings exists. To resume it: {resume_command(earlier)}")
                return


def go_on(request: Request) -> None:
    """Run the jobs of a sweep that have not finished, and say beforehand what is left.

    Afterwards, `started_sweep` returns the sweep, which is to be summarised; it returns None if nothing was left.

    Raises
    ------
    PipelineError
        If the sweep does not exist or is running, or if its finished jobs would have another result now.
    """
    folder = found_sweep(request.sweep, request.outputs, RESUME)
    recorded = Recorded.load(folder)
    if owner := hold(folder):
        raise InputError(
            f"{RESUME} must be a sweep that is not running; got {folder.name}, which {owner} is running. "
            "Wait for its end, or end that process first."
        )
    if running := running_jobs(folder):
        jobs = listed([f"job {job} ({owner})" for job, owner in running.items()], 3)
        raise InputError(
            f"{RESUME} must be a sweep none of whose jobs is running; got {folder.name} with {jobs}. "
            "Wait for their end, or end them first."
        )
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        overrides = [*_hydra_overrides(recorded, request.launcher, folder), *recorded.task]
        config = hydra.compose_config(CONFIG_NAME, overrides, RunMode.MULTIRUN, with_log_configuration=True)
        context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(config))
        jobs_of_sweep = _expanded(config, context)
        finished = _finished(folder)
        _check_jobs(jobs_of_sweep, finished, recorded)
        remaining = {job: each for job, each in jobs_of_sweep.items() if job not in finished}
        if not remaining and (folder / SUMMARY).exists():
            print(
                f"All {len(jobs_of_sweep)} jobs of the sweep {folder.name} are finished; there is nothing left to do."
            )
            return
        settings = {job: _settings_of(jobs_of_sweep[job], config, context) for job in finished} if remaining else {}
        _check_results(folder, settings, finished, recorded)
        _announce(jobs_of_sweep, remaining)
        context.callbacks.on_multirun_start(config=config, config_name=CONFIG_NAME)
        _withdraw(folder, remaining)
        _launch(remaining, config, context)
        context.callbacks.on_multirun_end(config=config, config_name=CONFIG_NAME)


def _hydra_overrides(recorded: Recorded, launcher: Sequence[str], folder: Path) -> list[str]:
    """Return the overrides of Hydra itself: the recorded ones, with the folder and perhaps another launcher."""
    replaced = ["hydra.sweep.dir=", "hydra.mode="]
    if any(each.startswith("hydra/launcher=") for each in launcher):
        replaced += LAUNCHER
    kept = [each for each in recorded.hydra if not each.startswith(tuple(replaced))]
    # Hydra would count the jobs that it launches from 0. `_announce` prints their numbers in the sweep.
    quiet = [] if any("hydra_logging" in each for each in kept) else ["hydra.hydra_logging.root.level=WARNING"]
    return [*kept, *launcher, *quiet, "hydra.mode=MULTIRUN", f"hydra.sweep.dir={quoted(str(folder))}"]


def _expanded(config: DictConfig, context: HydraContext) -> dict[str, list[str]]:
    """Return the overrides of each job of the sweep by the name of its folder, as Hydra numbers them."""
    sweeper = config.hydra.sweeper
    if sweeper._target_ != f"{BasicSweeper.__module__}.{BasicSweeper.__name__}":
        raise InputError(
            f"{RESUME} must be a sweep with hydra/sweeper=basic; got {sweeper._target_}. "
            "Start the sweep again: finished stages come from the store."
        )
    if any(str(each).startswith("hydra.sweep.subdir=") for each in config.hydra.overrides.hydra):
        raise InputError(
            f"{RESUME} must be a sweep whose jobs have numbers as folders; got one with hydra.sweep.subdir. "
            "Start the sweep again: finished stages come from the store."
        )
    params = OmegaConf.to_container(sweeper.params, resolve=True) if sweeper.params else {}
    task = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    assert isinstance(params, dict)
    assert isinstance(task, list)
    arguments = [*(f"{name!s}={values}" for name, values in params.items()), *map(str, task)]
    parsed = OverridesParser.create(config_loader=context.config_loader).parse_overrides(arguments)
    (jobs,) = BasicSweeper.split_arguments(parsed, None)
    return {str(number): overrides for number, overrides in enumerate(jobs)}


def _finished(folder: Path) -> dict[str, Record]:
    """Return the records of the jobs that have finished and whose ranking can be read, by the name of their folder."""
    from pipeline.sweep import gather

    return {job.folder.name: job.record for job in gather(folder) if job.ranking is not None}


def _check_jobs(jobs: Mapping[str, list[str]], finished: Mapping[str, Record], recorded: Recorded) -> None:
    """Raise `InputError` if a finished job is not the one that the sweep now has under its number."""
    for job, record in finished.items():
        now = [as_entered(each) for each in jobs.get(job, ())]
        if now != record.overrides:
            new = " ".join(each for each in now if each not in record.overrides) or "none"
            old = " ".join(each for each in record.overrides if each not in now)
            raise InputError(
                f"{RESUME} must be a sweep whose list of jobs is the same as when it started; got {new} for job {job}, "
                f"which was {old}. A list in conf has changed. Start a new sweep: {recorded.command}"
            )


def _settings_of(overrides: Sequence[str], config: DictConfig, context: HydraContext) -> Settings:
    """Return the settings of a job, as its launcher would compose them now."""
    composed = context.config_loader.load_sweep_config(config, list(overrides))
    with open_dict(composed):
        del composed["hydra"]
    return settings_from_config(composed)


def _check_results(
    folder: Path, settings: Mapping[str, Settings], finished: Mapping[str, Record], recorded: Recorded
) -> None:
    """Raise `InputError` if a finished job would have another result now, so that its row could not be compared.

    The keys of its artifacts are computed again. They depend on the settings, the images, the network and the code.
    """
    from pipeline.networks.remembered import remembered
    from pipeline.resolve import resolve

    with remembered():
        for job, composed in settings.items():
            resolved = _with_fitting_batches(resolve(composed), finished[job])
            keys = _keys(resolved)
            before = finished[job].keys
            changed = [name for name in before if not name.startswith("visualize") and keys.get(name) != before[name]]
            if changed:
                reason = _difference(folder / job, resolved) or "its images, its network or the code have changed"
                raise InputError(
                    f"{RESUME} must be a sweep whose finished jobs would have the same results now; got job {job}, for "
                    f"which the stage {changed[0]} has another one ({reason}). Start a new sweep: {recorded.command}"
                )


def _with_fitting_batches(settings: Settings, record: Record) -> Settings:
    """Return the settings with the batch size with which a job has gone on, if batches of this size did not fit."""
    if record.batch_sizes[:1] != [settings.model.batch_size]:
        return settings
    return replace(settings, model=replace(settings.model, batch_size=record.batch_sizes[1]))


def _keys(settings: Settings) -> dict[str, str]:
    """Return the digests of the keys of all artifacts of a job, under the names that its record has them under."""
    from pipeline.runner import plan
    from pipeline.whole_network import NetworkExecution

    if not settings.selects_several:
        return {name: key.digest for name, key in plan(settings).items()}
    found: dict[str, str] = {}
    for layer, keys in NetworkExecution(settings, Path()).keys.items():
        found["download"] = keys["download"].digest
        found |= {f"{name} {layer}": key.digest for name, key in keys.items()}
    return found


def _difference(run_dir: Path, now: Settings) -> str:
    """Return in words the first setting that differs from those in the folder of a job; empty if there is none."""
    from pipeline.report_writer import flat
    from pipeline.run_folder import SETTINGS

    try:
        before = flat(json.loads((run_dir / SETTINGS).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return ""
    after = flat(json.loads(json.dumps(asdict(now))))
    for name in after:
        if before.get(name) != after[name] and not name.startswith(("paths.", "tracking.", "visualize.")):
            return f"{name} was {json.dumps(before.get(name))} and is {json.dumps(after[name])}"
    return ""


def _announce(jobs: Mapping[str, list[str]], remaining: Mapping[str, list[str]]) -> None:
    """Print how many jobs are left, and which."""
    from pipeline.records import varied

    n_left = len(remaining)
    if not n_left:
        print(f"All {len(jobs)} jobs are finished; only the summary remains to be written.")
        return
    n_done = len(jobs) - n_left
    verb = "is" if n_done == 1 else "are"
    print(f"{n_done} of {len(jobs)} jobs {verb} finished; {n_left} remain{'s' * (n_left == 1)}.")
    labels = varied([[as_entered(each) for each in overrides] for overrides in jobs.values()])
    for job, label in zip(jobs, labels, strict=True):
        if job in remaining:
            print(f"  job {job:<4} {label}".rstrip())
    print(flush=True)


def _withdraw(folder: Path, remaining: Mapping[str, list[str]]) -> None:
    """Remove the results of earlier attempts of these jobs, and take them out of the sweep's runs in MLflow."""
    from pipeline.records import RESULT

    for job in remaining:
        (folder / job / RESULT).unlink(missing_ok=True)
    sweep = started_sweep()
    assert sweep is not None
    if remaining and sweep.tracking is not None and sweep.tracking.enabled:
        from pipeline.tracking.sweep_summary import withdraw_runs

        withdraw_runs(folder.name, remaining, sweep.tracking, sweep.outputs)


def _launch(remaining: Mapping[str, list[str]], config: DictConfig, context: HydraContext) -> None:
    """Let the launcher run these jobs, each in the folder of its number."""
    jobs = [[*overrides, f"hydra.sweep.subdir={job}"] for job, overrides in remaining.items()]
    size = config.hydra.sweeper.max_batch_size or len(jobs)
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=run_job, config=config)
    for start in range(0, len(jobs), size or 1):
        for ended in launcher.launch(jobs[start : start + size], initial_job_idx=start):
            _ = ended.return_value  # raises the error of a job that has ended with one
