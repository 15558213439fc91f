"""Which IP addresses the web client may connect to.

A list of URLs can come from anyone, and a server can redirect to any URL. Without this check, a list with
``http://169.254.169.254/...`` would make this machine request credentials from the metadata service of its own cloud
(server-side request forgery). The client connects to the address that passed the check, not to the host name again: a
name that resolves to a public address at first and to a private one later (DNS rebinding) cannot get around it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

import httpx

NAT64 = ipaddress.ip_network("64:ff9b::/96")


class RefusedAddressError(Exception):
    """A URL must not be requested; the message says why."""


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address belongs to the public internet.

    An IPv6 address that embeds an IPv4 address (IPv4-mapped, 6to4, Teredo, NAT64) is public if the embedded one is.
    """
    if isinstance(address, IPv6Address):
        embedded = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in NAT64:
            embedded = IPv4Address(int(address) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(embedded)
    return address.is_global and not address.is_multicast


def check_form(url: httpx.URL) -> None:
    """Refuse a URL that no connection can be made for, whatever its host is.

    Raises
    ------
    RefusedAddressError
        If the scheme is not http or https, the host is missing, or the port is not between 1 and 65535.
    """
    if url.scheme not in ("http", "https"):
        raise RefusedAddressError(f"only http and https are supported, not {url.scheme or 'a URL without a scheme'}")
    if not url.host:
        raise RefusedAddressError("the URL has no host")
    if url.port is not None and not 1 <= url.port <= 65535:
        raise RefusedAddressError(f"a port must be between 1 and 65535, not {url.port}")


class CheckedTransport(httpx.AsyncBaseTransport):
    """Transport of httpx that connects only to public addresses and to allowed networks, also after a redirect.

    There is one inner transport per host. If connections to bare addresses shared one pool, two hosts at the same
    address would share a connection whose certificate was checked for the first of them only.

    Parameters
    ----------
    allow_networks : sequence of str
        Networks, such as ``10.1.2.0/24``, that may be connected to although they are not public.
    """

    def __init__(self, allow_networks: Sequence[str]) -> None:
        self._allowed = [ipaddress.ip_network(network) for network in allow_networks]
        self._context = httpx.create_ssl_context()  # respects SSL_CERT_FILE
        self._transports: dict[str, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` to the first allowed address of its host that accepts a connection.

        Raises
        ------
        RefusedAddressError
            If `check_form` refuses the URL, the host is unknown, or none of its addresses is allowed.
        httpx.ConnectError, httpx.ConnectTimeout
            If no allowed address accepts a connection, or the host name cannot be resolved at the moment.
        """
        check_form(request.url)
        host, default_port = request.url.host, 443 if request.url.scheme == "https" else 80
        addresses = await self._addresses(host, request.url.port or default_port)
        transport = self._transports.setdefault(host, httpx.AsyncHTTPTransport(verify=self._context, trust_env=False))
        failure: httpx.HTTPError | None = None
        for address in addresses:
            pinned = httpx.Request(
                request.method,
                request.url.copy_with(host=str(address)),
                headers=request.headers,  # includes the Host header
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                response = await transport.handle_async_request(pinned)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
            else:
                response.request = request
                return response
        assert failure is not None
        raise failure

    async def _addresses(self, host: str, port: int) -> list[IPv4Address | IPv6Address]:
        """Resolve a host name and return its allowed addresses, at least one."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                raise httpx.ConnectError("the host name cannot be resolved at the moment") from error
            raise RefusedAddressError("the host does not exist") from error
        except (OSError, OverflowError, ValueError) as error:
            raise RefusedAddressError("the host name is not valid") from error
        addresses = [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in found]
        allowed = [address for address in dict.fromkeys(addresses) if self._is_allowed(address)]
        if not allowed:
            raise RefusedAddressError(f"{addresses[0]} is not a public address (data.web.allow_networks)")
        return allowed

    def _is_allowed(self, address: IPv4Address | IPv6Address) -> bool:
        return is_public(address) or any(address in network for network in self._allowed)

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._transports.values():
            await transport.aclose()
