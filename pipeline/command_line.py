"""What all commands have in common: errors are printed as lines, and a closed pipe does not end the command."""

from __future__ import annotations

import errno
import functools
import io
import os
import sys
from collections.abc import Callable
from typing import TextIO

from pipeline.errors import PipelineError


def print_error(error: PipelineError) -> None:
    """Print what went wrong, one line for each fault."""
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Make a function a command: exit with 1 on a `PipelineError`, its lines printed, and with 130 on Ctrl-C."""

    @functools.wraps(main)
    def guarded() -> None:
        outlive_readers()
        try:
            main()
        except PipelineError as error:
            print_error(error)
            sys.exit(1)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            sys.exit(130)

    return guarded


def outlive_readers() -> None:
    """Let what is printed go nowhere once nobody reads it: ``| head`` has had enough, a terminal is gone.

    A run's files matter more than its words, so it goes on. ``signal(SIGPIPE, SIG_DFL)`` would end it half-way, at a
    broken connection to MLflow as well; rich's consoles end it at a `BrokenPipeError`.
    """
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:  # closed from the start (`>&-`): no file opened later may get its number, and our words
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif stream is getattr(sys, f"__{name}__") and stream.fileno() == number:
            stream.flush()
            setattr(sys, name, _outliving(stream))


def _outliving(stream: TextIO) -> TextIO:
    """Return `stream` anew, with the same encoding and buffers, over a file that outlives its reader."""
    assert isinstance(stream, io.TextIOWrapper)
    raw = _OutlivingFile(stream.fileno(), "w", closefd=False)
    is_unbuffered = isinstance(stream.buffer, io.RawIOBase)  # python -u
    return io.TextIOWrapper(
        raw if is_unbuffered else io.BufferedWriter(raw),  # type: ignore[type-var]
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _OutlivingFile(io.FileIO):
    """A file whose number leads to nowhere from when nobody reads it any more, for child processes as well."""

    def write(self, content: bytes) -> int:  # type: ignore[override]
        """Write as `FileIO` does; where nobody reads, say that all was written."""
        try:
            return super().write(content)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):  # the latter: a terminal that was closed
                raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        return len(memoryview(content).cast("B"))
