"""How a long computation reports its progress."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count

Progress = Callable[[int, int], None]
"""Called with the number of units that are done and the total number of units."""

_SAY: ContextVar[Callable[[str], None] | None] = ContextVar("say", default=None)


@contextmanager
def told(say: Callable[[str], None]) -> Iterator[None]:
    """Within the context, call `say` with each sentence of `tell`."""
    before = _SAY.get()
    _SAY.set(say)
    try:
        yield
    finally:
        _SAY.set(before)


def tell(sentence: str) -> None:
    """Tell whoever waits for a long computation what it will take."""
    say = _SAY.get()
    if say is not None:
        say(sentence)


def about(seconds: float) -> str:
    """Return an estimated time in words."""
    if seconds < 90:
        return f"about {max(10, round(seconds, -1)):.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def ticker(progress: Progress, n_steps: int, total: int) -> Callable[[], None]:
    """Return a function that is called once after each of `n_steps` steps and reports them in units of `total`.

    A stage announces one unit to its observers (channels, say) and may compute in other steps (permutations, folds).
    The steps are assumed to take equally long: after step k, ``progress(total * k // n_steps, total)`` is called.

    Parameters
    ----------
    progress : callable
        Called with (done, total) after each step.
    n_steps : int
        Number of steps, at least 1.
    total : int
        Number of units that all steps together stand for.

    Returns
    -------
    callable
        Takes no arguments. It may be called from several threads: no step is counted twice.
    """
    steps = count(1)

    def tick() -> None:
        progress(total * next(steps) // n_steps, total)

    return tick
