"""A part of a stage as a task: what is passed to a worker, and what the worker does with it."""

from __future__ import annotations

import os
import pickle
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from pipeline.allocator import freed_memory_kept
from pipeline.artifacts import ImageSet
from pipeline.engine.installation import Installation
from pipeline.errors import PipelineError, StorageError
from pipeline.networks.remembered import remembered
from pipeline.settings import Settings
from pipeline.store.parts import is_visible, write_part

SECONDS_SHARED = 10.0  # after which a folder that the command has made must be visible on a node


@dataclass(frozen=True)
class Shard:
    """What the function that computes a part is called with.

    Attributes
    ----------
    settings : Settings
        The resolved settings of the run.
    upstream : mapping of str to Path
        The folders of the artifacts that the stage builds on, by their names.
    start, stop : int
        The part of the stage: a range of images, channels or passes, depending on the function.
    n_threads : int
        Number of threads to use.
    given : mapping of str to object
        Further arguments of the function; small, because they are sent to the worker.
    """

    settings: Settings
    upstream: Mapping[str, Path]
    start: int
    stop: int
    n_threads: int = 1
    given: Mapping[str, Any] = field(default_factory=dict)


@lru_cache(maxsize=1)
def images_of(folder: Path) -> ImageSet:
    """Return the images in a folder of the store, which several tasks of a process use."""
    return ImageSet.load(folder)


Work = Callable[[Shard, Path], object]
"""Computes a part and writes its files into the folder. It is a function at the top level of a module, because its name
is sent to the worker.
"""


@dataclass(frozen=True)
class Task:
    """A part of a stage that a worker computes.

    Attributes
    ----------
    work : callable
        The function.
    shard : Shard
        Its argument.
    folder : Path
        Folder of the part. The folder that contains it is in the store.
    label : str
        What is computed, for messages: ``images 1 to 128 of the stage activate``.
    runs_network : bool
        Whether the network runs, for which a GPU may be needed.
    installation : Installation
        Code, packages and identities of the command that starts the tasks, with which the worker must agree.
    """

    work: Work
    shard: Shard
    folder: Path
    label: str
    runs_network: bool
    installation: Installation


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes
    ----------
    host : str
        Name of the machine that computed it.
    error : PipelineError, OSError or None
        Why the part could not be computed.
    """

    host: str
    error: PipelineError | OSError | None = None


Finished = Callable[[Task], None]


class Executor(Protocol):
    """Performs tasks, several at a time."""

    def run(self, tasks: list[Task], finished: Finished) -> None:
        """Perform all tasks; `finished` is called after each of them.

        Raises
        ------
        PipelineError
            If a task fails. The others are cancelled.
        """
        ...


def perform(task: Task) -> Outcome:
    """Compute a part and write it into the store."""
    host = socket.gethostname()
    try:
        task.installation.check(task.shard.settings, runs_network=task.runs_network, host=host)
        if not is_visible(task.folder.parent, SECONDS_SHARED):
            raise not_shared(task.folder.parent, host)
        with freed_memory_kept():
            write_part(task.folder, lambda folder: task.work(task.shard, folder))
    except (PipelineError, OSError) as error:
        return Outcome(host, error)
    return Outcome(host)


def not_shared(folder: Path, host: str) -> StorageError:
    """Return the error for a folder of the store that one of two machines does not see."""
    return StorageError(
        f"paths.outputs must be on a disk that all nodes share; got {folder}, which does not exist on node {host}. Set "
        "paths.outputs to a folder on a shared file system."
    )


def perform_in_worker(task: Task, directory: str, search_path: list[str], environment: Mapping[str, str]) -> Outcome:
    """Compute a part in a process that was started elsewhere, perhaps on another machine.

    Parameters
    ----------
    task : Task
        The part.
    directory : str
        Working folder of the command, to which paths in the settings are relative.
    search_path : list of str
        The command's ``sys.path``, from which a network of the user may be imported.
    environment : mapping of str to str
        Environment variables of the command that say where weights and compiled code are.
    """
    if os.path.isdir(directory):
        os.chdir(directory)
    sys.path += [path for path in search_path if path not in sys.path]
    os.environ.update(environment)
    _remember_only(task.shard.settings)
    if task.runs_network:
        import torch

        torch.set_num_threads(task.shard.n_threads)
    return perform(task)


_remembered = ExitStack()
_remembered_for: bytes | None = None


def _remember_only(settings: Settings) -> None:
    """Keep what is known of a network until the process gets a task with another one."""
    global _remembered_for
    key = pickle.dumps((settings.model, settings.seed))
    if key != _remembered_for:
        _remembered.close()
        _remembered.enter_context(remembered())
        _remembered_for = key
