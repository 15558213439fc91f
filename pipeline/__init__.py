"""PCACE: which channels of a convolutional layer matter for a class, and how reliable is the answer?"""

import os
import sys
from itertools import compress
from pathlib import Path


def __getattr__(name: str) -> str:
    """Return the version when it is first used: reading it would double the time in which the help appears."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version("pcace")
    except PackageNotFoundError:  # run from a checkout that was never installed
        found = "0+unknown"
    globals()[name] = found
    return found


def _packages_of_the_same_name() -> list[str]:
    """Return the folders of other packages called ``pipeline``, on Python's path or in the working folder.

    The network of a user may come from such a package. Its modules are found after those of this package.
    """
    try:
        places = [*sys.path, str(Path.cwd())]
    except FileNotFoundError:  # the working folder was deleted
        places = sys.path
    folders = [os.path.join(place, __name__) for place in places if place]
    # Other copies of this package, such as the checkout beside an installed one, are left out.
    own = ("numerics", "conf/hydra/help/pcace.yaml")
    is_other = [os.path.isdir(each) and not any(os.path.exists(f"{each}/{name}") for name in own) for each in folders]
    return list(dict.fromkeys(compress(folders, is_other)))


__path__ = [*__path__, *_packages_of_the_same_name()]
