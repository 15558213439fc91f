from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.artifacts import (
    AceFit,
    Activations,
    ChannelScores,
    Effects,
    Figures,
    ImageRecord,
    ImageSet,
    Projections,
    Ranking,
)  # fmt: skip
from pipeline.errors import InputError
from pipeline.figures.columns import cell_text, shown_columns
from pipeline.figures.gallery import gallery
from pipeline.figures.pictures import FilePictures
from pipeline.figures.ranked_layer import RankedLayer
from pipeline.figures.report_page import ReportContent, render_report
from pipeline.networks.inputs import Preprocessing
from pipeline.report_writer import ReportWriter
from pipeline.runner import run
from pipeline.settings import ModelSettings, VisualizeSettings
from tests.helpers.settings import Compose

HOSTILE = '</script><img src=x onerror="alert(1)">'


class Elements(HTMLParser):
    """Collects the names of elements, and the attributes that run code."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def parsed(page: str) -> Elements:
    elements = Elements()
    elements.feed(page)
    return elements


@pytest.fixture
def content(compose: Compose, tmp_path: Path) -> ReportContent:
    result = run(compose(), tmp_path / "run")
    figures: Figures = result.artifacts[Figures]
    return ReportContent(
        result.ranking.table, json.loads((figures.folder / Figures.GALLERY).read_text()), figures.paths, ["a note"],
        {"layer": "conv1"}, {"python": "3"}, [("download", 1.0, False, "abc")], "pcace run layer=conv1",
    )  # fmt: skip


def test_the_report_is_one_file_that_loads_nothing(compose: Compose, tmp_path: Path) -> None:
    run(compose(), tmp_path / "run", [ReportWriter("pcace run layer=conv1")])
    page = (tmp_path / "run" / "report.html").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert "pcace run layer=conv1" in page
    for text in ("n_components", "torchvision", "visualize.n_top", "class_name"):
        assert text in page


def test_columns_that_are_not_known_are_shown_under_their_names(content: ReportContent) -> None:
    table = content.table.assign(q_value=0.0004, strange_new_number=np.float64(12.5), dead=False)
    page = render_report(replace(content, table=table))
    assert '<th scope="col" data-key="q_value" title="False discovery rate' in page
    assert (
        '<th scope="col" data-key="strange_new_number"><button type="button">strange new number</button></th>' in page
    )
    assert "12.5000" in page
    assert "4.00e-04" in page
    keys = [column.key for column in shown_columns(table)]
    assert keys[:3] == ["rank", "channel", "score"]
    own = f"score_{table.by.iloc[0]}"  # the column "score" shows it
    assert own in table
    assert not {"dead", "model", "layer", "class_name", own} & set(keys)
    assert {"score_first", "score_maximal", "score_penalised"} - {own} <= set(keys)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5000"), (2e-5, "2.00e-05"), (1234.5, "1234"), (float("nan"), "–"), (True, "yes"), (False, ""), (7, "7")],
)
def test_values_have_a_readable_format(value: object, text: str) -> None:
    assert cell_text(value) == text


def test_values_from_users_never_become_markup(content: ReportContent) -> None:
    harmless = parsed(render_report(content))
    images = [{**image, "name": HOSTILE} for image in content.gallery["images"]]
    table = content.table.assign(class_name=HOSTILE, layer=HOSTILE, model=HOSTILE)
    table[HOSTILE] = HOSTILE
    page = render_report(
        ReportContent(
            table.drop(columns=HOSTILE), {**content.gallery, "images": images}, content.figures, [HOSTILE],
            {HOSTILE: HOSTILE}, {HOSTILE: HOSTILE}, [(HOSTILE, 1.0, False, HOSTILE)], HOSTILE,
        )
    )  # fmt: skip
    found = parsed(page)
    assert found.handlers == []
    assert found.names == harmless.names
    assert parsed(render_report(replace(content, table=table))).handlers == []


def blurred(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Return a picture that compresses like a photograph: enlarged coarse noise with fine noise."""
    coarse = Image.fromarray(rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=float)
    return Image.fromarray(np.clip(smooth + rng.normal(scale=4, size=smooth.shape), 0, 255).astype(np.uint8))


def large_layer(folder: Path, model: ModelSettings, visualize: VisualizeSettings) -> RankedLayer:
    """Return a layer with 512 channels, 300 photographs and 10 components."""
    rng = np.random.default_rng(0)
    n_channels, n_images, n_components = 512, 300, 10
    (folder / "images").mkdir()
    records = []
    for index in range(n_images):
        blurred(rng, 96, 96).save(folder / f"images/{index}.png")
        records.append(ImageRecord(str(index), "", f"images/{index}.png", "", 96, 96, ""))
    shape = (n_channels, n_images, n_components)
    zeros, none_dead = np.zeros(n_channels), np.zeros(n_channels, dtype=bool)
    table = pd.DataFrame({"rank": np.arange(n_channels) + 1, "channel": rng.permutation(n_channels), "score": 0.5})
    table = table.assign(
        dead=False, statistic="maximal", by="maximal", model="m", layer="l", class_name="c", target_class=0
    )
    images = ImageSet(folder, tuple(records))
    return RankedLayer(
        visualize, FilePictures(images, Preprocessing(model)), "l", "question", "class score (logit)", 0, None, images,
        Activations(rng.normal(size=(n_channels, n_images, 14, 14)).astype(np.float32), rng.normal(size=n_images)),
        Projections(rng.normal(size=shape), np.ones((n_channels, n_components)), none_dead),
        ChannelScores(
            {"maximal": zeros}, none_dead, {}, {},
            AceFit(zeros, rng.normal(size=shape), rng.normal(size=shape[:2]), iterations=zeros.astype(np.int64)),
        ),
        Ranking(table.assign(n_images=n_images, n_components=n_components, seed=0)),
        Effects(),
    )  # fmt: skip


@pytest.mark.slow
def test_a_layer_of_512_channels_stays_below_8_mebibytes(compose: Compose, tmp_path: Path) -> None:
    settings = compose("model=resnet18", "model.weights=random", "class_name=tabby", "model.transform.kind=none")
    ranked = large_layer(tmp_path, settings.model, settings.visualize)
    figures = []
    for name in ("activation_maps", "activation_overlays", "transforms", "cam", "channel_weighted", "maximization"):
        figures.append(tmp_path / f"{name}.png")
        blurred(np.random.default_rng(1), 1600, 1000).save(figures[-1])  # as large as a photograph
    shown = json.loads(json.dumps(gallery(ranked, None)))
    page = render_report(ReportContent(ranked.ranking.table, shown, figures, [], {}, {}, [], ""))
    assert page.count("<tr data-channel=") == 512
    assert 2 * 2**20 < len(page.encode()) < 8 * 2**20


def test_named_channels_and_images_are_drawn_or_reported_as_missing(compose: Compose, tmp_path: Path) -> None:
    result = run(compose("visualize.channels=[3,5]", "visualize.image_ids=[8/0028,8/0008]"), tmp_path / "run")
    assert (result.run_dir / "figures" / "overlays" / "00002_target.png").exists()
    with pytest.raises(InputError, match=r"^visualize\.channels must be below 16; got 16 \(layer 'conv1'\)\. Name "):
        run(compose("visualize.channels=[3,16]"), tmp_path / "no")
    with pytest.raises(
        InputError, match=r"^visualize\.image_ids must be among the 20 images of the set; got '8/0009'\."
    ):
        run(compose("visualize.image_ids=[8/0009]"), tmp_path / "no")


def test_driving_images_have_the_largest_mean_activation(compose: Compose, tmp_path: Path) -> None:
    settings = compose("visualize.images=driving", "visualize.n_images=3", "visualize.scale=shared")
    result = run(settings, tmp_path / "run")
    images, activations = result.artifacts[ImageSet], result.artifacts[Activations]
    ranked = RankedLayer(
        settings.visualize, FilePictures(images, Preprocessing(settings.model)), "conv1", "question",
        "class score (logit)", 8, None, images, activations,
        result.artifacts[Projections], result.artifacts[ChannelScores], result.ranking, result.effects,
    )  # fmt: skip
    for channel, drawn in zip(ranked.channels[0], ranked.channel_maps, strict=True):
        means = activations.maps[channel].mean(axis=(1, 2))
        np.testing.assert_allclose(drawn.maps.mean(axis=(1, 2)), np.sort(means)[::-1][:3], rtol=1e-5)
        assert drawn.names[0] == images.records[int(means.argmax())].id
    assert len({(drawn.low, drawn.high) for drawn in ranked.channel_maps}) == 1


def test_maps_of_one_pixel_have_no_overlays(compose: Compose, tmp_path: Path) -> None:
    result = run(compose("layer=pool"), tmp_path / "run", [ReportWriter("x")])
    names = {path.stem for path in result.artifacts[Figures].paths}
    assert names == {
        "activation_maps", "association_effect", "cam", "faithfulness", "ranking_curve", "reliability", "smoothness",
        "transforms",
    }  # fmt: skip
    page = (tmp_path / "run" / "report.html").read_text()
    assert "No overlays: the maps of pool have no height or no width, so their pixels do not" in page
