"""The parameters of ACE with their defaults and ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import InputError

SPANS = (0.05, 0.2, 0.5)  # Friedman's tweeter, midrange and woofer, as shares of the points


def check_smoothing(bass: float, spans: Sequence[float]) -> None:
    """Raise `InputError` unless `bass` is in [0, 10] and `spans` are three increasing shares."""
    if not 0 <= bass <= 10:
        raise InputError(f"bass must be in [0, 10]; got {bass}.")
    if len(spans) != 3 or not 0 < spans[0] < spans[1] < spans[2] <= 1:
        raise InputError(f"spans must be three rising shares in (0, 1]; got {tuple(spans)}.")


@dataclass(frozen=True)
class AceParameters:
    """The parameters of ACE and of the supersmoother in it.

    Parameters
    ----------
    bass : float, default=5.0
        Smoothness of the transforms, in [0, 10]; larger is smoother. R's acepack always uses 5, the `ace` package and
        Friedman's ``mace.f`` use 0.
    spans : sequence of 3 floats, default=(0.05, 0.2, 0.5)
        Widths of the supersmoother's windows as shares of the images, increasing, in (0, 1].
    delrsq : float, default=0.01
        Convergence threshold, in [0, 1]: the iterations stop when R squared has changed by at most this over `nterm`
        outer iterations.
    maxit : int, default=20
        Maximum number of outer iterations, and of passes over the predictors within one outer iteration.
    nterm : int, default=3
        Number of outer iterations over which the change of R squared is compared with `delrsq`.

    Raises
    ------
    InputError
        If a value is outside of its range.
    """

    bass: float = 5.0
    spans: Sequence[float] = SPANS
    delrsq: float = 0.01
    maxit: int = 20
    nterm: int = 3

    def __post_init__(self) -> None:
        check_smoothing(self.bass, self.spans)
        if not 0 <= self.delrsq <= 1:
            raise InputError(f"delrsq must be in [0, 1]; got {self.delrsq}.")
        for name, count in (("maxit", self.maxit), ("nterm", self.nterm)):
            if count < 1:
                raise InputError(f"{name} must be at least 1; got {count}.")
        object.__setattr__(self, "spans", tuple(self.spans))  # so that equal parameters compare and hash as equal


DEFAULT_PARAMETERS = AceParameters()
