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


class StorageError(PipelineError):
    """Files cannot be written to the disk or the artifact store, or no longer exist there."""


class EngineError(PipelineError):
    """The workers that compute parts of the stages do not allow the run to continue."""


def listed(names: list[str] | tuple[str, ...], most: int = 8) -> str:
    """Return the first `most` names for a message, separated by commas, and the number of the others."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
