"""Street View with a local server that responds as Google's documentation describes."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.artifacts import Activations, ImageSet
from pipeline.config import compose_settings
from pipeline.console import ConsoleObserver
from pipeline.errors import InputError
from pipeline.observer import RunResult
from pipeline.runner import run as run_pipeline
from pipeline.settings import Settings
from pipeline.sources.street_view import signature
from pipeline.stages import download
from pipeline.tracking.mlflow import MlflowTracker
from tests.helpers.servers import LOOPBACK, Handler, Server, photograph, serving
from tests.helpers.settings import SMALL
from tests.helpers.stages import fetch

KEY = "AIzaFakeKeyOfTheTests"
SECRET = base64.urlsafe_b64encode(b"a signing secret 123").decode()
GREY = photograph(7)  # "Sorry, we have no imagery here."

CASES: dict[str, Any] = {}


class Depth(nn.Module):
    """A small regression network with one output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 5, stride=4)
        self.conv2 = nn.Conv2d(8, 12, 3, stride=2)
        self.head = nn.Linear(12, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.conv2(self.conv1(images).relu()).relu()
        return self.head(maps.mean(dim=(2, 3))).squeeze(1)


def google(server: Server, handler: Handler, path: str) -> None:
    """Respond as https://developers.google.com/maps/documentation/streetview describes, including errors."""
    parts = urlsplit(path)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    unsigned, _, signed = path.rpartition("&signature=")
    if query.get("key") != KEY or signed != signature(server.url + unsigned, base64.urlsafe_b64decode(SECRET)):
        denied = {"error_message": "The provided API key is invalid.", "status": "REQUEST_DENIED"}
        if parts.path.endswith("/metadata"):
            handler.send(json.dumps(denied).encode(), kind="application/json")
        else:
            handler.send(b"The Google Maps Platform server rejected your request.", 403, kind="text/plain")
        return
    requested = query.get("pano") or query.get("location") or ""
    case = CASES.get(requested, "OK")
    if parts.path.endswith("/metadata"):
        if case == "500once" and server.requests[path] == 1:
            handler.send(b"", 500)
            return
        status = case if case.isupper() else "OK"
        answer: dict[str, Any] = {"status": status}
        if status == "OK":
            found = requested if "pano" in query else f"pano-at-{requested}"
            answer |= {"pano_id": found, "copyright": "© Google", "location": {"lat": 51.5, "lng": -0.1}}
        handler.send(json.dumps(answer).encode(), kind="application/json")
    elif case == "gone":
        status = 404 if query.get("return_error_code") == "true" else 200
        handler.send(GREY, status)
    elif case == "grey":
        handler.send(GREY)
    elif case == "quota":
        handler.send(b"You have exceeded your rate-limit for this API.", 429, kind="text/plain")
    else:
        width, height = map(int, query["size"].split("x"))
        handler.send(photograph(abs(hash_of(requested)), (width, height)))


def hash_of(text: str) -> int:
    return int.from_bytes(text.encode()[-6:], "big")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("GOOGLE_MAPS_API_KEY", KEY)
    monkeypatch.setenv("GOOGLE_MAPS_SIGNING_SECRET", SECRET)
    CASES.clear()
    with serving(google) as one:
        yield one


Ask = Callable[..., Settings]


@pytest.fixture
def ask(server: Server, tmp_path: Path) -> Ask:
    def _ask(rows: list[str] | Path, *overrides: str) -> Settings:
        if isinstance(rows, Path):
            file = rows
        else:
            file = tmp_path / "rows.csv"
            file.write_text("\n".join(["gsv_panoid,gsv_lat,gsv_lng", *rows, ""]))
        return compose_settings(
            [
                f"paths.outputs={tmp_path / 'outputs'}", *SMALL, "n_images=5", "data=street_view", f"data.file={file}",
                f"data.endpoint={server.url}/maps/api/streetview", LOOPBACK, "data.size=[64,48]", "target=regression",
                "data.web.backoff=0.01", "data.web.per_host=8", "data.web.attempts=2", *overrides,
            ]
        )  # fmt: skip

    return _ask


def report(images: ImageSet) -> dict[str, str]:
    with (images.folder / "report.csv").open(newline="") as file:
        return {row["address"]: row["reason"] for row in csv.DictReader(file)}


def rows(n: int) -> list[str]:
    return [f"pano{index:03d},51.{index:03d},-0.1" for index in range(n)]


def test_the_signature_is_that_of_googles_example() -> None:
    """The example is from Google's documentation of digital signatures."""
    url = "https://maps.googleapis.com/maps/api/geocode/json?address=New+York&client=clientID"
    secret = base64.urlsafe_b64decode("vNIXE0xscrmjlyV-12Nj_BvUPaw=")
    assert signature(url, secret) == "chaRF2hTJKOScPr-RQCEhZbSzIE="


def test_the_300_rows_of_the_original_scripts_are_ranked_for_a_regression_network(
    server: Server, ask: Ask, panoramas: Path, tracked: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = ask(
        panoramas, "n_images=300", "layer=conv2", "model=torchvision", "model.name=depth",
        "model.factory=tests.sources.test_street_view:Depth", "model.weights=random", "model.input_size=[3,64,64]",
        "model.transform.kind=resize", "model.transform.size=64",
    )  # fmt: skip
    result: RunResult = run_pipeline(settings, tmp_path / "run", [MlflowTracker(), ConsoleObserver()])
    table = result.ranking.table
    assert sorted(table.channel) == list(range(12))
    assert table.score.is_monotonic_decreasing
    images: ImageSet = result.artifacts[ImageSet]
    with panoramas.open(newline="") as lines:
        listed = [row["gsv_panoid"] for row in csv.DictReader(lines)]
    assert [record.source for record in images.records] == [f"street_view:{name}" for name in listed]
    assert {(record.width, record.height) for record in images.records} == {(64, 48)}
    kinds = [urlsplit(path).path.rpartition("/")[2] for path in server.requests]
    assert (kinds.count("metadata"), kinds.count("streetview")) == (300, 300)
    assert np.ptp(result.artifacts[Activations].class_score) > 0
    assert (tracked / "mlartifacts").is_dir()  # so MLflow's files are among those that are searched
    said = capfd.readouterr()
    assert said.out.startswith("Which channels of conv2 (depth) matter for output 0? 300 images, ")
    written = "".join(
        path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".npy"
    )
    for text in (said.out, said.err, written):
        assert KEY not in text
        assert SECRET not in text
        assert "signature=" not in text


def test_a_panorama_whose_id_no_longer_exists_is_requested_by_location(
    server: Server, ask: Ask, tmp_path: Path
) -> None:
    CASES.update({"pano001": "NOT_FOUND", "pano002": "ZERO_RESULTS", "51.002,-0.1": "ZERO_RESULTS", "pano004": "gone"})
    images = fetch(ask([*rows(7), ",51.9,-0.2", "only-an-id,,"], "n_images=7"), tmp_path / "set")
    assert [record.id for record in images.records] == [
        "1/pano000", "2/pano001", "4/pano003", "6/pano005", "7/pano006", "8/51.9,-0.2", "9/only-an-id",
    ]  # fmt: skip
    reasons = report(images)
    assert (reasons["pano002"], reasons["pano004"]) == ("no image (ZERO_RESULTS)", "no image (HTTP 404)")
    requested = [urlsplit(path) for path in server.requests]
    pictures = [parse_qs(parts.query) for parts in requested if not parts.path.endswith("/metadata")]
    assert ["pano-at-51.001,-0.1"] in [query["pano"] for query in pictures]
    assert not any("pano002" in query["pano"] for query in pictures)  # only the free metadata were requested


def test_the_view_is_requested_as_configured(server: Server, ask: Ask, tmp_path: Path) -> None:
    fetch(ask(rows(5), "data.heading=90", "data.pitch=-10.5", "data.fov=60"), tmp_path / "set")
    query = next(parse_qs(urlsplit(path).query) for path in server.requests if "/metadata" not in path)
    assert {name: query[name] for name in ("size", "heading", "pitch", "fov", "return_error_code")} == {
        "size": ["64x48"], "heading": ["90"], "pitch": ["-10.5"], "fov": ["60"], "return_error_code": ["true"],
    }  # fmt: skip


def test_the_image_that_says_no_imagery_is_a_placeholder(ask: Ask, tmp_path: Path) -> None:
    CASES.update({f"pano{index:03d}": "grey" for index in (0, 3, 5)})
    images = fetch(ask(rows(9)), tmp_path / "set")
    assert [record.id[:1] for record in images.records] == ["2", "3", "5", "7", "8"]
    assert report(images)["pano000"] == "placeholder image (the same bytes in 3 entries)"


def test_a_transient_error_is_retried(ask: Ask, tmp_path: Path) -> None:
    CASES["pano001"] = "500once"
    assert len(fetch(ask(rows(5)), tmp_path / "set")) == 5


@pytest.mark.parametrize(
    ("case", "start"),
    [
        ("OVER_QUERY_LIMIT", "Google's quota must allow more requests; got OVER_QUERY_LIMIT. Run again later: downl"),
        ("quota", "Google's quota must allow more requests; got 429. Run again later: downloaded images are kept."),
        (
            "REQUEST_DENIED",
            "GOOGLE_MAPS_API_KEY must be accepted by Google; got REQUEST_DENIED. Check that the key is correct, ",
        ),
    ],
)
def test_a_final_error_ends_the_run_and_downloaded_images_are_kept(
    server: Server, ask: Ask, tmp_path: Path, case: str, start: str
) -> None:
    CASES["pano004"] = case
    settings = ask(rows(6), "data.web.concurrency=1", "n_images=6")
    with pytest.raises(InputError) as caught:
        fetch(settings, tmp_path / "set")
    assert str(caught.value).startswith(start)
    before = server.n_requests
    CASES.clear()
    assert len(fetch(settings, tmp_path / "again")) == 6
    assert server.n_requests - before == 4  # two requests for each of the two missing images


def test_messages_about_a_wrong_key_or_secret_do_not_contain_it(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_MAPS_API_KEY", "AIzaWrong")
    with pytest.raises(InputError) as caught:
        fetch(ask(rows(5)), tmp_path / "set")
    assert str(caught.value) == (
        "GOOGLE_MAPS_API_KEY must be accepted by Google; got REQUEST_DENIED. Check that the key is correct, that the "
        "Street View Static API is enabled for it, and that GOOGLE_MAPS_SIGNING_SECRET is set if requests must be "
        "signed. Downloaded images are kept."
    )
    monkeypatch.delenv("GOOGLE_MAPS_API_KEY")
    with pytest.raises(InputError, match=r"^GOOGLE_MAPS_API_KEY must be set in the environment; got nothing\. "):
        fetch(ask(rows(5)), tmp_path / "none")
    monkeypatch.setenv("GOOGLE_MAPS_API_KEY", KEY)
    monkeypatch.setenv("GOOGLE_MAPS_SIGNING_SECRET", "no base64!")
    with pytest.raises(InputError) as caught:
        fetch(ask(rows(5)), tmp_path / "secret")
    assert "no base64" not in str(caught.value)


def test_the_key_is_not_logged_even_at_level_debug(ask: Ask, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        fetch(ask(rows(5)), tmp_path / "set")
    assert KEY not in caplog.text


def test_a_row_without_id_and_location_is_refused(ask: Ask) -> None:
    with pytest.raises(
        InputError, match=r"^every row must have gsv_panoid, or gsv_lat and gsv_lng; got neither in row 2"
    ):
        download.select(ask(["pano,51.5,-0.1", ",51.5,"])).identity()


def test_a_table_without_a_required_column_is_refused(ask: Ask, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("gsv_lat,name\n51.5,London\n")
    with pytest.raises(InputError) as caught:
        download.select(ask(file)).identity()
    assert str(caught.value) == (
        f"data.file must have a column 'gsv_lng'; got none (street_view {file}). The columns are: gsv_lat, name."
    )
