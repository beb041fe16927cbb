"""What stays between a member and its pool while a search is open.

A share names a find that nobody has sealed yet, and leaves that a lazy member could hand in for a double lease. So the
entries about members that the open search added to the ledger are told to nobody but the member that they are about,
until the commits of the epoch close. A member proves who it is by signing its request: two headers, with the time in
milliseconds and its public key and signature in hexadecimal.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from aiohttp import web

from chain.errors import BadSignature
from chain.hashing import digest
from chain.keys import PrivateKey, address_of, verify
from ponas_node.api.errors import ApiError
from pool.pool import Pool

TIME, SIGNATURE = "Ponas-Time", "Ponas-Signature"
VALID_MILLISECONDS = 300_000
_KEY = 32
Json = dict[str, Any]


def sign_request(key: PrivateKey, network: bytes, path: str, milliseconds: int) -> dict[str, str]:
    """Headers that let the member with `key` read what only it may read at `path`."""
    signature = key.sign(_message(network, path, milliseconds))
    return {TIME: str(milliseconds), SIGNATURE: (key.public + signature).hex()}


def reader(request: web.Request, network: bytes, milliseconds: int) -> bytes:
    """Address of the member that signed the request; empty where nobody did. Raises ApiError for a bad signature."""
    if SIGNATURE not in request.headers:
        return b""
    try:
        at = int(request.headers.get(TIME, "")[:20])
        signed = bytes.fromhex(request.headers[SIGNATURE][:256])
        verify(signed[:_KEY], signed[_KEY:], _message(network, request.path, at))
    except (ValueError, OverflowError, BadSignature) as error:
        raise ApiError(400, "bad_signature", f"{TIME} and {SIGNATURE} do not sign this request.") from error
    if abs(at - milliseconds) > VALID_MILLISECONDS:
        seconds = abs(at - milliseconds) // 1000
        raise ApiError(400, "bad_time", f"The request was signed {seconds} s from now by the pool's clock: set yours.")
    return address_of(signed[:_KEY])


def summary(pool: Pool, now: float) -> Json:
    """`PoolSummary` without what would lead others to the finds of an open search."""
    found = dataclasses.asdict(pool.summary())
    if pool.is_open(now):
        found["best"] = []
        found["subspaces"] = [{**subspace, "best": None} for subspace in found["subspaces"]]
    return found


def member(pool: Pool, address: bytes, now: float) -> Json | None:
    """`MemberSummary` without the architectures of leases, rejections and an open search. None for a stranger."""
    view = pool.member(address)
    if view is None:
        return None
    found = dataclasses.asdict(view)
    for lease in found["leases"]:
        lease["genotypes"] = len(lease["genotypes"])
    for rejection in found["rejections"]:
        del rejection["genotype"]
    if pool.is_open(now):
        found["best"] = None
    return found


def _message(network: bytes, path: str, milliseconds: int) -> bytes:
    return digest("ponas/pool-read", network, path.encode(), milliseconds.to_bytes(8, "big"))
