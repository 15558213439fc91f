"""The outcome of each download, and the detection of duplicates and placeholders among the downloaded images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """Result of the download of one entry.

    Attributes
    ----------
    sha256 : str
        Digest of the bytes of the image; empty if there is no image.
    reason : str
        Why the entry gives no image that can be used; empty if it does.
    """

    sha256: str = ""
    reason: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the entry gives an image that can be used."""
        return not self.reason


class Outcomes:
    """Outcomes of the entries of a list, by index.

    If several entries give the same bytes, the first of them is accepted and the others are duplicates. If
    `placeholder_copies` entries or more give the same bytes, none of them is accepted: this is what a host sends in
    place of images that no longer exist. An entry that was accepted at first may therefore be rejected later.

    Parameters
    ----------
    n_wanted : int
        Number of images to accept.
    placeholder_copies : int
        Number of entries with the same bytes from which on the image is a placeholder, at least 2.
    """

    def __init__(self, n_wanted: int, placeholder_copies: int) -> None:
        self.n_wanted = n_wanted
        self.n_accepted = 0
        self._placeholder_copies = placeholder_copies
        self._outcomes: dict[int, Outcome] = {}
        self._with_bytes: dict[str, list[int]] = defaultdict(list)

    def add(self, index: int, outcome: Outcome) -> None:
        """Add the outcome of the entry with the index `index`."""
        self._outcomes[index] = outcome
        if outcome.is_good:
            same = self._with_bytes[outcome.sha256]
            same.append(index)
            self.n_accepted += {1: 1, self._placeholder_copies: -1}.get(len(same), 0)

    def by_index(self) -> Mapping[int, Outcome]:
        """Return the outcome of each entry; those of duplicates and placeholders have a reason."""
        found = dict(self._outcomes)
        for sha256, same in self._with_bytes.items():
            for index in same:
                if len(same) >= self._placeholder_copies:
                    reason = f"placeholder image (the same bytes in {len(same)} entries)"
                elif index != min(same):
                    reason = "duplicate image (the same bytes as an earlier entry)"
                else:
                    continue
                found[index] = Outcome(sha256, reason)
        return found

    def accepted(self) -> list[int]:
        """Return the indices of the accepted entries, in ascending order."""
        return sorted(index for index, outcome in self.by_index().items() if outcome.is_good)

    def reasons(self) -> list[str]:
        """Return the reasons of all entries that are not accepted."""
        return [outcome.reason for outcome in self.by_index().values() if not outcome.is_good]
