"""Which hosts may be asked: what a name resolves to is checked, and what was checked is what is connected to.

A list of addresses can come from anywhere, and so can a redirect. Without this, ``http://169.254.169.254/...`` in a
list would make this machine ask its own cloud for credentials, and a name that resolves to a public address when it is
checked and to a private one when it is connected to (DNS rebinding) would pass.
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
    """An address that is not asked, and why."""


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Say whether an address is one of the public internet's; one that embeds an IPv4 address is what that one is."""
    if isinstance(address, IPv6Address):
        embedded = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in NAT64:
            embedded = IPv4Address(int(address) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(embedded)
    return address.is_global and not address.is_multicast


class CheckedTransport(httpx.AsyncBaseTransport):
    """Connect to public addresses alone, and to those in `allow_networks`; redirects come through here as well.

    One inner transport a host: with connections to bare addresses in one pool, two hosts behind one address would
    share a connection whose certificate was checked for the first of them only.
    """

    def __init__(self, allow_networks: Sequence[str]) -> None:
        self._allowed = [ipaddress.ip_network(network) for network in allow_networks]
        self._context = httpx.create_ssl_context()  # SSL_CERT_FILE is heeded
        self._transports: dict[str, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` to the first of its host's addresses that may be asked and can be connected to."""
        scheme, host = request.url.scheme, request.url.host
        if scheme not in ("http", "https") or not host:
            raise RefusedAddressError(f"only http and https are asked, not {scheme or 'nothing'}")
        addresses = await self._addresses(host, request.url.port or (443 if scheme == "https" else 80))
        transport = self._transports.setdefault(host, httpx.AsyncHTTPTransport(verify=self._context, trust_env=False))
        failure: httpx.HTTPError | None = None
        for address in addresses:
            pinned = httpx.Request(
                request.method,
                request.url.copy_with(host=str(address)),
                headers=request.headers,  # the Host header among them
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
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                raise httpx.ConnectError("the name could not be looked up") from error
            raise RefusedAddressError("there is no such host") from error
        except UnicodeError as error:
            raise RefusedAddressError("there can be no such host") from error
        addresses = [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in found]
        passed = [address for address in dict.fromkeys(addresses) if self._may_be_asked(address)]
        if not passed:
            raise RefusedAddressError(f"{addresses[0]} is not a public address (data.web.allow_networks)")
        return passed

    def _may_be_asked(self, address: IPv4Address | IPv6Address) -> bool:
        return is_public(address) or any(address in network for network in self._allowed)

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._transports.values():
            await transport.aclose()
