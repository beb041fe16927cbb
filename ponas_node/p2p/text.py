"""Text from peers, made fit for a log line, and addresses, checked before they are used."""

from __future__ import annotations

import ipaddress
import re

_UNFIT = re.compile(r"[^ -~]")
_NAME = re.compile(r"(?=.{1,64}$)[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def clean(text: str, most: int = 256) -> str:
    """Printable ASCII only, at most `most` characters: no line breaks or terminal escapes reach a log."""
    return _UNFIT.sub("?", text[:most])


def parse_endpoint(text: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[ipv6]:port"; raises ValueError."""
    host, separator, digits = text.rpartition(":")
    if not separator or not digits.isascii() or not digits.isdigit() or len(digits) > 5 or not 0 < int(digits) < 65536:
        raise ValueError(f"{clean(text, 80)!r} is not host:port")
    if host.startswith("[") and host.endswith("]"):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    elif not _NAME.fullmatch(host):
        raise ValueError(f"{clean(text, 80)!r} is not host:port")
    return host, int(digits)


def endpoint(host: str, port: int) -> str:
    """Inverse of `parse_endpoint`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable_at(listen: str, seen_host: str) -> str | None:
    """Address to dial a peer at: `listen` from its Hello, where ":port" stands for the host that we see it at."""
    try:
        if listen.startswith(":"):
            return endpoint(*parse_endpoint(endpoint(seen_host, 1).rpartition(":")[0] + listen))
        return endpoint(*parse_endpoint(listen))
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine by its number; many nodes of a test network share it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
