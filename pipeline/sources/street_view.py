"""Street View panoramas through Google's Street View Static API.

Two requests a row: the metadata, which costs no quota and says whether there is a picture, then the picture. A panorama
is asked for by its id and, where that is gone (ids change as Google drives by again), by its location.
https://developers.google.com/maps/documentation/streetview

The key and the signing secret come from the environment, and leave it only inside a request.
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
from pipeline.sources.web import FetchError, Web

KEY, SECRET = "GOOGLE_MAPS_API_KEY", "GOOGLE_MAPS_SIGNING_SECRET"
PANORAMA, LATITUDE, LONGITUDE = "gsv_panoid", "gsv_lat", "gsv_lng"
METADATA_BYTES = 65536
NO_PICTURE = ("ZERO_RESULTS", "NOT_FOUND")


class StreetViewSource(WebSource):
    """The panoramas of a CSV, in its order."""

    name = "street_view"
    look_ahead = 1  # one host: whatever is begun is finished first

    def __init__(self, data: StreetViewSettings, downloads: Path) -> None:
        super().__init__(Path(data.file).expanduser(), data.web, downloads)
        self._data = data

    def entries(self) -> list[Entry]:
        """Return the rows, each with its panorama's id, its location, or both."""
        table = read_table(self.file)
        columns = [PANORAMA] if PANORAMA in table else [LATITUDE, LONGITUDE]
        require_columns(table, columns, self, "data.file")
        for column in (PANORAMA, LATITUDE, LONGITUDE):
            if column not in table:
                table[column] = None
        view = self._view()
        entries = []
        for place, (panorama, latitude, longitude) in enumerate(
            table[[PANORAMA, LATITUDE, LONGITUDE]].itertuples(index=False, name=None), start=1
        ):
            location = None if pd.isna(latitude) or pd.isna(longitude) else f"{latitude},{longitude}"
            if pd.isna(panorama) and location is None:
                raise InputError(
                    f"every row must have {PANORAMA}, or {LATITUDE} and {LONGITUDE}; "
                    f"got neither in row {place} ({self})."
                )
            panorama = None if pd.isna(panorama) else panorama
            entries.append(Entry(place, panorama or location or "", (self._data.endpoint, panorama, location, view)))
        if not entries:
            raise InputError(f"data.file must hold panoramas; got {self.file}, which has none.")
        return entries

    def fetch(self, request: ImageRequest, folder: Path, progress: Progress) -> ImageSet:
        """Bring the pictures; refuse to begin without a key."""
        if not os.environ.get(KEY):
            raise InputError(
                f"{KEY} must be set in the environment; got nothing. Google's Street View Static API answers to a key "
                "only: export it in the shell that runs this, never write it into a config."
            )
        _secret()
        return super().fetch(request, folder, progress)

    async def bring(self, web: Web, entry: Entry, file: BinaryIO) -> None:
        """Ask for the metadata, by id, then by location; then for the picture that they name."""
        _, panorama, location, view = entry.asks
        status = "nothing"
        for where in ({"pano": panorama}, {"location": location}):
            if None in where.values():
                continue
            found = await self._metadata(web, where)
            status = str(found.get("status", "nothing"))
            if status == "OK":
                where = {"pano": str(found["pano_id"])} if found.get("pano_id") else where
                await self._picture(web, {**where, **dict(view), "return_error_code": "true"}, file)
                return
            if status not in NO_PICTURE:
                break
        self._stop_where_hopeless(status)
        raise FetchError(f"no imagery ({status})" if status in NO_PICTURE else f"metadata status {status[:40]}")

    async def _metadata(self, web: Web, where: Mapping[str, Any]) -> dict[str, Any]:
        buffer = BytesIO()
        try:
            await web.fetch(self._signed("/metadata", where), buffer, METADATA_BYTES)
            found = json.loads(buffer.getvalue())
        except FetchError as error:
            self._stop_where_hopeless(error.status)
            raise
        except ValueError as error:
            raise FetchError("metadata that is no JSON") from error
        return found if isinstance(found, dict) else {}

    async def _picture(self, web: Web, parameters: Mapping[str, Any], file: BinaryIO) -> None:
        try:
            await web.fetch(self._signed("", parameters), file)
        except FetchError as error:
            self._stop_where_hopeless(error.status)
            raise FetchError("no imagery (HTTP 404)" if error.status == 404 else str(error), error.status) from error

    def _stop_where_hopeless(self, status: str | int | None) -> None:
        """End the run where every further request would be refused as well; what is finished stays."""
        if status in ("REQUEST_DENIED", 401, 403):
            raise InputError(
                f"Google must accept {KEY}; got {status}. Check that the key is right, that the Street View Static API "
                f"is enabled for it, and that {SECRET} is set if it must sign. What is finished stays."
            )
        if status in ("OVER_QUERY_LIMIT", 429):
            raise InputError(
                f"Google's quota must allow more requests; got {status}. "
                "Run again when it does: what is finished stays."
            )

    def _view(self) -> tuple[tuple[str, str], ...]:
        data = self._data
        view = {"size": f"{data.size[0]}x{data.size[1]}", "pitch": f"{data.pitch:g}", "fov": f"{data.fov:g}"}
        if data.heading is not None:
            view["heading"] = f"{data.heading:g}"
        return tuple(view.items())

    def _signed(self, path: str, parameters: Mapping[str, Any]) -> str:
        """Return a request's whole address, key and signature included: for the web client and nobody else."""
        url = f"{self._data.endpoint}{path}?{urlencode({**parameters, 'key': os.environ[KEY]})}"
        secret = _secret()
        return url if secret is None else f"{url}&signature={signature(url, secret)}"


def signature(url: str, secret: bytes) -> str:
    """Return Google's signature of an address: HMAC-SHA1 over path and query, in URL-safe Base64.

    https://developers.google.com/maps/documentation/streetview/digital-signature
    """
    parts = urlsplit(url)
    digest = hmac.new(secret, f"{parts.path}?{parts.query}".encode(), hashlib.sha1).digest()
    return base64.urlsafe_b64encode(digest).decode()


def _secret() -> bytes | None:
    """Return the signing secret, decoded, or None where there is none."""
    encoded = os.environ.get(SECRET)
    if not encoded:
        return None
    try:
        return base64.b64decode(encoded, altchars=b"-_", validate=True)
    except ValueError:
        # Not `from` the error, whose text would show a part of it.
        raise InputError(
            f"{SECRET} must be URL-safe Base64, as Google's console shows it; got something else."
        ) from None
