"""What all commands share: errors are printed as lines, and a closed pipe or terminal does not end the command."""

from __future__ import annotations

import errno
import functools
import io
import os
import pwd
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from pipeline.errors import PipelineError
from pipeline.files import temporary_home


def print_error(error: PipelineError) -> None:
    """Print an error on stderr, one line for each fault."""
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Decorate the main function of a command.

    The command exits with 1 after a `PipelineError`, which it prints without a traceback, and with 130 after Ctrl-C. It
    continues if its output is closed, see `ignore_closed_output`.
    """

    @functools.wraps(main)
    def guarded() -> None:
        ignore_closed_output()
        provide_home()
        try:
            main()
        except PipelineError as error:
            print_error(error)
            sys.exit(1)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            sys.exit(130)

    return guarded


def provide_home() -> None:
    """Give a user without a name or a home directory both, for this process and those that it starts.

    A container that is started with a user id that it does not know (``docker run --user 12345``) has neither. MLflow
    cannot be imported then, and PyTorch, matplotlib and Python itself raise errors where they use the one or the other.
    """
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("LOGNAME", str(os.getuid()))
        os.environ.setdefault("USER", str(os.getuid()))
    try:
        home = Path.home()
    except RuntimeError:
        home = temporary_home()
        os.environ["HOME"] = str(home)
    if not os.access(home, os.W_OK):  # matplotlib would print that it has no folder for its cache
        os.environ.setdefault("MPLCONFIGDIR", str(temporary_home() / "matplotlib"))


def ignore_closed_output() -> None:
    """Discard what is printed from the moment when stdout or stderr is closed, instead of ending the command.

    This happens if the output is piped into ``head``, or if the terminal is closed. A run continues then, because its
    files matter more than its messages. ``signal(SIGPIPE, SIG_DFL)`` is no alternative: it would end the process at
    once, also if the connection to an MLflow server breaks. Without this function, the consoles of ``rich`` would end
    the run with a `BrokenPipeError`.
    """
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:  # closed from the start (`>&-`): keep other files from getting its number and our output
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif stream is getattr(sys, f"__{name}__") and stream.fileno() == number:
            stream.flush()
            setattr(sys, name, _closable(stream))


def _closable(stream: TextIO) -> TextIO:
    """Return a stream like `stream`, with the same encoding and buffering, over a `_ClosableFile`."""
    assert isinstance(stream, io.TextIOWrapper)
    raw = _ClosableFile(stream.fileno(), "w", closefd=False)
    is_unbuffered = isinstance(stream.buffer, io.RawIOBase)  # python -u
    return io.TextIOWrapper(
        raw if is_unbuffered else io.BufferedWriter(raw),  # type: ignore[type-var]
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _ClosableFile(io.FileIO):
    """File whose descriptor is redirected to the null device when its reader is gone, for child processes as well."""

    def write(self, content: bytes) -> int:  # type: ignore[override]
        """Write as `FileIO` does; if the reader is gone, discard the content and return its length."""
        try:
            return super().write(content)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):  # EIO: the terminal was closed
                raise
        null_device = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null_device, self.fileno())
        os.close(null_device)
        return len(memoryview(content).cast("B"))
