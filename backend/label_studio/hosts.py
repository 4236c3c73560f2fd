"""Which network addresses an image may be read from."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

import httpx

_SCHEMES = {"http": 80, "https": 443}
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# IPv6 addresses that a gateway turns into IPv4 ones, private ones too: compatible, translated, NAT64, 6to4.
_GATEWAYS = tuple(
    ipaddress.IPv6Network(network)
    for network in ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16")
)
SETTING = "INSPECTION_ALLOWED_IMAGE_HOSTS"


class HostRefusedError(ValueError):
    """A host is not listed, leads into a private network that is not listed, or is unknown (then `retryable`)."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


def origin(url: httpx.URL) -> tuple[str, str, int]:
    """Scheme, host and port."""
    return url.scheme, url.host.lower(), url.port or _SCHEMES.get(url.scheme, 0)


class AllowedHosts:
    """A list of host names (`host` or `host:port`) and networks (`10.20.0.0/16`, `10.1.2.3`).

    A URL with a name needs the name listed; where that leads into a private, loopback or link-local network, the
    network must be listed as well. A URL with a number needs its network listed.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._names: set[str] = set()
        self._networks: list[_Network] = []
        for entry in entries:
            try:
                self._networks.append(ipaddress.ip_network(entry.strip().strip("[]"), strict=False))
            except ValueError:
                self._names.add(entry.strip().lower().rstrip("."))

    def resolve(self, url: httpx.URL) -> str:
        """The network address to connect to for `url`. Raises HostRefusedError."""
        scheme, host, port = origin(url)
        if scheme not in _SCHEMES or not host:
            raise HostRefusedError(f"addresses of the kind '{scheme}' are not read, only http and https")
        number = _number(host)
        if number is not None:
            if not self._listed(number):
                raise HostRefusedError(f"its address {number} is in no listed network; add it to {SETTING}")
            return str(number)
        name = host.rstrip(".")
        if not self._names & {name, f"{name}:{port}"}:
            raise HostRefusedError(f"its host '{name}' is not listed; add it to {SETTING}")
        addresses = _lookup(name, port)
        for address in addresses:
            if not (_is_public(address) or self._listed(address)):
                raise HostRefusedError(
                    f"its host '{name}' leads to {address}, inside a private network; add that network to {SETTING}"
                )
        return str(addresses[0])

    def _listed(self, address: _Address) -> bool:
        return any(address in network for network in self._networks)


def _number(host: str) -> _Address | None:
    try:
        return _plain(ipaddress.ip_address(host.strip("[]").partition("%")[0]))
    except ValueError:
        return None


def _plain(address: _Address) -> _Address:
    """An IPv4 address written as IPv6 is judged as what it is."""
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def _is_public(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and any(address in network for network in _GATEWAYS):
        return False
    return address.is_global and not address.is_multicast and not getattr(address, "is_site_local", False)


def _lookup(name: str, port: int) -> list[_Address]:
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise HostRefusedError(f"its host '{name}' is not known ({error})", retryable=True) from error
    return [_plain(ipaddress.ip_address(str(entry[4][0]).partition("%")[0])) for entry in found]
