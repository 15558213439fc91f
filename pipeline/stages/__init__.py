"""The stages, in order: download, activate, reduce, score, rank, ablate, remove, visualize. One verb a
file, each a pure function.

Every module holds the same four things: ``VERSION`` (raised when a change of its code changes its results),
a frozen dataclass of what the stage reads, ``select(settings)`` that picks it, and
``run(reads, upstream..., folder, progress)`` that fills `folder` and returns the artifact.
"""
