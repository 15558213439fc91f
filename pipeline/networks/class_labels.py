"""The names of classes in the configuration of a network of transformers."""

from __future__ import annotations

import re
from collections.abc import Mapping

N_IMAGENET = 1000  # number of classes from which on names are lists of synonyms, as in ImageNet


def class_labels(by_index: Mapping[int, str] | Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the names of the outputs, or None if the outputs are only numbered (``LABEL_0``, ``LABEL_1``).

    Of ImageNet's names, which are lists of synonyms (``tabby, tabby cat``), it is the first one.

    Parameters
    ----------
    by_index : mapping
        ``config.id2label``: the name of each output by its index.
    """
    found = {int(index): str(name) for index, name in by_index.items()}
    names = [found.get(index, str(index)) for index in range(max(found, default=-1) + 1)]
    if not names or all(re.fullmatch(r"LABEL_\d+", name) for name in names):
        return None
    return tuple(name.partition(",")[0] for name in names) if len(names) >= N_IMAGENET else tuple(names)
