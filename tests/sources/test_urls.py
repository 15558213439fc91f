"""A list of 400 URLs on a server with all kinds of failures."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config import compose_settings
from pipeline.errors import InputError
from pipeline.settings import Settings
from pipeline.stages import download
from tests.helpers.clusters import wait_until
from tests.helpers.faulty_server import BAD, misbehave
from tests.helpers.project import ROOT
from tests.helpers.servers import LOOPBACK, Handler, Server, photograph, serving
from tests.helpers.stages import fetch

N_GOOD, N_BAD = 300, 100


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(misbehave) as one:
        yield one


def paths() -> list[str]:
    """300 paths that give an image, some only after a retry, mixed with 100 paths that do not."""
    odd = ("slow", "octets", "moved", "500twice", "429once", "hanguponce")
    good = [f"/{odd[index // 5]}/{index}.jpg" if index < 30 else f"/good/{index}.jpg" for index in range(N_GOOD)]
    kinds = list(BAD) * (N_BAD // len(BAD))
    mixed = iter(good)
    listed = []
    for index, kind in enumerate(kinds):
        listed += [f"/{kind}/{1000 + index}.jpg", *(next(mixed) for _ in range(3))]
    return listed


def wanted(server: Server, tmp_path: Path, *overrides: str, listed: list[str] | None = None) -> Settings:
    lines = [server.url + path for path in (paths() if listed is None else listed)]
    text = "\n".join(["# tabby cats", "", *lines, ""])
    (tmp_path / "CLASS.txt").write_text(text, encoding="utf-8-sig")
    return compose_settings(
        [
            f"paths.outputs={tmp_path / 'outputs'}", "data=urls", f"data.file={tmp_path / 'CLASS.txt'}", LOOPBACK,
            "data.web.backoff=0.05", "data.web.timeout=10", "data.web.per_host=16", "data.web.attempts=4",
            "data.web.max_bytes=300000", "class_name=8", *overrides,
        ]
    )  # fmt: skip


@pytest.mark.slow
def test_the_images_are_in_order_and_the_reason_of_each_failure_is_reported(server: Server, tmp_path: Path) -> None:
    settings = wanted(server, tmp_path, f"n_images={N_GOOD}", "data.web.timeout=1.5")
    images = fetch(settings, tmp_path / "set")
    expected = [path for path in paths() if path.split("/")[1] not in BAD]
    assert [record.source for record in images.records] == [f"urls:{server.url}{path}" for path in expected]
    for record, path in zip(images.records, expected, strict=True):
        seed = int(path.split("/")[2].partition(".")[0])
        assert (images.folder / record.file).read_bytes() == photograph(seed)
        assert (record.width, record.height, record.class_name) == (40, 36, "8")
    assert images.n_failed == N_BAD
    with (images.folder / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["place"]) for row in rows] == [3 + index for index in range(N_GOOD + N_BAD)]
    for row in rows:
        kind = row["address"].split("/")[3]
        assert (row["taken"], row["reason"].startswith(BAD[kind]) if kind in BAD else row["reason"]) == (
            ("False", True) if kind in BAD else ("True", "")
        ), row
    assert all(agent.startswith("pcace/") for agent in server.agents)


@pytest.mark.slow
def test_the_speed_of_the_servers_does_not_change_the_image_set(tmp_path: Path) -> None:
    """The same list gives the same set if the responses arrive in another order."""
    listed = [f"/{'404' if index % 4 == 1 else 'slow'}/{index}.jpg" for index in range(40)]
    sets = []
    for name, per_host in (("one", 1), ("many", 16)):
        (tmp_path / name).mkdir()
        with serving(misbehave) as server:
            settings = wanted(server, tmp_path / name, "n_images=20", f"data.web.per_host={per_host}", listed=listed)
            images = fetch(settings, tmp_path / name / "set")
            sets.append([record.sha256 for record in images.records])
            # No more requests than necessary: 20 images and the failures before the last of them.
            assert server.n_requests == 27
            assert server.max_active <= per_host
    assert sets[0] == sets[1]


def in_a_process(tmp_path: Path, name: str, *overrides: str) -> list[str]:
    """A command that downloads the images of the list and prints the peak memory of its process in KiB."""
    code = (
        "import sys; from pathlib import Path; from pipeline.config import compose_settings;"
        "from tests.helpers.stages import fetch; fetch(compose_settings(sys.argv[2:]), Path(sys.argv[1]));"
        "print(*(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    settings = [f"paths.outputs={tmp_path / 'outputs'}", "data=urls", f"data.file={tmp_path / 'CLASS.txt'}", LOOPBACK]
    return [sys.executable, "-c", code, str(tmp_path / name), *settings, "class_name=8", *overrides]


def test_images_that_a_killed_run_has_downloaded_are_not_requested_again(tmp_path: Path) -> None:
    n_answered, is_killed = 30, threading.Event()

    def answer(server: Server, handler: Handler, path: str) -> None:
        index = int(path.split("/")[2].partition(".")[0])
        if index >= n_answered:
            is_killed.wait(600)
        handler.send(photograph(index))

    with serving(answer) as server:
        settings = wanted(server, tmp_path, "n_images=60", listed=[f"/any/{index}.jpg" for index in range(60)])
        command = in_a_process(tmp_path, "killed", "data.web.per_host=2", "n_images=60")
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        downloads = tmp_path / "outputs" / "downloads"

        def is_waiting() -> bool:  # for two images that are not sent
            assert process.poll() is None
            return server.n_requests == n_answered + 2 and len(list(downloads.glob("??/*"))) == n_answered

        try:
            wait_until(is_waiting, f"{n_answered} images are downloaded", 300)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            is_killed.set()
        finished = [path for path in downloads.glob("??/*") if path.is_file()]
        assert len(finished) == n_answered
        before = server.requests.copy()
        images = fetch(settings, tmp_path / "again")
        assert len(images) == 60
        n_requests = sum((server.requests - before).values())
        assert n_requests == 60 - len(finished)


def test_memory_stays_below_a_gigabyte(server: Server, tmp_path: Path) -> None:
    """Download endless bodies and decompression bombs among valid images, in a separate process.

    The peak memory is the kernel's VmHWM: `ru_maxrss` is inherited from the process that started this one.
    """
    listed = [f"/{kind}/{index}.jpg" for index in range(8) for kind in ("endless", "bomb", "good")]
    wanted(server, tmp_path, listed=listed)
    command = in_a_process(tmp_path, "set", "data.web.per_host=16", "n_images=8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1024**2  # KiB


def test_a_damaged_file_is_downloaded_again(server: Server, tmp_path: Path) -> None:
    settings = wanted(server, tmp_path, "n_images=5", listed=[f"/good/{index}.jpg" for index in range(5)])
    fetch(settings, tmp_path / "first")
    kept = sorted(path for path in (tmp_path / "outputs" / "downloads").glob("??/*"))
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    images = fetch(settings, tmp_path / "second")
    assert sorted(server.requests.values()) == [1, 1, 1, 1, 2]
    assert [path.read_bytes() for path in images.paths] == [photograph(index) for index in range(5)]


def test_the_message_for_too_few_images_summarizes_the_reasons(server: Server, tmp_path: Path) -> None:
    listed = [f"/good/{index}.jpg" for index in range(6)] + ["/404/6.jpg", "/404/7.jpg", "/page/8.jpg", "/good/0.jpg"]
    settings = wanted(server, tmp_path, "n_images=8", listed=listed)
    with pytest.raises(InputError) as caught:
        fetch(settings, tmp_path / "set")
    assert str(caught.value) == (
        f"n_images must be at most 6; got 8 (urls {tmp_path / 'CLASS.txt'}: 10 entries, of which failed: 2 x HTTP 404, "
        "1 x duplicate entry, 1 x not an image). Lower it or add entries; "
        f"{tmp_path / 'outputs' / 'downloads' / 'CLASS.report.csv'} lists the reasons."
    )
    assert (tmp_path / "outputs" / "downloads" / "CLASS.report.csv").read_text().count("HTTP 404") == 2


def test_only_transient_failures_are_retried(server: Server, tmp_path: Path) -> None:
    listed = ["/500/0.jpg", "/404/1.jpg", "/page/2.jpg", "/hangup/3.jpg", *(f"/good/{k}.jpg" for k in range(4, 9))]
    fetch(wanted(server, tmp_path, "n_images=5", listed=listed), tmp_path / "set")
    assert [server.requests[path] for path in listed[:5]] == [4, 1, 1, 4, 1]


def test_a_slow_body_is_cut_off_after_the_time_limit(server: Server, tmp_path: Path) -> None:
    listed = [f"/drip/{index}.jpg" for index in range(2)] + [f"/good/{index}.jpg" for index in range(5)]
    # Without the limit, the two bodies would not end as long as the server runs.
    images = fetch(wanted(server, tmp_path, "n_images=5", "data.web.max_seconds=1", listed=listed), tmp_path / "set")
    assert (images.folder / "report.csv").read_text().count("not finished after 1 s") == 2


def test_the_time_in_retry_after_is_waited_for(server: Server, tmp_path: Path) -> None:
    listed = ["/429once/0.jpg", *(f"/good/{index}.jpg" for index in range(1, 5))]
    fetch(wanted(server, tmp_path, "n_images=5", "data.web.per_host=1", listed=listed), tmp_path / "set")
    assert server.times[1] - server.times[0] >= 1


def test_loopback_is_refused_unless_it_is_allowed(server: Server, tmp_path: Path) -> None:
    listed = [f"/good/{index}.jpg" for index in range(5)]
    settings = wanted(server, tmp_path, "n_images=5", "data.web.allow_networks=[]", listed=listed)
    with pytest.raises(InputError, match=r"5 entries, of which failed: 5 x refused: 127\.0\.0\.1 is not a public addr"):
        fetch(settings, tmp_path / "set")
    assert not server.requests


def test_a_csv_has_a_column_of_urls_and_passwords_are_not_written(server: Server, tmp_path: Path) -> None:
    with_user = server.url.replace("//", "//me:secret@")
    rows = "".join(f"{index},{with_user}/good/{index}.jpg\n" for index in range(5))
    (tmp_path / "images.csv").write_text(f"n,link\n{rows}9,\n")
    settings = wanted(server, tmp_path, "n_images=5", f"data.file={tmp_path / 'images.csv'}", "data.column=link")
    images = fetch(settings, tmp_path / "set")
    assert [record.id for record in images.records] == [f"{index + 1}/{index}.jpg" for index in range(5)]
    for path in tmp_path.rglob("*.csv"):
        assert path.name == "images.csv" or "secret" not in path.read_text()
    with pytest.raises(InputError) as caught:
        fetch(wanted(server, tmp_path, f"data.file={tmp_path / 'images.csv'}"), tmp_path / "none")
    assert str(caught.value) == (
        f"data.column must name a column of the table; got 'url' (urls {tmp_path / 'images.csv'}). "
        "The columns are: n, link."
    )


def identity(settings: Settings) -> dict[str, object]:
    return download.select(settings).identity()


def test_the_key_depends_on_the_requests_and_the_rules_for_images(server: Server, tmp_path: Path) -> None:
    before = identity(wanted(server, tmp_path, "n_images=5"))
    (tmp_path / "other").mkdir()
    assert identity(wanted(server, tmp_path / "other", "n_images=5", "data.web.concurrency=2")) == before
    for change in ("data.web.snapshot=2026-11", "data.web.min_side=64", "n_images=6", "data.select=random"):
        assert identity(wanted(server, tmp_path, "n_images=5", change)) != before
    assert identity(wanted(server, tmp_path, "n_images=5", listed=paths()[1:])) != before
    assert not server.requests
    with pytest.raises(InputError) as caught:
        identity(wanted(server, tmp_path, "data.images_from=balanced"))
    assert str(caught.value) == (
        "data.images_from must be class for a source without classes; got balanced "
        f"(urls {tmp_path / 'CLASS.txt'}). Use a source with classes: a folder with one subfolder per class, or a "
        "manifest with a class column."
    )


def test_another_snapshot_downloads_the_images_again(server: Server, tmp_path: Path) -> None:
    listed = [f"/good/{index}.jpg" for index in range(5)]
    fetch(wanted(server, tmp_path, "n_images=5", listed=listed), tmp_path / "first")
    fetch(wanted(server, tmp_path, "n_images=5", "data.web.snapshot=again", listed=listed), tmp_path / "second")
    assert set(server.requests.values()) == {2}


def test_a_random_choice_depends_on_the_seed_and_keeps_the_order_of_the_list(server: Server, tmp_path: Path) -> None:
    listed = [f"/good/{index}.jpg" for index in range(40)]
    taken: list[list[str]] = []
    for seed in (1, 1, 2):
        settings = wanted(server, tmp_path, "n_images=5", "data.select=random", f"seed={seed}", listed=listed)
        taken.append([record.id for record in fetch(settings, tmp_path / f"set{len(taken)}").records])
    assert taken[0] == taken[1] != taken[2]
    assert all(ids == sorted(ids, key=lambda name: int(name.partition("/")[0])) for ids in taken)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n# nothing\n", "data.file must contain at least one URL; got {file}, which has none."),
        (None, "data.file must be an existing file; got {file}."),
    ],
)
def test_a_list_without_urls_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "list.txt"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError) as caught:
        identity(compose_settings(["data=urls", f"data.file={file}"]))
    assert str(caught.value) == message.format(file=file)
