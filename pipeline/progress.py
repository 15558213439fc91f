"""How a long computation reports its progress."""

from collections.abc import Callable
from itertools import count

Progress = Callable[[int, int], None]
"""Called with the number of units that are done and the total number of units."""


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
