"""The page of a whole network, and the reports of its layers."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.figures.gallery import (
    COMPACT_MAP_SIDE,
    COMPACT_SIDE,
    compact,
    decoded,
    map_sheet,
    thumbnail,
    transform_points,
)
from pipeline.figures.network_page import render_network
from pipeline.figures.report_page import ReportContent, render_report
from tests.helpers.html import html_faults, links
from tests.helpers.network_pages import content
from tests.helpers.network_rankings import MISSING, large_network, network_ranking

RNG = np.random.default_rng(0)
NETWORK = "../../network.html"


def test_the_page_shows_the_table_of_layers_and_links_to_their_reports(tmp_path: Path) -> None:
    ranking = network_ranking(
        [[0.1, 0.4], [0.9, 0.5]], names=["features.0", "a b#1"], association=[0.2, 0.8], reliability=[MISSING, 0.9],
        not_ranked=["pool"],
    )  # fmt: skip
    page = render_network(content(ranking, tmp_path))
    assert html_faults(page) == []
    assert ranking.sentences[0] in page
    reports = [link for link in links(page) if link.startswith("layers/")]
    assert {unquote(link) for link in reports} == {"layers/features.0/report.html", "layers/a b#1/report.html"}
    assert "layers/a%20b%231/report.html" in reports
    for text in ("0.800", "50%", "100%", "0.90", "8 × 8", "its maps do not vary", "a caption", "pcace run", "a note"):
        assert text in page
    assert page.count("–</td>") == 1  # the reliability that was not computed
    assert ("from 50% to 60%" in page, "q &lt; .05 about 5 %" in page) == (True, True)


@pytest.mark.parametrize("by", ["bias_corrected", "cross_fitted", "score"])
def test_what_can_be_compared_depends_on_what_the_network_is_ranked_by(by: str, tmp_path: Path) -> None:
    ranking = network_ranking([[0.1, 0.4], [0.9]], by=by, threshold=None)
    page = render_network(content(ranking, tmp_path))
    assert html_faults(page) == []
    starts = {"bias_corrected": "Bias-corrected scores", "cross_fitted": "Cross-fitted scores", "score": "Ranks within"}
    assert [f"<strong>{start}" in page for start in starts.values()] == [name == by for name in starts]
    assert "<strong>q-values" not in page
    assert ("overlap widely" in page) == (by == "bias_corrected")


def test_names_from_users_are_text(tmp_path: Path) -> None:
    hostile = '</script><img src=x onerror="alert(1)">'
    ranking = network_ranking([[0.5], [0.2]], names=[hostile, "b"], model=hostile, target=f"class {hostile}")
    page = render_network(
        replace(content(ranking, tmp_path), command=hostile, notes=[hostile], settings={hostile: hostile})
    )
    assert html_faults(page) == []
    assert "<img src=x" not in page


def layer_content(n_channels: int, n_images: int, side: int) -> ReportContent:
    """Return the content of a report with photographs, maps and transforms as large as those of a real layer."""
    table = pd.DataFrame({"rank": np.arange(n_channels) + 1, "channel": RNG.permutation(n_channels)})
    scores = np.sort(RNG.uniform(size=n_channels))[::-1]
    table = table.assign(
        score=scores, score_maximal=scores + 0.01, score_penalised=scores, score_first=scores / 2,
        corrected=scores - 0.1, cross_fitted=scores - 0.2, low=scores - 0.2, high=scores, p_value=0.005, q_value=0.01,
        p_family=0.1, excess=9.123, null_mean=0.21, null_deviation=0.0312, top_k_chance=0.5, rank_low=1.0,
        rank_high=9.0, r_squared=scores, degrees_of_freedom=5.123, dead=False, by="penalised", statistic="penalised",
        model="resnet18", layer="layer", class_name="tabby", target_class=281, n_images=300, n_components=3, seed=0,
    )  # fmt: skip
    coarse = [Image.fromarray(RNG.integers(0, 255, (12, 12, 3), dtype=np.uint8)) for _ in range(n_images)]
    photographs = [np.asarray(each.resize((96, 96), Image.Resampling.BICUBIC)) for each in coarse]
    gallery = {
        "images": [{"name": f"photo {n}", "src": thumbnail(picture)} for n, picture in enumerate(photographs)],
        "channels": [
            {"channel": int(channel), "image": place % n_images, "mean": 1.234, "low": -1.234, "high": 2.345}
            for place, channel in enumerate(table.channel)
        ],
        "maps": map_sheet([RNG.normal(size=(side, side)) for _ in range(n_channels)]),
        "transforms": transform_points(
            RNG.normal(size=(n_channels, 300, 3)), RNG.normal(size=(n_channels, 300, 3)), RNG.normal(size=300),
            RNG.normal(size=(n_channels, 300)), table.channel.tolist(),
        ),
        "maximized": [],
    }  # fmt: skip
    return ReportContent(table, gallery, [], [], {}, {}, [], "")


def test_the_reports_of_layers_link_to_the_network_and_are_smaller(tmp_path: Path) -> None:
    alone = layer_content(64, 30, 28)

    Image.fromarray(RNG.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(tmp_path / "cam.png")
    alone = replace(alone, figures=[tmp_path / "cam.png"])
    page = render_report(replace(alone, network=NETWORK))
    assert html_faults(page) == []
    assert links(page) == ["#ranking", NETWORK]
    assert page.count("<tr data-channel=") == 64
    large = render_report(alone)
    assert (links(large), html_faults(large)) == (["#ranking"], [])
    assert "Environment" not in large  # that of a run of the command line is not known in Python
    assert "<caption>Environment</caption>" in render_report(replace(alone, environment={"python": "3"}))
    assert "<figure>" in large
    assert "<figure>" not in page  # the class activation maps are the same for all layers
    shown = [float(text) for text in alone.table.score]
    for text in (f"{shown[0]:.4f}", f"{shown[-1]:.4f}"):
        assert f">{text}</td>" in page


def test_the_data_of_a_smaller_report_are_those_of_the_best_channels() -> None:
    whole = dict(layer_content(64, 3, 28).gallery)
    small = compact(whole)
    kept, n_kept = small["transforms"], len(small["transforms"]["channels"])
    assert kept["channels"] == whole["transforms"]["channels"][:n_kept]
    assert kept["ranges"] == whole["transforms"]["ranges"][:n_kept]
    n_bytes = len(base64.b64decode(kept["bytes"]))
    assert base64.b64decode(whole["transforms"]["bytes"])[:n_bytes] == base64.b64decode(kept["bytes"])
    assert n_bytes == n_kept * 4 * kept["points"] * 2
    assert (small["maps"]["width"], small["maps"]["cells"]) == (COMPACT_MAP_SIDE, 64)
    assert decoded(small["maps"]["src"]).size == (32 * COMPACT_MAP_SIDE, 2 * COMPACT_MAP_SIDE)
    assert decoded(small["images"][0]["src"]).size == (COMPACT_SIDE, COMPACT_SIDE)
    assert json.loads(json.dumps(small))["channels"] == whole["channels"]


def test_the_report_of_resnet18_stays_below_12_mebibytes(tmp_path: Path) -> None:

    def size(**changes: object) -> int:
        alone = layer_content(64, 30, 7)
        return len(render_report(replace(alone, network=NETWORK, **changes)).encode())  # type: ignore[arg-type]

    figures = []
    for name in (
        "activation_maps",
        "activation_overlays",
        "channel_weighted",
        "transforms",
        "smoothness",
        "reliability",
    ):
        coarse = Image.fromarray(RNG.integers(0, 255, (24, 36, 3), dtype=np.uint8))
        coarse.resize((1300, 870), Image.Resampling.BICUBIC).save(tmp_path / f"{name}.png")
        figures.append(tmp_path / f"{name}.png")
    total = 20 * (size(figures=figures) - size())
    assert total > 20 * 60_000
    # The convolutions of ResNet-18: five layers each with this number of channels and this size of the stored maps.
    for n_channels, side in ((64, 28), (128, 28), (256, 14), (512, 7)):
        alone = layer_content(n_channels, min(n_channels, 150), side)
        total += 5 * len(render_report(replace(alone, network=NETWORK)).encode())
    total += len(render_network(content(large_network(20, 4800), tmp_path)).encode()) + 4 * 150_000  # four figures
    assert 4 * 2**20 < total < 12 * 2**20
