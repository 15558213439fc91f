"""An HTTP client for images: limits the load on each host, the time and the size, and retries transient failures."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import defaultdict
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import BinaryIO, Self

import httpx
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

import pipeline
from pipeline.settings import WebSettings
from pipeline.sources.addresses import CheckedTransport, RefusedAddressError, check_form

# Both log each URL in full, including what must not appear in a log: keys, signatures, passwords.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)

HEADERS = {
    "User-Agent": f"pcace/{pipeline.__version__} (research)",
    "Accept": "image/*,*/*;q=0.5",
    "Accept-Encoding": "identity",  # a compressed body could be a decompression bomb, and images are compressed already
}
TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


class FetchError(Exception):
    """A URL gave no usable response. The message is the reason, in a few words and without the URL.

    Attributes
    ----------
    status : int or None
        HTTP status of the last response, if there was one.
    """

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class _TransientError(FetchError):
    """A failure that is worth a retry, after `wait` seconds if the server asked for that."""

    def __init__(self, reason: str, status: int | None = None, wait: float | None = None) -> None:
        super().__init__(reason, status)
        self.wait = wait


class WebClient:
    """A client for many files on many hosts, used as an asynchronous context manager.

    Parameters
    ----------
    settings : WebSettings
        Numbers of concurrent requests, time-outs, retries, size limits and allowed networks.
    """

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._host_slots: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(settings.per_host))
        self._paused_until: dict[str, float] = defaultdict(float)
        self._client = httpx.AsyncClient(
            transport=CheckedTransport(settings.allow_networks),
            headers=HEADERS,
            timeout=settings.timeout,
            follow_redirects=True,
            max_redirects=settings.max_redirects,
            trust_env=False,  # a proxy would connect without the address check; ~/.netrc would send passwords
        )

    async def __aenter__(self) -> Self:
        """Open the client."""
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self._client.__aexit__(kind, error, trace)

    async def fetch(self, url: str, file: BinaryIO, max_bytes: int | None = None) -> None:
        """Write the body of the response of `url` to `file`.

        Time-outs, broken connections and transient statuses (429 and 5xx among them) are retried up to
        ``settings.attempts`` times, with exponential backoff or after the time in Retry-After. During that time no
        other request is sent to the host.

        Parameters
        ----------
        url : str
            URL to request.
        file : binary file
            Written from its start; what it contained is removed.
        max_bytes : int, optional
            Largest size of the body, by default ``settings.max_bytes``.

        Raises
        ------
        FetchError
            If no attempt gives a complete body.
        """
        settings = self._settings
        try:
            parsed = httpx.URL(url)
            check_form(parsed)
        except (httpx.InvalidURL, ValueError) as error:  # a UnicodeError is a ValueError
            raise FetchError("not a valid URL") from error
        except RefusedAddressError as error:
            raise FetchError(f"refused: {error}") from error
        host = parsed.host
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(_TransientError),
            stop=stop_after_attempt(settings.attempts),
            wait=self._backoff,
            reraise=True,
        ):
            with attempt:
                # The host's slot first: a request that waits for its host must not occupy a slot that others could use.
                async with self._host_slots[host]:
                    await self._wait_while_paused(host)
                    async with self._slots:
                        file.seek(0)
                        file.truncate()
                        await self._request(url, host, file, max_bytes or settings.max_bytes)

    def _backoff(self, state: RetryCallState) -> float:
        """Return the number of seconds before the next attempt."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, _TransientError) and error.wait is not None:
            return error.wait
        base = self._settings.backoff
        return (wait_exponential(multiplier=base, max=self._settings.max_wait) + wait_random(0, base))(state)

    async def _wait_while_paused(self, host: str) -> None:
        """Wait until the time that the host asked for in Retry-After is over."""
        loop = asyncio.get_running_loop()
        while (seconds := self._paused_until[host] - loop.time()) > 0:
            await asyncio.sleep(seconds)

    async def _request(self, url: str, host: str, file: BinaryIO, max_bytes: int) -> None:
        """Send one request and write the body of its response to `file`."""
        try:
            async with asyncio.timeout(self._settings.max_seconds), self._client.stream("GET", url) as response:
                self._check_status(response, host)
                await _copy_body(response, file, max_bytes)
        except TimeoutError as error:
            raise FetchError(f"not finished after {self._settings.max_seconds:g} s") from error
        except httpx.TimeoutException as error:
            raise _TransientError(f"no response within {self._settings.timeout:g} s") from error
        except httpx.TooManyRedirects as error:
            raise FetchError(f"more than {self._settings.max_redirects} redirects") from error
        except httpx.ConnectError as error:
            if _is_caused_by(error, ssl.SSLCertVerificationError):
                raise FetchError("invalid certificate") from error
            raise _TransientError("no connection") from error
        except httpx.TransportError as error:
            raise _TransientError(f"broken connection ({type(error).__name__})") from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, ValueError) as error:
            raise FetchError(f"not a valid HTTP response ({type(error).__name__})") from error
        except RefusedAddressError as error:
            raise FetchError(f"refused: {error}") from error

    def _check_status(self, response: httpx.Response, host: str) -> None:
        """Refuse every response but 200 without compression; pause the host if it asks for that."""
        status = response.status_code
        if status in TRANSIENT_STATUSES:
            wait = _retry_after(response.headers.get("Retry-After", ""))
            if wait is not None and wait > self._settings.max_wait:
                raise FetchError(f"HTTP {status}, retry after {wait:.0f} s", status)
            if wait is not None:
                self._paused_until[host] = max(self._paused_until[host], asyncio.get_running_loop().time() + wait)
            raise _TransientError(f"HTTP {status}", status, wait)
        if status != 200:
            raise FetchError(f"HTTP {status}", status)
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise FetchError("compressed body, which was not requested")


async def _copy_body(response: httpx.Response, file: BinaryIO, max_bytes: int) -> None:
    """Copy the body in chunks, so that it is never in memory as a whole, and stop if it is too long."""
    n_bytes = 0
    async for chunk in response.aiter_raw():
        n_bytes += len(chunk)
        if n_bytes > max_bytes:
            raise FetchError(f"more than {max_bytes} bytes")
        file.write(chunk)


def _is_caused_by(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


def _retry_after(value: str) -> float | None:
    """Return the seconds in a Retry-After header (a number or a date), or None if it is empty or invalid."""
    if value.strip().isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
