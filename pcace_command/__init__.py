"""The command ``pcace``: the same as ``python -m pipeline``, from any folder and beside any other package.

A project whose own package is called ``pipeline`` hides the package of pcace if its folder comes first where Python
looks for packages. This package has a name of its own, and makes sure that the one beside it is the one that is found.
"""

import os
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent


def prefer_own_package() -> None:
    """Put the folder of pcace first where Python looks for packages if there is another package called ``pipeline``.

    The environment is changed as well, for the processes that launchers of sweeps start: these would look in the
    working folder first.
    """
    places = [Path(place or ".").resolve() for place in ["", *sys.path]]
    if any(place != FOLDER and (place / "pipeline").is_dir() for place in places):
        sys.path.insert(0, str(FOLDER))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(FOLDER), os.environ.get("PYTHONPATH"))))
        os.environ["PYTHONSAFEPATH"] = "1"


def main() -> None:
    """Run the command line."""
    prefer_own_package()
    from pipeline.__main__ import main as run

    run()
