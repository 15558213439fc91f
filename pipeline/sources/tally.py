"""Counting good pictures while the same bytes may turn up again: a duplicate, or a placeholder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What an address gave: a picture of these bytes, or nothing, and why."""

    sha256: str = ""
    reason: str = ""

    @property
    def is_good(self) -> bool:
        """Whether it is a picture that counts."""
        return not self.reason


class Tally:
    """What is known so far of a list's addresses, by their index.

    Of the same bytes at several addresses the first counts; at `placeholder_copies` addresses or more, none does: that
    is what a host sends where a photograph is gone. One that counted may so cease to.
    """

    def __init__(self, n_wanted: int, placeholder_copies: int) -> None:
        self.n_wanted = n_wanted
        self.n_accepted = 0
        self._copies = placeholder_copies
        self._outcomes: dict[int, Outcome] = {}
        self._with_bytes: dict[str, list[int]] = defaultdict(list)

    def add(self, index: int, outcome: Outcome) -> None:
        """Take note of what the address of `index` gave."""
        self._outcomes[index] = outcome
        if outcome.is_good:
            same = self._with_bytes[outcome.sha256]
            same.append(index)
            self.n_accepted += {1: 1, self._copies: -1}.get(len(same), 0)

    def judged(self) -> Mapping[int, Outcome]:
        """Return every address's outcome, with the reason of those whose bytes are another's."""
        judged = dict(self._outcomes)
        for sha256, same in self._with_bytes.items():
            for index in same:
                if len(same) >= self._copies:
                    reason = f"a placeholder (the same bytes at {len(same)} addresses)"
                elif index != min(same):
                    reason = "a duplicate (the same bytes as an earlier address)"
                else:
                    continue
                judged[index] = Outcome(sha256, reason)
        return judged

    def outcomes(self) -> Iterable[Outcome]:
        """Return every outcome, in no order."""
        return self.judged().values()

    def accepted(self) -> list[int]:
        """Return the indices of the pictures that count."""
        return sorted(index for index, outcome in self.judged().items() if outcome.is_good)
