"""HTTP servers on the loopback interface, and images for them, valid and invalid."""

from __future__ import annotations

import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import numpy as np
from PIL import Image

LOOPBACK = "data.web.allow_networks=[127.0.0.1/32]"


class Server:
    """A server at ``http://127.0.0.1:<port>/`` that counts the requests of each path."""

    def __init__(self, answer: Callable[[Server, Handler, str], None]) -> None:
        self.requests: Counter[str] = Counter()
        self.n_requests = 0
        self.times: list[float] = []
        self.agents: set[str] = set()
        self.n_active = self.max_active = 0
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._answer = answer
        server = self

        class Bound(Handler):
            owner = server

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients close connections deliberately
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def handle(self, handler: Handler, path: str) -> None:
        with self._lock:
            self.requests[path] += 1
            self.n_requests += 1
            self.times.append(time.monotonic())
            self.agents.add(handler.headers.get("User-Agent", ""))
            self.n_active += 1
            self.max_active = max(self.max_active, self.n_active)
        try:
            self._answer(self, handler, path)
        finally:
            with self._lock:
                self.n_active -= 1


class Handler(BaseHTTPRequestHandler):
    owner: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.owner.handle(self, self.path)

    def send(self, body: bytes, status: int = 200, kind: str = "image/jpeg", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write no log."""


@contextmanager
def serving(answer: Callable[[Server, Handler, str], None]) -> Iterator[Server]:
    server = Server(answer)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.http.shutdown()
        thread.join()
        server.http.server_close()


def photograph(seed: int, size: tuple[int, int] = (40, 36), form: str = "JPEG") -> bytes:
    """An image that depends on the seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1] // 4, size[0] // 4, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).resize(size).save(buffer, form)
    return buffer.getvalue()


def bomb(side: int = 40_000) -> bytes:
    """A PNG of about 2 kB whose header announces 40,000 x 40,000 pixels; most of the data is missing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )
