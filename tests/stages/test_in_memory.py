"""The stages between the images and the figures run in memory, and give the same artifacts as a run with a store."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipeline.artifacts import Artifact, Effects, ImageSet, Ranking, Workspace
from pipeline.resolve import resolve
from pipeline.runner import run
from pipeline.stages import ORDER, load_stage
from tests.helpers.settings import Compose
from tests.helpers.stages import contents

IN_MEMORY = [name for name in ORDER if name not in ("download", "visualize")]  # these two write files


def ignore(done: int, total: int) -> None:
    """Accept the progress."""


@pytest.mark.parametrize(
    "overrides",
    [
        ("n_images=40", "score.permutations=10", "score.bootstrap=10", "score.folds=2", "n_components=2"),
        ("score=gradient_x_activation", "score.bootstrap=10", "layer=conv2"),
    ],
    ids=["ace", "gradient_x_activation"],
)
def test_ranking_in_memory_gives_the_same_files_and_tables_as_a_run(
    overrides: tuple[str, ...], compose: Compose, tmp_path: Path
) -> None:
    settings = compose(*overrides)
    result = run(settings, tmp_path / "run")
    files = sorted(tmp_path.rglob("*"))
    settings = resolve(settings)
    made: dict[str, Artifact] = {"images": result.artifacts[ImageSet]}
    for name in IN_MEMORY:
        stage = load_stage(name)
        upstream = {each: made[each] for each in stage.upstream}
        made[stage.artifact.name] = stage.compute(settings, upstream, Workspace(), ignore)
    assert sorted(tmp_path.rglob("*")) == files

    for artifact in made.values():
        if not isinstance(artifact, ImageSet):
            folder = tmp_path / artifact.name
            folder.mkdir()
            artifact.save(folder)
            assert contents(folder) == contents(result.artifacts.folders[type(artifact)])
    ranking, effects = made["ranking"], made["effects"]
    assert isinstance(ranking, Ranking)
    assert isinstance(effects, Effects)
    pd.testing.assert_frame_equal(ranking.table, result.ranking.table, check_exact=True)
    assert effects.is_measured
    assert effects.faithfulness == result.effects.faithfulness


def test_the_stage_that_writes_images_needs_a_folder(compose: Compose) -> None:
    with pytest.raises(ValueError, match=r"^the workspace must have a folder for a stage that writes files; got "):
        load_stage("download").compute(resolve(compose()), {}, Workspace(), ignore)
