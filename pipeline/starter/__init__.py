"""``pcace init``: write a folder with a network, images and settings to start from, which can be run at once."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from pipeline.command_line import command
from pipeline.errors import SettingsError
from pipeline.files import write_whole
from pipeline.schema import ALL, as_text

USAGE = """Usage: pcace init [FOLDER] [--dvc]

Writes a starter into FOLDER (default: the working folder): a small network, example images, and an experiment for them.
It can be run at once; the comments in the files say what to replace by your own.

    pcace init my_ranking
    cd my_ranking
    pcace run experiment=mine

With --dvc, a dvc.yaml is written as well, with which `dvc repro` runs the experiment where something has changed."""

FILES = Path(__file__).parent / "files"
NAMES = ("network.py", "conf/experiment/mine.yaml")
DVC, DVC_SOURCE = "dvc.yaml", "dvc.yaml.txt"  # DVC would take a file called dvc.yaml in a checkout for one of its own
SCHEMA = "conf/settings.schema.json"
N_IMAGES, SIDE = 150, 32  # of each class, and their width and height in pixels


@command
def main() -> None:
    """Write the starter and print what to do next."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    folders = [each for each in arguments if not each.startswith("-")]
    unknown = [each for each in arguments if each.startswith("-") and each != "--dvc"]
    if len(folders) > 1 or unknown:
        raise SettingsError(
            f"init must have at most one folder and --dvc; got {' '.join(arguments)}. See pcace init --help."
        )
    folder = Path(folders[0] if folders else ".")
    written = write_starter(folder, with_dvc="--dvc" in arguments)
    print(f"Wrote {', '.join(written)} and {2 * N_IMAGES} images in {folder / 'images'}. Next:\n")
    if folder.resolve() != Path.cwd():
        print(f"  cd {shlex.quote(str(folder))}")
    print("  pcace run experiment=mine        ranks the channels of the network's layer conv2")
    print("  pcace layers experiment=mine     lists the layers that can be ranked")
    if "--dvc" in arguments:
        print("  git init && dvc init && dvc repro    runs the experiment where something has changed")
    print("\nThen replace network.py and images by your own, and edit conf/experiment/mine.yaml; comments say how.")


def write_starter(folder: Path, *, with_dvc: bool = False) -> list[str]:
    """Write the starter into a folder, and return the names of the files, without the images.

    Raises
    ------
    SettingsError
        If the folder already has one of the files; nothing is written then.
    """
    names = [*NAMES, *([DVC] if with_dvc else [])]
    for name in [*names, SCHEMA, "images"]:
        if (folder / name).exists():
            raise SettingsError(
                f"the folder of the starter must not contain {name}; got {folder.resolve()}. Choose another folder."
            )
    try:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            source = FILES / (DVC_SOURCE if name == DVC else name)
            write_whole(folder / name, source.read_text(encoding="utf-8"))
        write_whole(folder / SCHEMA, as_text(ALL))
        _draw_images(folder / "images")
    except OSError as error:
        raise SettingsError(
            f"the folder of the starter must be writable; got {folder} ({error.strerror}). Choose another folder."
        ) from error
    return names


def _draw_images(folder: Path) -> None:
    """Write the example images: horizontal and vertical stripes of random width, colour and contrast, with noise."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    position = np.arange(SIDE)
    for name in ("horizontal", "vertical"):
        (folder / name).mkdir(parents=True)
        for index in range(N_IMAGES):
            stripes = np.sin(2 * np.pi * position / rng.uniform(5, 14) + rng.uniform(0, 2 * np.pi))
            pattern = np.tile(stripes, (SIDE, 1))[..., None] * rng.uniform(10, 70, 3)
            pattern = pattern.transpose(1, 0, 2) if name == "horizontal" else pattern
            pixels = pattern + rng.uniform(70, 180, 3) + rng.normal(0, 25, (SIDE, SIDE, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{index:04d}.png")
