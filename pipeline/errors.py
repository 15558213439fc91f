"""Errors that the user can correct.

Each message is one line: ``<setting or artifact> must <rule>; got <value> (<context>). <What to do>.``
The command line prints it after ``error:``, without a traceback, and exits with code 1.
"""


class PipelineError(Exception):
    """Base class of all errors that this package raises deliberately."""


class SettingsError(PipelineError):
    """A setting is unknown, has the wrong type, or has a value that is not possible."""


class InputError(PipelineError, ValueError):
    """The images, their number or the values computed from them do not allow the requested analysis."""


class NetworkError(PipelineError):
    """The network, its weights or its layer do not allow the requested analysis."""


class MemoryExceededError(NetworkError):
    """A forward or backward pass needs more memory than there is; one with fewer images may fit."""


class StorageError(PipelineError):
    """Files cannot be written to the disk or the artifact store, or no longer exist there."""


class EngineError(PipelineError):
    """The workers that compute parts of the stages do not allow the run to continue."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether PyTorch could not allocate memory, on a GPU or a CPU, whose error has no type of its own."""
    words = ("out of memory", "not enough memory", "can't allocate memory", "_ALLOC_FAILED")  # the last: cuBLAS, cuDNN
    return isinstance(error, RuntimeError) and any(each in str(error) for each in words)


def listed(names: list[str] | tuple[str, ...], most: int = 8) -> str:
    """Return the first `most` names for a message, separated by commas, and the number of the others."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
