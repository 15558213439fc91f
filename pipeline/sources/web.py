"""Ask the web for a file: politely, within bounds of time and size, and again where that can help."""

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
from pipeline.sources.addresses import CheckedTransport, RefusedAddressError

# It logs every address in full, and with it what must not be in a log: keys, signatures, passwords.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)

HEADERS = {
    "User-Agent": f"pcace/{pipeline.__version__} (research; one picture at a time)",
    "Accept": "image/*,*/*;q=0.5",
    "Accept-Encoding": "identity",  # a compressed body could be a bomb, and images are compressed already
}
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


class FetchError(Exception):
    """Why an address gave nothing, in a few words without the address.

    Attributes
    ----------
    status : int or None
        The HTTP status that the last answer had, if there was one.
    """

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class _PassingError(FetchError):
    """A failure that may pass: worth another attempt, after `wait` seconds where the server said so."""

    def __init__(self, reason: str, status: int | None = None, wait: float | None = None) -> None:
        super().__init__(reason, status)
        self.wait = wait


class Web:
    """A client for many files of many hosts; use it as an async context manager.

    Parameters
    ----------
    settings : WebSettings
        Bounds and manners.
    """

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._host_slots: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(settings.per_host))
        self._rest_until: dict[str, float] = defaultdict(float)
        self._client = httpx.AsyncClient(
            transport=CheckedTransport(settings.allow_networks),
            headers=HEADERS,
            timeout=settings.timeout,
            follow_redirects=True,
            max_redirects=settings.max_redirects,
            trust_env=False,  # a proxy would connect in our stead, unchecked; ~/.netrc would hand out passwords
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
        """Write the body that `url` answers with into `file`.

        Time-outs, broken connections and the statuses of a busy server are tried again, up to `attempts` times, with
        growing pauses, or after what Retry-After says; meanwhile nothing else is asked of that host.

        Raises
        ------
        FetchError
            If there is no body to be had.
        """
        settings = self._settings
        try:
            host = httpx.URL(url).host
        except (httpx.InvalidURL, UnicodeError) as error:
            raise FetchError("not an address") from error
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(_PassingError),
            stop=stop_after_attempt(settings.attempts),
            wait=self._pause,
            reraise=True,
        ):
            with attempt:
                async with self._host_slots[host]:  # first: waiting for one host shall not keep the others waiting
                    await self._rest(host)
                    async with self._slots:
                        file.seek(0)
                        file.truncate()
                        await self._once(url, host, file, max_bytes or settings.max_bytes)

    def _pause(self, state: RetryCallState) -> float:
        """Return the seconds before the next attempt."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, _PassingError) and error.wait is not None:
            return error.wait
        base = self._settings.backoff
        return (wait_exponential(multiplier=base, max=self._settings.max_wait) + wait_random(0, base))(state)

    async def _rest(self, host: str) -> None:
        """Wait until the host may be asked again."""
        loop = asyncio.get_running_loop()
        while (seconds := self._rest_until[host] - loop.time()) > 0:
            await asyncio.sleep(seconds)

    async def _once(self, url: str, host: str, file: BinaryIO, max_bytes: int) -> None:
        try:
            async with asyncio.timeout(self._settings.max_seconds), self._client.stream("GET", url) as response:
                self._check_status(response, host)
                await _copy(response, file, max_bytes)
        except TimeoutError as error:
            raise FetchError(f"not done after {self._settings.max_seconds:g} s") from error
        except httpx.TimeoutException as error:
            raise _PassingError(f"no answer within {self._settings.timeout:g} s") from error
        except httpx.TooManyRedirects as error:
            raise FetchError(f"more than {self._settings.max_redirects} redirects") from error
        except httpx.ConnectError as error:
            if _is_caused_by(error, ssl.SSLCertVerificationError):
                raise FetchError("its certificate is not valid") from error
            raise _PassingError("no connection") from error
        except httpx.TransportError as error:
            raise _PassingError(f"broken connection ({type(error).__name__})") from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, ValueError) as error:
            raise FetchError(f"not an HTTP answer ({type(error).__name__})") from error
        except RefusedAddressError as error:
            raise FetchError(f"refused: {error}") from error

    def _check_status(self, response: httpx.Response, host: str) -> None:
        status = response.status_code
        if status in BUSY:
            wait = _retry_after(response.headers.get("Retry-After", ""))
            if wait is not None and wait > self._settings.max_wait:
                raise FetchError(f"HTTP {status}, to be asked again in {wait:.0f} s", status)
            if wait is not None:
                self._rest_until[host] = max(self._rest_until[host], asyncio.get_running_loop().time() + wait)
            raise _PassingError(f"HTTP {status}", status, wait)
        if status != 200:
            raise FetchError(f"HTTP {status}", status)
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise FetchError("a compressed body, which was not asked for")


async def _copy(response: httpx.Response, file: BinaryIO, max_bytes: int) -> None:
    """Copy the body piece by piece, so that it is never in memory whole, and stop where it is too long."""
    n_bytes = 0
    async for piece in response.aiter_raw():
        n_bytes += len(piece)
        if n_bytes > max_bytes:
            raise FetchError(f"more than {max_bytes} bytes")
        file.write(piece)


def _is_caused_by(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


def _retry_after(value: str) -> float | None:
    """Return the seconds that a Retry-After header asks for (a number, or a date), None where it says nothing."""
    if value.strip().isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
