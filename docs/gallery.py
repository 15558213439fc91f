"""Make the pictures of the gallery: run the commands of the page ``gallery.md``, and copy the figures.

``python -m docs.gallery [NAME ...]`` makes all pictures, or those of the commands with these names. The commands refer
to photographs by environment variables, which the page explains. Each command writes to ``outputs/gallery/NAME``, and a
page shows its figures as ``gallery/NAME/FIGURE.png``.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from pipeline.sweep_folder import RECORDED

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
GALLERY = DOCS / "gallery"
COMMANDS = re.compile(r"^```sh\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"outputs/gallery/(\w+)|--sweep (\w+)")
PICTURE = re.compile(r"!\[[^]]+\]\(([^)\s]+)\)")


def commands() -> list[tuple[str, str]]:
    """Return the commands of the page, in its order, each with the name of the folder that it writes to."""
    blocks = COMMANDS.findall((DOCS / "gallery.md").read_text(encoding="utf-8"))
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    named = [(NAMED.search(line), " ".join(line.split())) for line in lines]
    return [(match[1] or match[2], command) for match, command in named if match]


def pictures() -> dict[str, list[Path]]:
    """Return the pictures that pages show, by the name of the command that makes them; paths relative to its folder."""
    shown = {
        (page.parent / target).resolve()
        for page in sorted(DOCS.rglob("*.md"))
        for target in PICTURE.findall(page.read_text(encoding="utf-8"))
    }
    found: dict[str, list[Path]] = {}
    for path in sorted(shown):
        if path.is_relative_to(GALLERY):
            name, *parts = path.relative_to(GALLERY).parts
            found.setdefault(name, []).append(Path(*parts))
    return found


def run(command: str) -> None:
    """Run a command of the page, with the values of environment variables."""
    words = [os.path.expandvars(word) for word in shlex.split(command)]  # values may contain spaces
    missing = [word for word in words if word.rpartition("=")[2].startswith("$") and "{" not in word]
    if missing:
        sys.exit(f"error: the environment must have the variables of the page gallery.md; got {missing[0]}. Set it.")
    print(command, flush=True)
    subprocess.run([Path(sys.executable).with_name(words[0]), *words[1:]], cwd=ROOT, check=True)


def copy(name: str, figures: list[Path]) -> None:
    """Copy the figures that pages show from the folder of a command, or of the comparison of its runs."""
    for figure in figures:
        folders = (ROOT / "outputs" / kind / name for kind in ("gallery", "comparisons"))
        source = next(folder / figure for folder in folders if (folder / figure).is_file())
        target = GALLERY / name / figure
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def main(names: list[str]) -> None:
    """Make the pictures of the commands with these names, or of all."""
    shown = pictures()
    if unknown := set(names) - shown.keys():
        sys.exit(f"error: NAME must be one of {', '.join(shown)}; got {min(unknown)}.")
    chosen = names or list(shown)
    if earlier := [name for name in chosen if (ROOT / "outputs" / "gallery" / name / RECORDED).exists()]:
        sys.exit(
            f"error: a sweep must have a new folder; got outputs/gallery/{earlier[0]}, which has an earlier one. "
            "Delete the folder and its runs in MLflow, or the comparison contains them as well."
        )
    for name, command in commands():
        if name in chosen:
            run(command)
    for name in chosen:
        copy(name, shown[name])


if __name__ == "__main__":
    main(sys.argv[1:])
