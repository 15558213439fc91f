"""What can go wrong in a way that the person who asked can mend.

Every message is one line: ``<setting or artifact> must <rule>; got <value> (<context>). <What to do>.``
The command line prints it after ``error:`` and exits with 1; nobody needs a traceback to act on it.
"""


class PipelineError(Exception):
    """Base of every error that this package raises on purpose."""


class SettingsError(PipelineError):
    """What was asked for cannot be: an unknown setting, a wrong type, an impossible value."""


class InputError(PipelineError, ValueError):
    """The images, their number or their values do not allow what was asked for."""


class NetworkError(PipelineError):
    """The network, its weights or its layer do not allow what was asked for."""


class StorageError(PipelineError):
    """The disk or the artifact store would not take, or no longer holds, what it should."""


def listed(names: list[str] | tuple[str, ...], most: int = 8) -> str:
    """Join `names` for an error message, the first `most` of them, then how many are left."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
