"""The client's IP address and network."""

import ipaddress
import re
from functools import lru_cache

from django.http import HttpRequest

from config import settings

# What a proxy may write for an address (RFC 7239, section 6): some add the port, as in a URL.
WITH_PORT = re.compile(r"\[([^]]*)\](?::\d+)?|([\d.]+):\d+")

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def client_address(request: HttpRequest) -> str:
    """Return the IP address of the client, or "unknown".

    It is the peer's address, unless proxies are trusted. Each proxy appends its peer's address to
    X-Forwarded-For, so with N trusted proxies the Nth address from the right is the client's; the
    client itself may have written whatever stands left of it.
    """
    address = request.META.get("REMOTE_ADDR", "")
    if settings.trusted_proxies and "HTTP_X_FORWARDED_FOR" in request.META:
        forwarded = request.META["HTTP_X_FORWARDED_FOR"].split(",")
        address = forwarded[-settings.trusted_proxies :][0].strip()
    return normalize(address)


@lru_cache(1024)
def normalize(address: str) -> str:
    """Return an IP address in its canonical form, without a port, or "unknown" if it is not one."""
    if with_port := WITH_PORT.fullmatch(address):
        address = with_port[1] or with_port[2] or ""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])  # a zone may follow, with any content
    except ValueError:
        return "unknown"
    return str(ip if ip.version == 4 else embedded_ipv4(ip) or ip)


def embedded_ipv4(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address was made of, or None.

    By their /64 networks, all clients of a NAT64 (RFC 6052, section 2.1) or of a Teredo server (RFC 4380)
    would be one, and one client of 6to4 (RFC 3056) could be 65,536. Where 64:ff9b:1::/48 (RFC 8215) holds the
    IPv4 address is for each network to choose, so it is left.
    """
    if ip in NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])


def client_network(request: HttpRequest) -> str:
    """Return the client's IPv4 address, or its IPv6 /64 network: one client usually has the whole /64."""
    address = client_address(request)
    return str(ipaddress.IPv6Network((address, 64), strict=False)) if ":" in address else address
