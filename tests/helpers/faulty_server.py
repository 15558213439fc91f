"""The responses of a server with all kinds of failures; the path names the kind: ``/<kind>/<number>.jpg``."""

from __future__ import annotations

import time
from io import BytesIO

from PIL import Image

from tests.helpers.servers import Handler, Server, bomb, photograph

PAGE = b"<!DOCTYPE html><html><body>This photo is no longer available</body></html>"
PLACEHOLDER = photograph(10**6)


def animation() -> bytes:
    """A GIF of two frames."""
    frames = [Image.new("RGB", (40, 40), (shade, 0, 0)) for shade in (0, 200)]
    buffer = BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def stall(server: Server, handler: Handler) -> None:
    """Send nothing until the client gives up or the server stops."""
    server.stopping.wait(30)


def half_a_body(handler: Handler, body: bytes) -> None:
    """Announce the whole body, send half of it, and close the connection."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


def endless(server: Server, handler: Handler) -> None:
    """Send a body that does not end."""
    handler.send_response(200)
    handler.send_header("Content-Type", "image/jpeg")
    handler.end_headers()
    handler.close_connection = True
    while not server.stopping.is_set():
        handler.wfile.write(bytes(65536))


# The reason in the report for each kind of failure.
BAD = {
    "404": "HTTP 404",
    "410": "HTTP 410",
    "500": "HTTP 500",
    "429forever": "HTTP 429, retry after 3600 s",
    "stall": "no response within 1.5 s",
    "hangup": "broken connection (RemoteProtocolError)",
    "halfjpeg": "damaged (image file is truncated",
    "page": "not an image (a web page)",
    "empty": "empty",
    "noise": "not an image (3000 bytes in an unknown format)",
    "loop": "more than 5 redirects",
    "private": "refused: 127.0.0.2 is not a public address (data.web.allow_networks)",
    "metadata": "refused: 169.254.169.254 is not a public address (data.web.allow_networks)",
    "file": "refused: only http and https are supported, not ftp",
    "bomb": "too large (more than 50000000 pixels)",
    "endless": "more than 300000 bytes",
    "gzip": "compressed body, which was not requested",
    "tiny": "too small (9 x 9 pixels, at least 32 per side)",
    "moving": "not a single image (2 frames or pages)",
    "placeholder": "placeholder image (the same bytes in 5 entries)",
}  # fmt: skip


def misbehave(server: Server, handler: Handler, path: str) -> None:
    """Respond as the kind in the path says; the number seeds the image."""
    _, kind, number = path.split("/")
    seed = int(number.partition(".")[0])
    n_requests = server.requests[path]
    if kind == "good":
        handler.send(photograph(seed))
    elif kind == "slow":
        time.sleep(0.05 * (seed % 7))
        handler.send(photograph(seed))
    elif kind == "octets":
        handler.send(photograph(seed), kind="text/plain; charset=utf-8")
    elif kind == "moved":
        handler.send(b"", 302, Location=f"/good/{seed}.jpg")
    elif kind == "500twice":
        handler.send(b"", 500) if n_requests <= 2 else handler.send(photograph(seed))
    elif kind == "429once":
        handler.send(b"", 429, Retry_After="1") if n_requests == 1 else handler.send(photograph(seed))
    elif kind == "hanguponce":
        half_a_body(handler, photograph(seed)) if n_requests == 1 else handler.send(photograph(seed))
    elif kind in ("404", "410", "500"):
        handler.send(b"", int(kind))
    elif kind == "429forever":
        handler.send(b"", 429, Retry_After="3600")
    elif kind == "stall":
        stall(server, handler)
    elif kind == "hangup":
        half_a_body(handler, photograph(seed))
    elif kind == "halfjpeg":
        data = photograph(seed, (200, 200))
        handler.send(data[: len(data) // 2])
    elif kind == "page":
        handler.send(PAGE)
    elif kind == "empty":
        handler.send(b"")
    elif kind == "noise":
        handler.send(bytes(range(250)) * 12)
    elif kind == "loop":
        handler.send(b"", 302, Location=path)
    elif kind == "private":
        handler.send(b"", 302, Location=server.url.replace("127.0.0.1", "127.0.0.2") + "/good/1.jpg")
    elif kind == "metadata":
        handler.send(b"", 301, Location="http://169.254.169.254/latest/meta-data/")
    elif kind == "file":
        handler.send(b"", 302, Location="ftp://127.0.0.1/etc/passwd")
    elif kind == "bomb":
        handler.send(bomb(), kind="image/png")
    elif kind == "drip":
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        handler.close_connection = True
        while not server.stopping.wait(0.1):
            handler.wfile.write(b"x")
    elif kind == "endless":
        endless(server, handler)
    elif kind == "gzip":
        handler.send(bytes(1000), Content_Encoding="gzip")
    elif kind == "tiny":
        handler.send(photograph(seed, (9, 9)))
    elif kind == "moving":
        handler.send(animation(), kind="image/gif")
    else:
        handler.send(PLACEHOLDER)
