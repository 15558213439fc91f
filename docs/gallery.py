"""Make the pictures of the documentation: run the commands of the page ``gallery.md``, and copy the figures.

``python -m docs.gallery [NAME ...]`` makes all pictures, or those of the commands with these names. The commands refer
to photographs by environment variables, which the page explains. A run writes to ``outputs/gallery/NAME``, and pages
show its figures as ``gallery/NAME/FIGURE.png``. A benchmark writes its figure to the place where pages show it.
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
NAMED = re.compile(r"outputs/gallery/(\w+)|--sweep (\w+)|-m benchmarks\.(\w+)")
PICTURE = re.compile(r"!\[[^]]+\]\(([^)\s]+)\)")


def commands() -> list[tuple[str, str]]:
    """Return the commands of the page, in its order, each with its name: that of the folder, or of the benchmark."""
    blocks = COMMANDS.findall((DOCS / "gallery.md").read_text(encoding="utf-8"))
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    named = [(NAMED.search(line), " ".join(line.split())) for line in lines]
    return [(match[1] or match[2] or match[3], command) for match, command in named if match]


def shown() -> set[Path]:
    """Return the files of all pictures that pages show."""
    return {
        (page.parent / target).resolve()
        for page in DOCS.rglob("*.md")
        for target in PICTURE.findall(page.read_text(encoding="utf-8"))
    }


def pictures(name: str) -> list[Path]:
    """Return the pictures that pages show of a command, relative to its folder."""
    folder = GALLERY / name
    return sorted(path.relative_to(folder) for path in shown() if path.is_relative_to(folder))


def words_of(command: str) -> list[str]:
    """Return the words of a command, with the values of environment variables, which may contain spaces."""
    words = [os.path.expandvars(word) for word in shlex.split(command)]
    missing = [word for word in words if re.search(r"\$\w", word)]
    if missing:
        variable = missing[0].rpartition("=")[2]
        sys.exit(f"error: the environment must have the variables of the page gallery.md; got no {variable}. Set it.")
    return words


def run(words: list[str]) -> None:
    """Run a command of this environment."""
    subprocess.run([Path(sys.executable).with_name(words[0]), *words[1:]], cwd=ROOT, check=True)


def copy(name: str, gallery: Path) -> None:
    """Copy the figures that pages show from the folder of a command, or of the comparison of its runs, to `gallery`."""
    for figure in pictures(name):
        folders = (ROOT / "outputs" / kind / name for kind in ("gallery", "comparisons"))
        source = next(folder / figure for folder in folders if (folder / figure).is_file())
        target = gallery / name / figure
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def main(names: list[str], gallery: Path = GALLERY) -> None:
    """Make the pictures of the commands with these names, or of all, and copy them to `gallery`."""
    known = dict.fromkeys(name for name, _ in commands())
    if unknown := set(names) - known.keys():
        sys.exit(f"error: NAME must be one of {', '.join(known)}; got {min(unknown)}.")
    chosen = names or list(known)
    if earlier := [name for name in chosen if (ROOT / "outputs" / "gallery" / name / RECORDED).exists()]:
        sys.exit(
            f"error: a sweep must have a new folder; got outputs/gallery/{earlier[0]}, which has an earlier one. "
            "Delete the folder and its runs in MLflow, or the comparison contains them as well."
        )
    for words in [words_of(command) for name, command in commands() if name in chosen]:
        print(shlex.join(words), flush=True)
        run(words)
    for name in chosen:
        copy(name, gallery)


if __name__ == "__main__":
    main(sys.argv[1:])
