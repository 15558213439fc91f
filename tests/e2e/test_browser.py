"""The report, from disk and inside MLflow, and MLflow's comparison of a sweep, in a real browser.

Screenshots are written to outputs/screenshots.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from PIL import Image
from playwright.sync_api import Browser, FrameLocator, Page, sync_playwright

from pipeline.export import export, found
from pipeline.figures.network_page import render_network, with_reports
from pipeline.report_writer import ReportWriter
from pipeline.runner import run
from pipeline.sources.sklearn_digits import scans
from pipeline.ui import START_SECONDS
from tests.helpers.network_pages import content
from tests.helpers.network_rankings import large_network
from tests.helpers.project import ROOT, tool_is_missing
from tests.helpers.settings import SMALL, Compose

SCREENSHOTS = ROOT / "outputs" / "screenshots"
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
QUESTION = (*SMALL, "tracking.enabled=true", "visualize.maximize=always", "visualize.maximize_steps=8")
NAME = "class 8, 20 images, 1 component, digits_cnn, seed 0"  # the end of the names of all runs
HOSTILE = '<img src=x onerror="document.title=1">.png'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    path = shutil.which("chromium")
    if path is None:
        tool_is_missing("Chromium", "apt-get install chromium")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test where a script fails, or where anything is fetched that the test did not open."""
    opened = browser.new_page(viewport={"width": 1800, "height": 1100}, reduced_motion="reduce")
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.set_default_timeout(30_000)
    yield opened
    opened.close()
    assert faults == []


def typed(outputs: Path, *arguments: str, module: str = "pipeline") -> str:
    command = [sys.executable, "-m", module, f"paths.outputs={outputs}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """A sweep over three layers, compared."""
    folder = tmp_path_factory.mktemp("swept") / "outputs"
    folder.mkdir()
    shutil.copy(empty_database, folder)
    typed(folder, *QUESTION, "layer=conv1,conv2,conv3", "--multirun")
    typed(folder, "--sweep", "last", module="pipeline.compare")
    return folder


def rankings(outputs: Path) -> list[pd.DataFrame]:
    return [pd.read_csv(path) for path in sorted(outputs.glob("sweeps/*/*/ranking.csv"))]


@pytest.fixture(scope="module")
def addresses(outputs: Path) -> Iterator[dict[str, str]]:
    """MLflow, served by `pcace ui`; what it prints, by name."""
    with socket.socket() as free:  # the system's choice: 5000 may be somebody else's by the time the server starts
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-u", "-m", "pipeline.ui", f"--port={port}", f"paths.outputs={outputs}"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    try:
        found: dict[str, str] = {}
        for line in server.stdout:
            if match := re.match(r"  (\w.*?)\s{2,}(http://127\.0\.0\.1:\d+/#\S+)$", line.rstrip()):
                found[match[1]] = match[2]
            if "latest sweep, page" in found:
                break
        assert len(found) == 4, f"nothing within {START_SECONDS} s"
        yield found
    finally:
        server.terminate()
        server.wait(timeout=30)
        server.stdout.close()


def check_report(report: Page | FrameLocator) -> None:
    """Sort, search, choose a channel, by mouse and by keyboard."""
    rows = report.locator("#ranking tbody tr")
    assert rows.count() == 64
    assert report.locator("h1").inner_text() == "Which channels of conv3 matter for class 8?"
    detail = report.locator("#detail")
    best = rows.nth(0).get_attribute("data-channel")
    assert detail.locator("h2").inner_text().startswith(f"Channel {best}")

    heading = report.locator('th[data-key="score"]')
    for order in ("descending", "ascending"):
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == order
    assert report.locator("th[aria-sort]").count() == 1
    scores = [float(text) for text in report.locator("#ranking td.score").all_inner_texts()]
    assert scores == sorted(scores)
    worst = rows.nth(0).get_attribute("data-channel")
    assert worst != best

    report.locator("#search").fill("score>0.4 ")
    n_high = sum(score > 0.4 for score in scores)
    assert report.locator("#count").inner_text() == f"{n_high} of 64 channels"
    assert report.locator("#ranking tbody tr:visible").count() == n_high
    report.locator("#search").fill(str(worst))
    assert report.locator("#ranking tbody tr:visible").count() == 1

    report.locator(f'tr[data-channel="{worst}"] button').click()
    assert detail.locator("h2").inner_text().startswith(f"Channel {worst}")
    assert detail.locator(".panels svg").count() == 2  # one component, and the class score
    assert detail.locator(".panels svg").nth(0).locator("circle").count() == 20
    report.locator("#search").fill("")
    report.locator('th[data-key="rank"] button').click()
    first = rows.nth(0).locator("button")
    first.focus()
    first.press("ArrowDown")
    second = rows.nth(1).get_attribute("data-channel")
    assert detail.locator("h2").inner_text().startswith(f"Channel {second}")
    assert detail.locator("text=found by gradient ascent").count() == (1 if second in maximized(report) else 0)


def maximized(report: Page | FrameLocator) -> list[str]:
    """Return the channels with activation maximisation: the six best."""
    return [str(report.locator("#ranking tbody tr").nth(place).get_attribute("data-channel")) for place in range(6)]


def test_the_report_works_from_disk_without_a_network(page: Page, outputs: Path) -> None:
    (report,) = outputs.glob("sweeps/*/2/report.html")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    check_report(page)
    page.screenshot(path=SCREENSHOTS / "report_light.png", full_page=True)
    page.locator("#theme").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"
    page.screenshot(path=SCREENSHOTS / "report_dark.png")
    assert {url for url in asked if not url.startswith("data:")} == {report.as_uri()}

    page.emulate_media(media="print")
    assert not page.locator("#search").is_visible()
    assert not page.locator("#detail").is_visible()
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 less its margins: what is wider shrinks the whole page
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    page.pdf(path=SCREENSHOTS / "report.pdf", format="A4", print_background=True)

    page.emulate_media(media="screen")
    page.set_viewport_size({"width": 420, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.screenshot(path=SCREENSHOTS / "report_narrow.png")


def test_the_report_is_made_for_screen_readers(page: Page, outputs: Path) -> None:
    (report,) = outputs.glob("sweeps/*/2/report.html")
    page.goto(report.as_uri())
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("#ranking caption").count() == 1
    assert page.locator('#ranking thead th:not([scope="col"])').count() == 0
    assert page.locator("#ranking tbody th[scope=row]").count() == 64
    assert page.locator("img:not([alt])").count() == 0
    assert (page.locator("#curve").get_attribute("aria-label") or "").startswith("Score by rank: from ")
    assert page.locator("#count[role=status]").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the ranking"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_the_page_of_a_network_is_sorted_and_leads_to_the_reports(page: Page, tmp_path: Path) -> None:
    ranking = large_network(12, 300)
    (tmp_path / "network.html").write_text(render_network(content(ranking, tmp_path)), encoding="utf-8")
    first = tmp_path / "layers" / ranking.layers.layer[11] / "report.html"
    first.parent.mkdir(parents=True)
    first.write_text("<title>the report</title>", encoding="utf-8")
    page.goto((tmp_path / "network.html").as_uri())
    heading = page.locator('#layers th[data-key="association"]')
    heading.locator("button").focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    shown = page.locator("#layers tbody th").all_inner_texts()
    assert shown == ranking.layers.sort_values("association", ascending=False).layer.tolist()
    assert page.locator(".without-links").is_hidden()
    page.screenshot(path=SCREENSHOTS / "network.png", full_page=True)
    page.locator("#theme").click()
    page.set_viewport_size({"width": 390, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.screenshot(path=SCREENSHOTS / "network_narrow.png")
    association = page.locator("#layers tbody tr").first.locator("td").nth(1)
    assert association.evaluate("cell => cell.getBoundingClientRect().right") <= 390  # without scrolling
    page.locator(".scroll").evaluate("region => { region.scrollLeft = 400; }")
    name = page.locator("#layers tbody th").first
    assert name.evaluate("cell => cell.getBoundingClientRect().left") >= 0  # the names stay in sight
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 718, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    page.emulate_media(media="screen")
    page.locator("#layers tbody th a").first.click()
    assert page.title() == "the report"


@pytest.fixture
def below_a_path(tmp_path: Path) -> Iterator[str]:
    """The address of the folder ``site`` on a web server that serves the folder of the test below a path."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    served = tmp_path / "www" / "some" / "path"
    served.mkdir(parents=True)
    (served / "site").symlink_to(tmp_path / "site")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "www"))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/some/path/site/"
        server.shutdown()
        thread.join()


def test_an_exported_sweep_works_on_a_web_server_and_from_disk(
    page: Page, outputs: Path, tmp_path: Path, below_a_path: str
) -> None:
    (swept,) = (outputs / "sweeps").iterdir()
    export(found(str(swept), outputs), tmp_path / "site")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for start in (below_a_path, (tmp_path / "site" / "index.html").as_uri()):
        page.goto(start)
        assert page.locator("h1").inner_text() == "Sweep over layer"
        page.locator('#jobs th[data-key="best_score"] button').click()
        best = [float(text) for text in page.locator("#jobs tbody td:nth-child(4)").all_inner_texts()]
        assert best == sorted(best, reverse=True)
        assert len(best) == 3
        with page.expect_download() as download:
            page.locator("#files a", has_text="summary.csv").click()
        assert pd.read_csv(download.value.path()).job.tolist() == [0, 1, 2]
        page.locator("#jobs tbody th a", has_text="2").click()
        check_report(page)
        page.locator("#files a", has_text="All jobs of the sweep").click()
        assert page.locator("#jobs").is_visible()
    home = (below_a_path, (tmp_path / "site").as_uri(), "data:")
    assert [url for url in asked if not url.startswith(home) and not url.endswith("/favicon.ico")] == []
    page.screenshot(path=SCREENSHOTS / "export_sweep.png", full_page=True)
    page.locator("#theme").click()
    page.set_viewport_size({"width": 390, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.screenshot(path=SCREENSHOTS / "export_sweep_narrow.png", full_page=True)


def test_the_report_works_inside_mlflow(page: Page, addresses: dict[str, str]) -> None:
    page.goto(addresses["latest report"])
    frame = page.frame_locator("iframe")
    frame.locator("#ranking").wait_for()
    check_report(frame)
    page.screenshot(path=SCREENSHOTS / "mlflow_report.png")


def test_the_page_of_a_network_opens_reports_inside_mlflow(
    page: Page, addresses: dict[str, str], outputs: Path, tmp_path: Path
) -> None:
    (report,) = outputs.glob("sweeps/*/2/report.html")
    ranking = large_network(2, 60)
    layer = ranking.layers.layer[1]
    shown = content(ranking, tmp_path)
    whole = with_reports(render_network(shown), {shown.reports[layer]: report.read_text(encoding="utf-8")})
    client = MlflowClient(f"sqlite:///{outputs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("pcace")
    assert experiment is not None
    run_id = client.create_run(experiment.experiment_id).info.run_id
    client.log_text(run_id, whole, "network.html")
    client.set_terminated(run_id)
    page.goto(re.sub(r"/runs/\w+/.*", f"/runs/{run_id}/artifacts/network.html", addresses["latest report"]))
    network = page.frame_locator("iframe")
    link = network.locator("#layers tbody th a", has_text=layer)
    network.locator("#theme").click()
    link.focus()
    link.press("Enter")
    opened = network.frame_locator("#opened iframe")
    opened.locator("#ranking").wait_for()
    assert opened.locator("html").get_attribute("data-theme") == "dark"
    check_report(opened)
    page.screenshot(path=SCREENSHOTS / "mlflow_network.png")
    network.get_by_role("button", name="Back to all layers of the network").press("Enter")
    assert network.locator("#layers").is_visible()
    assert network.locator("#opened").is_hidden()
    assert link.evaluate("link => link === document.activeElement")
    assert network.locator(".without-links").is_hidden()


def test_the_run_page_shows_what_was_found(page: Page, addresses: dict[str, str]) -> None:
    page.goto(addresses["latest report"].partition("/artifacts/")[0])
    for text in ("quality/reliability", "quality/share_significant", "n_components", f"penalised conv3 {NAME}"):
        page.get_by_text(text, exact=True).first.wait_for()
    page.screenshot(path=SCREENSHOTS / "mlflow_run.png")


def test_a_sweeps_rankings_stand_side_by_side(page: Page, addresses: dict[str, str], outputs: Path) -> None:
    page.goto(addresses["latest sweep, tables"])
    for layer in ("conv1", "conv2", "conv3"):
        page.get_by_text(f"penalised {layer} {NAME}", exact=True).first.wait_for()
    page.get_by_text("ranking.json").first.wait_for()
    page.get_by_text("3 matching runs").wait_for()
    for table in rankings(outputs):
        page.get_by_text(str(table.channel[0]), exact=True).first.wait_for()
    page.screenshot(path=SCREENSHOTS / "mlflow_artifact.png")

    page.get_by_text("ranking.json").first.click()
    page.get_by_role("option", name="channels.json").click()
    page.get_by_role("option", name="ranking.json").click()
    page.keyboard.press("Escape")
    page.get_by_text("Compare:").first.click()
    page.get_by_role("option", name="picture").click()
    pictures = page.locator("[role=row] img, tr img")
    pictures.nth(2).wait_for()
    assert pictures.evaluate_all("all => all.every(each => each.src.includes('get-artifact'))")
    page.wait_for_function("document.querySelector('[role=row] img, tr img').naturalWidth > 0")
    page.screenshot(path=SCREENSHOTS / "mlflow_pictures.png")


def test_a_sweeps_curves_are_drawn(page: Page, addresses: dict[str, str], outputs: Path) -> None:
    page.goto(addresses["latest sweep, curves"])
    page.locator("[data-testid=experiment-view-compare-runs-card]").first.wait_for()
    page.locator(".js-plotly-plot").first.wait_for()
    for name in ("quality/accuracy", "quality/n_significant"):
        page.get_by_text(name, exact=True).first.wait_for()
    page.screenshot(path=SCREENSHOTS / "mlflow_chart.png")


def test_a_sweeps_page_shows_the_layers_side_by_side(page: Page, addresses: dict[str, str]) -> None:
    page.goto(addresses["latest sweep, page"])
    frame = page.frame_locator("iframe")
    frame.locator(".run").first.wait_for()
    assert frame.locator(".run h3").all_inner_texts() == ["layer=conv1", "layer=conv2", "layer=conv3"]
    assert frame.locator(".run img").count() == 15
    assert frame.locator("text=Ranks are not compared between different layers").count() == 1
    page.screenshot(path=SCREENSHOTS / "mlflow_sweep.png")


def test_nothing_from_outside_is_obeyed(page: Page, compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for index, scan in enumerate(scans()[0][:6]):
        Image.fromarray(scan).save(tmp_path / "photos" / (HOSTILE if index == 0 else f"{index}.png"))
    settings = compose(
        "data=folder", f"data.root={tmp_path / 'photos'}", "class_name='</script><script>document.title=2</script>'",
        "target_class=3", "n_images=6",
    )  # fmt: skip
    run(settings, tmp_path / "run", [ReportWriter("pcace run </script><b onclick=x>")])
    page.goto((tmp_path / "run" / "report.html").as_uri())
    shown = []
    page.locator("#search").fill("<img")
    for row in page.locator("#ranking tbody tr:visible").all():
        row.click()
        shown.append(page.locator("#detail img").first.get_attribute("alt"))
    assert f"Image {HOSTILE}" in shown  # the most activating image of a channel, with its name as text
    assert page.title().startswith("Which channels of conv1 matter for class </script>")
    assert page.locator("img[onerror]").count() == 0
    assert page.locator("[onclick]").count() == 0
