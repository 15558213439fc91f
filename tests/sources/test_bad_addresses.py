"""Whatever is wrong with one address or response is that entry's row in the report, and the others are downloaded."""

from __future__ import annotations

import csv
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from pipeline.config import compose_settings
from pipeline.errors import InputError
from pipeline.sources import ImageRequest, source_for
from pipeline.sources.downloads import Entry, WebSource
from pipeline.sources.urls import UrlsSource
from pipeline.sources.web import WebClient
from tests.helpers.servers import LOOPBACK, Handler, Server, photograph, serving

# Addresses with the reason that the report must give, "" for any.
ADDRESSES = {
    "http://127.0.0.1:99999/a.jpg": "refused: a port must be between 1 and 65535, not 99999",
    "http://127.0.0.1:65536/a.jpg": "refused: a port must be between 1 and 65535, not 65536",
    "http://127.0.0.1:0/a.jpg": "refused: a port must be between 1 and 65535, not 0",
    "http://127.0.0.1:-1/": "refused: a port must be between 1 and 65535, not -1",
    "http://[::1]:99999/": "refused: a port must be between 1 and 65535, not 99999",
    "http://127.0.0.1:8a/": "not a valid URL",
    "http://[::1/": "not a valid URL",
    "http://[]/": "not a valid URL",
    "http://[1:2:3:4:5:6:7:8:9]/": "not a valid URL",
    "http://[v1.x]/": "not a valid URL",
    "http://999.999.999.999/": "not a valid URL",
    "http://0177.0.0.1/": "not a valid URL",
    "http://xn--/": "not a valid URL",
    "http://xn--a/": "not a valid URL",
    "http://\u2603.invalid/": "not a valid URL",
    "http://\uff46\uff4f\uff4f.invalid/": "not a valid URL",
    "http://\u0661\u0662\u0667.0.0.1/": "not a valid URL",
    "http://\0/": "not a valid URL",
    "http://a\tb/": "not a valid URL",
    f"http://127.0.0.1/{'a' * 70_000}": "not a valid URL",
    "http://a..b/": "refused: the host name is not valid",
    "http://.invalid/": "refused: the host name is not valid",
    f"http://{'a' * 300}.invalid/": "refused: the host name is not valid",
    f"http://{'a.' * 200}invalid/": "",
    "http://exa mple.invalid/": "",
    "http://%zz.invalid/": "",
    "http://127.0.0.1%00.invalid/": "",
    "http://127.0.0.1\\@evil.invalid/": "",
    "http://[fe80::1%25eth0]/": "",
    "http://": "refused: the URL has no host",
    "http:///x": "refused: the URL has no host",
    "http:127.0.0.1": "refused: the URL has no host",
    "//": "refused: only http and https are supported, not a URL without a scheme",
    "?": "refused: only http and https are supported, not a URL without a scheme",
    "/etc/passwd": "refused: only http and https are supported, not a URL without a scheme",
    "file:///etc/passwd": "refused: only http and https are supported, not file",
    "javascript:alert(1)": "refused: only http and https are supported, not javascript",
    "data:image/png;base64,xx": "refused: only http and https are supported, not data",
    "ws://127.0.0.1/": "refused: only http and https are supported, not ws",
    "http://224.0.0.1/": "refused: 224.0.0.1 is not a public address (data.web.allow_networks)",
    "http://[::ffff:127.0.0.1]/": "refused: ::ffff:7f00:1 is not a public address (data.web.allow_networks)",
}
# Responses of a server, from the status line on; none of them is an image.
RESPONSES = {
    "empty body": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "partial": b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\n\r\nx",
    "not modified": b"HTTP/1.1 304 Not Modified\r\n\r\n",
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "no reason": b"HTTP/1.1 500\r\n\r\n",
    "a status of words": b"HTTP/1.1 OK 200\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a length of words": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nx",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "an enormous length": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999999\r\n\r\nx",
    "bad chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n",
    "an unknown transfer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: brotli\r\n\r\nx",
    "a null character": b"HTTP/1.1 200 OK\r\nA\0: b\r\nContent-Length: 1\r\n\r\nx",
    "no colon": b"HTTP/1.1 200 OK\r\nwhatever\r\n\r\nx",
    "latin-1": b"HTTP/1.1 404 Pas trouv\xe9\r\nX-\xe9: \xe9\r\nContent-Length: 0\r\n\r\n",
    "a long header": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    "a bad cookie": b"HTTP/1.1 404 -\r\nSet-Cookie: \xff=\xff; expires=never; domain=.\r\nContent-Length: 0\r\n\r\n",
    "a bad encoding": b"HTTP/1.1 200 OK\r\nContent-Encoding: \xff\r\nContent-Length: 1\r\n\r\nx",
    "a bad pause": b"HTTP/1.1 429 -\r\nRetry-After: Fri, 99 Foo 0000 99:99:99 +9999\r\nContent-Length: 0\r\n\r\n",
    "an endless pause": b"HTTP/1.1 429 -\r\nRetry-After: " + b"9" * 400 + b"\r\nContent-Length: 0\r\n\r\n",
    "a redirect to nowhere": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
    "a redirect to bytes": b"HTTP/1.1 302 Found\r\nLocation: http://\xff\xfe/\r\nContent-Length: 0\r\n\r\n",
}  # fmt: skip


def answer(server: Server, handler: Handler, path: str) -> None:
    kind, _, rest = path.strip("/").partition("/")
    if kind == "good":
        handler.send(photograph(int(rest)))
        return
    handler.close_connection = True
    if kind == "redirect":
        location = list(ADDRESSES)[int(rest)].encode(errors="replace")
        handler.wfile.write(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n")
    else:
        handler.wfile.write(list(RESPONSES.values())[int(rest)])


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(answer) as one:
        yield one


def source_of(folder: Path, lines: list[str], *overrides: str) -> UrlsSource:
    """A source with the addresses in a column of a table, where one may contain any character."""
    with (folder / "list.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["url"], *([line] for line in lines)])
    given = ["data=urls", f"data.file={folder / 'list.csv'}", LOOPBACK, "data.web.attempts=1", "data.web.timeout=5"]
    source = source_for(compose_settings([*given, *overrides]).data, folder / "downloads")
    assert isinstance(source, UrlsSource)
    return source


def report_of(source: WebSource, folder: Path, n_images: int) -> list[dict[str, str]]:
    (folder / "set").mkdir()
    images = source.fetch(ImageRequest("x", n_images, "first", 0), folder / "set", lambda done, total: None)
    assert len(images) == n_images
    with (folder / "set" / "report.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def with_good(server: Server, bad: list[str]) -> list[str]:
    return [*bad, *(f"{server.url}/good/{index}" for index in range(5))]


def test_every_malformed_address_is_a_row_of_the_report(server: Server, tmp_path: Path) -> None:
    rows = report_of(source_of(tmp_path, with_good(server, list(ADDRESSES))), tmp_path, 5)
    assert [row["taken"] for row in rows] == ["False"] * len(ADDRESSES) + ["True"] * 5
    for row, (address, reason) in zip(rows, ADDRESSES.items(), strict=False):
        assert row["reason"] == reason or (not reason and row["reason"]), address


def test_a_redirect_to_a_malformed_address_is_a_row_of_the_report(server: Server, tmp_path: Path) -> None:
    redirects = [f"{server.url}/redirect/{index}" for index in range(len(ADDRESSES))]
    rows = report_of(source_of(tmp_path, with_good(server, redirects)), tmp_path, 5)
    assert [row["taken"] for row in rows] == ["False"] * len(ADDRESSES) + ["True"] * 5
    assert all(row["reason"] for row in rows[:-5])
    assert rows[0]["reason"] == "refused: a port must be between 1 and 65535, not 99999"
    assert not [row for row in rows if row["reason"].startswith("failed")]


def test_every_malformed_response_is_a_row_of_the_report(server: Server, tmp_path: Path) -> None:
    bad = [f"{server.url}/response/{index}" for index in range(len(RESPONSES))]
    rows = report_of(source_of(tmp_path, with_good(server, bad)), tmp_path, 5)
    assert [row["taken"] for row in rows] == ["False"] * len(RESPONSES) + ["True"] * 5
    reasons = dict(zip(RESPONSES, (row["reason"] for row in rows), strict=False))
    assert all(reasons.values())
    assert reasons["empty body"] == "empty"
    assert reasons["no content"] == "HTTP 204"
    assert reasons["an endless pause"].startswith("HTTP 429, retry after ")
    assert not [name for name, reason in reasons.items() if reason.startswith("failed")]


@pytest.mark.parametrize("error", [OverflowError("port"), KeyError("x"), ExceptionGroup("tasks", [ValueError()])])
def test_an_error_that_nobody_expects_concerns_its_entry_alone(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    download = UrlsSource.download

    async def failing(self: UrlsSource, client: WebClient, entry: Entry, file: BinaryIO) -> None:
        if entry.number % 2:
            raise error
        await download(self, client, entry, file)

    monkeypatch.setattr(UrlsSource, "download", failing)
    rows = report_of(source_of(tmp_path, [f"{server.url}/good/{index}" for index in range(10)]), tmp_path, 5)
    assert [row["reason"] for row in rows] == [f"failed ({type(error).__name__})", ""] * 5


def test_a_full_disk_ends_the_download(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(self: UrlsSource, client: WebClient, entry: Entry, file: BinaryIO) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(UrlsSource, "download", full)
    source = source_of(tmp_path, [f"{server.url}/good/{index}" for index in range(10)])
    with pytest.raises(OSError, match="No space left"):
        report_of(source, tmp_path, 5)


def test_the_host_names_that_the_system_cannot_look_up_are_refused(tmp_path: Path) -> None:
    source = source_of(tmp_path, ["http://a..b/"] * 2 + [f"http://{'a' * 80}.invalid/{index}" for index in range(4)])
    (tmp_path / "set").mkdir()
    with pytest.raises(
        InputError, match=r"6 entries, of which failed: 5 x refused: the host name is not valid, 1 x dup"
    ):
        source.fetch(ImageRequest("x", 5, "first", 0), tmp_path / "set", lambda done, total: None)


@pytest.mark.parametrize(
    "address",
    ["http://me:secret@h:999999999999999/", "http://me:secret@[::1/", "http://me:sec/ret@h/", "//me:secret@h/"],
)
def test_the_password_of_an_address_that_is_not_valid_is_not_written_either(tmp_path: Path, address: str) -> None:
    (entry,) = source_of(tmp_path, [address]).entries()
    assert "sec" not in entry.label
    assert entry.parameters == (address,)
