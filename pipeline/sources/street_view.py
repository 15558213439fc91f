"""Street View panoramas through Google's Street View Static API.

Two requests are sent for each row: one for the metadata, which are free of charge and say whether an image exists, and
one for the image. A panorama is requested by its id and, if that no longer exists (ids change when Google photographs a
street again), by its location. See https://developers.google.com/maps/documentation/streetview.

The API key and the signing secret are read from environment variables and used only in requests.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlencode, urlsplit

import pandas as pd

from pipeline.artifacts import ImageSet
from pipeline.errors import InputError
from pipeline.progress import Progress
from pipeline.settings import StreetViewSettings
from pipeline.sources.choose import ImageRequest
from pipeline.sources.downloads import Entry, WebSource
from pipeline.sources.tables import read_table, require_columns
from pipeline.sources.web import FetchError, WebClient

KEY, SECRET = "GOOGLE_MAPS_API_KEY", "GOOGLE_MAPS_SIGNING_SECRET"
PANORAMA, LATITUDE, LONGITUDE = "gsv_panoid", "gsv_lat", "gsv_lng"
MAX_METADATA_BYTES = 65536
NO_IMAGE = ("ZERO_RESULTS", "NOT_FOUND")


class StreetViewSource(WebSource):
    """Panoramas that a table lists by id, by location or by both, in the order of its rows.

    Parameters
    ----------
    data : StreetViewSettings
        Path of the table, size and direction of the view, and the limits of the web client.
    downloads : Path
        Folder in which downloaded images are kept.
    """

    name = "street_view"
    prefetch_factor = 1  # all requests go to one host: further downloads would only wait

    def __init__(self, data: StreetViewSettings, downloads: Path) -> None:
        super().__init__(Path(os.path.expanduser(data.file)), data.web, downloads)
        self._data = data

    def entries(self) -> list[Entry]:
        """Return the rows, each with the id of its panorama, its location, or both."""
        table = read_table(self.file)
        columns = [PANORAMA] if PANORAMA in table else [LATITUDE, LONGITUDE]
        require_columns(table, columns + [name for name in (LATITUDE, LONGITUDE) if name in table], self)
        for column in (PANORAMA, LATITUDE, LONGITUDE):
            if column not in table:
                table[column] = None
        view = self._view()
        entries = []
        for row, panorama, latitude, longitude in table[[PANORAMA, LATITUDE, LONGITUDE]].itertuples(name=None):
            number = row + 1
            for column, value in ((LATITUDE, latitude), (LONGITUDE, longitude)):
                self._check_degrees(column, value, number)
            location = None if pd.isna(latitude) or pd.isna(longitude) else f"{latitude},{longitude}"
            if pd.isna(panorama) and location is None:
                raise InputError(
                    f"every row must have {PANORAMA}, or {LATITUDE} and {LONGITUDE}; "
                    f"got neither in row {number} ({self}). Complete or remove the row."
                )
            panorama = None if pd.isna(panorama) else panorama
            entries.append(Entry(number, panorama or location or "", (self._data.endpoint, panorama, location, view)))
        if not entries:
            raise InputError(f"data.file must have at least one row; got {self}, which has none.")
        return entries

    def _check_degrees(self, column: str, value: Any, number: int) -> None:
        """Refuse a coordinate that is not a number in its range, such as one with a decimal comma."""
        limit = 90 if column == LATITUDE else 180
        try:
            is_valid = pd.isna(value) or abs(float(value)) <= limit
        except ValueError:
            is_valid = False
        if not is_valid:
            raise InputError(
                f"{column} must be a number of degrees from -{limit} to {limit}, with a decimal point; got '{value}' "
                f"(row {number} of {self}). Correct or remove the row."
            )

    def fetch(self, request: ImageRequest, folder: Path, progress: Progress) -> ImageSet:
        """Download the images, see `WebSource.fetch`; without a key or with an invalid secret, send no request."""
        if not os.environ.get(KEY):
            raise InputError(
                f"{KEY} must be set in the environment; got nothing. Google's Street View Static API requires a key: "
                "export it in the shell that runs this command, and do not write it to a configuration file."
            )
        _secret()  # an invalid secret is refused before the first request
        return super().fetch(request, folder, progress)

    async def download(self, client: WebClient, entry: Entry, file: BinaryIO) -> None:
        """Request the metadata by id, then by location, and write the image that they refer to to `file`."""
        _, panorama, location, view = entry.parameters
        status = "missing"
        for where in ({"pano": panorama}, {"location": location}):
            if None in where.values():
                continue
            found = await self._metadata(client, where)
            status = str(found.get("status", "missing"))
            if status == "OK":
                where = {"pano": str(found["pano_id"])} if found.get("pano_id") else where
                await self._image(client, {**where, **dict(view), "return_error_code": "true"}, file)
                return
            if status not in NO_IMAGE:
                break
        self._raise_if_final(status)
        raise FetchError(f"no image ({status})" if status in NO_IMAGE else f"metadata status {status[:40]}")

    async def _metadata(self, client: WebClient, where: Mapping[str, Any]) -> dict[str, Any]:
        """Return the metadata of the panorama at `where` (an id or a location)."""
        buffer = BytesIO()
        try:
            await client.fetch(self._signed("/metadata", where), buffer, MAX_METADATA_BYTES)
            found = json.loads(buffer.getvalue())
        except FetchError as error:
            self._raise_if_final(error.status)
            raise
        except ValueError as error:
            raise FetchError("metadata that are not JSON") from error
        return found if isinstance(found, dict) else {}

    async def _image(self, client: WebClient, parameters: Mapping[str, Any], file: BinaryIO) -> None:
        """Write the image with the given parameters to `file`."""
        try:
            await client.fetch(self._signed("", parameters), file)
        except FetchError as error:
            self._raise_if_final(error.status)
            raise FetchError("no image (HTTP 404)" if error.status == 404 else str(error), error.status) from error

    @staticmethod
    def _raise_if_final(status: str | int | None) -> None:
        """End the run if every further request would fail as well; downloaded images are kept."""
        if status in ("REQUEST_DENIED", 401, 403):
            raise InputError(
                f"{KEY} must be accepted by Google; got {status}. Check that the key is correct, that the Street View "
                f"Static API is enabled for it, and that {SECRET} is set if requests must be signed. Downloaded images "
                "are kept."
            )
        if status in ("OVER_QUERY_LIMIT", 429):
            raise InputError(
                f"Google's quota must allow more requests; got {status}. Run again later: downloaded images are kept."
            )

    def _view(self) -> tuple[tuple[str, str], ...]:
        """Return the parameters of the API that describe the view."""
        data = self._data
        view = {"size": f"{data.size[0]}x{data.size[1]}", "pitch": f"{data.pitch:g}", "fov": f"{data.fov:g}"}
        if data.heading is not None:
            view["heading"] = f"{data.heading:g}"
        return tuple(view.items())

    def _signed(self, path: str, parameters: Mapping[str, Any]) -> str:
        """Return the URL of a request with the key and the signature: it must not be logged or written to a file."""
        url = f"{self._data.endpoint}{path}?{urlencode({**parameters, 'key': os.environ[KEY]})}"
        secret = _secret()
        return url if secret is None else f"{url}&signature={signature(url, secret)}"


def signature(url: str, secret: bytes) -> str:
    """Return Google's signature of a URL: HMAC-SHA1 of path and query, in URL-safe Base64.

    See https://developers.google.com/maps/documentation/streetview/digital-signature.
    """
    parts = urlsplit(url)
    digest = hmac.new(secret, f"{parts.path}?{parts.query}".encode(), hashlib.sha1).digest()
    return base64.urlsafe_b64encode(digest).decode()


def _secret() -> bytes | None:
    """Return the decoded signing secret, or None if it is not set."""
    encoded = os.environ.get(SECRET)
    if not encoded:
        return None
    try:
        return base64.b64decode(encoded, altchars=b"-_", validate=True)
    except ValueError:
        # `from None`: the message of the original error would show a part of the secret.
        raise InputError(
            f"{SECRET} must be URL-safe Base64; got something else. Copy it from Google's console again."
        ) from None
