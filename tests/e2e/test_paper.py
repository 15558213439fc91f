"""The commands of ``docs/paper.md`` for ResNet-18, with random weights and a few photographs.

The published weights and the photographs of Egyptian cats cannot be downloaded where the tests run. CIFAR-10's
cats take the place of the photographs, in a folder and on a web server on this machine.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pandas as pd
import pytest

from pipeline import commands
from tests.helpers.cli import command_line
from tests.helpers.pages import BLOCKS
from tests.helpers.servers import LOOPBACK, Handler, Server, serving

N_IMAGES = 12
# Random weights have no names of classes: 285 is the index of Egyptian cats.
REPLACED = (
    "model.weights=random", "target_class=285", f"n_images={N_IMAGES}", "score.permutations=10", "score.bootstrap=10",
    "ablate.when=never", "visualize.maximize=never", "visualize.n_top=1", "visualize.n_bottom=1",
    "visualize.n_images=1", "visualize.dpi=50", "tracking=none",
)  # fmt: skip


def command_of_the_page(source: str) -> list[str]:
    """The arguments of the command of the page for ResNet-18 and a source of images."""
    listed = [command for block in BLOCKS if block.page == "paper.md" for command in block.commands()]
    (found,) = [each for each in listed if "model=resnet18 " in each and f" data={source} " in each]
    return shlex.split(found)[1:]


def test_egyptian_cats_are_ranked_by_a_list_of_addresses_and_by_a_folder(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = sorted((photographs / "cat").glob("*.jpg"))[:N_IMAGES]
    folder = tmp_path / "PHOTOS" / "Egyptian cat"
    folder.mkdir(parents=True)
    for path in paths:
        (folder / path.name).symlink_to(path)

    def answer(_server: Server, handler: Handler, path: str) -> None:
        handler.send((folder / Path(path).name).read_bytes())

    monkeypatch.chdir(tmp_path)
    scores = {}
    with command_line(tmp_path / "outputs", monkeypatch, capsys) as call, serving(answer) as server:
        (tmp_path / "EGYPTIAN_CAT.txt").write_text("\n".join(f"{server.url}/{path.name}" for path in paths))
        for source, further in (("urls", [LOOPBACK]), ("folder", [])):
            given = [*command_of_the_page(source), *REPLACED, *further, f"hydra.run.dir={source}"]
            code, out, err = call(*given, main=commands.main)
            assert (code, err) == (0, [])
            assert out[0].startswith(
                "Which channels of layer4.1.conv2 (resnet18) matter for class Egyptian cat? 12 images"
            )
            scores[source] = pd.read_csv(tmp_path / source / "ranking.csv").set_index("channel").score
            assert (tmp_path / source / "report.html").is_file()
    assert len(scores["urls"]) == 512
    assert scores["urls"].max() > 0.5
    pd.testing.assert_series_equal(scores["urls"], scores["folder"])
    report = pd.read_csv(tmp_path / "urls" / "download_report.csv")
    assert len(report) == N_IMAGES
    assert report.reason.isna().all()
