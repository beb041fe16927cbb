"""HTTP endpoints of a pool's ledger: entries with proofs, page by page, so that members can check their credit."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web

from chain.keys import BadAddress, address_text, parse_address
from ponas_node.api.errors import ApiError, not_found, sentence
from ponas_node.api.limits import LARGEST_PAGE
from ponas_node.api.parameters import page_size, parse_number, path_address, query_number
from ponas_node.api.render import plain
from ponas_node.pool_disclosure import reader
from pool.account import CONTESTED
from pool.ledger import Ledger, decode_entry, subject_of
from pool.pool import Pool
from pool.records import BanEntry, ContestedEntry, RefutedEntry, Share, ShareEntry, VoidedEntry, milliseconds

_MOST_BYTES = 1 << 20  # of entries in one page, beyond its first entry
Json = dict[str, Any]


class PoolApi:
    """Read-only; every request costs at most a page of entries and their proofs.

    What an open search added is told as `pool_disclosure` says. `clock` gives Unix time in seconds.
    """

    def __init__(self, pool: Pool, network: bytes, clock: Callable[[], float]) -> None:
        self._pool, self._network, self._clock = pool, network, clock

    def routes(self) -> list[web.RouteDef]:
        """The routes for the node's API."""
        return [
            web.get("/v1/pool/members", self.members),
            web.get("/v1/pool/members/{address}/shares", self.shares),
            web.get("/v1/pool/ledger", self.general),
            web.get("/v1/pool/ledger/entries", self.entries),
            web.get("/v1/pool/ledger/consistency", self.consistency),
            web.get("/v1/pool/ledger/{number}/proof", self.proof),
        ]

    async def members(self, request: web.Request) -> web.Response:
        """GET /v1/pool/members: by address, those behind `after` if that is given."""
        return web.json_response({"members": members_json(self._pool, after_address(request), page_size(request))})

    async def shares(self, request: web.Request) -> web.Response:
        """GET /v1/pool/members/{address}/shares: the ledger's entries about a member, and its latest rejections."""
        address = path_address(request)
        if not self._pool.ledger.count(address) and self._pool.member(address) is None:
            raise not_found("unknown_member", "The pool has no member with this address.")
        reads = self._reader(request) == address
        rejections = [] if "before" in request.query else self._pool.rejections.of(address)
        return web.json_response({
            "address": address_text(address),
            **self._page(request, address, secrets=reads),
            "rejected": [
                {
                    "state": "rejected", "at": found.at / 1000, "share": found.share.hex(),
                    "genotype": found.genotype.hex() if reads else None, "code": found.code, "reason": found.reason,
                }
                for found in rejections
            ],
        })  # fmt: skip

    async def general(self, request: web.Request) -> web.Response:
        """GET /v1/pool/ledger: the entries that concern everybody: works, rounds, payments, terms."""
        return web.json_response(self._page(request, b"", secrets=True))

    async def entries(self, request: web.Request) -> web.Response:
        """GET /v1/pool/ledger/entries: entries from number `from` on, without proofs, up to those of an open search."""
        ledger, first = self._pool.ledger, query_number(request, "from") or 0
        end = self._open_from()
        numbers = range(min(first, end), min(first + page_size(request), end))
        found = [{"number": number, "entry": data.hex()} for number, data in _bounded(ledger, numbers)]
        return web.json_response({"size": len(ledger), "entries": found})

    async def proof(self, request: web.Request) -> web.Response:
        """GET /v1/pool/ledger/{number}/proof: an entry, and its path to the root over the first `size` entries."""
        ledger, size = self._pool.ledger, self._size(request, "size")
        number = parse_number(request.match_info["number"], "A number of an entry")
        if number >= size:
            raise not_found("unknown_entry", f"The ledger has {size} entries there, numbered from 0.")
        data = ledger.raw(number)
        subject = subject_of(decode_entry(data))
        if number >= self._open_from() and subject and subject != self._reader(request):
            raise ApiError(
                403, "open_search", "Until the commits close, only the member that it is about may read this."
            )
        return web.json_response({"size": size, **self._entry_json(number, data, size)})

    async def consistency(self, request: web.Request) -> web.Response:
        """GET /v1/pool/ledger/consistency: that the first `to` entries begin with the first `from` ones."""
        second = self._size(request, "to")
        first = query_number(request, "from") or 0
        if not 1 <= first <= second:
            raise ApiError(400, "bad_size", f"from must be from 1 to {second}.")
        path = self._pool.ledger.history.consistency(first, second)
        return web.json_response({"from": first, "to": second, "path": [node.hex() for node in path]})

    def _open_from(self) -> int:
        return self._pool.open_from(self._clock())

    def _reader(self, request: web.Request) -> bytes:
        return reader(request, self._network, milliseconds(self._clock()))

    def _size(self, request: web.Request, name: str) -> int:
        size, most = query_number(request, name), len(self._pool.ledger)
        if size is None:
            return most
        if not 1 <= size <= most:
            raise ApiError(400, "bad_size", f"{name} must be from 1 to {most}, the size of the ledger.")
        return size

    def _page(self, request: web.Request, subject: bytes, secrets: bool) -> Json:
        """A page of the entries about `subject`; without `secrets` those of an open search are passed over."""
        ledger, before, limit = self._pool.ledger, query_number(request, "before"), page_size(request)
        size, end = self._size(request, "size"), ledger.count(subject)
        end = end if before is None else min(before, end)
        sent = list(_bounded(ledger, ledger.page(subject, end, limit)))
        told = size if secrets else min(size, self._open_from())
        return {
            "size": size,
            "entries": [self._entry_json(number, data, size) for number, data in sent if number < told],
            "next": max(0, end - len(sent)),
        }

    def _entry_json(self, number: int, data: bytes, size: int) -> Json:
        path = self._pool.ledger.history.inclusion(number, size)
        return {
            "number": number,
            **self._meaning(number, data),
            "entry": data.hex(),
            "path": [node.hex() for node in path],
        }

    def _meaning(self, number: int, data: bytes) -> Json:
        """An entry for people: its kind, and of a share its state, points and score."""
        entry = decode_entry(data)
        kind = type(entry).__name__.removesuffix("Entry").lower()
        if isinstance(entry, RefutedEntry | BanEntry | VoidedEntry):
            return {"kind": kind, "at": entry.at / 1000, "reason": entry.reason}
        if not isinstance(entry, ShareEntry | ContestedEntry):
            return {"kind": kind, "epoch": getattr(entry, "epoch", None)}
        share = entry.signed.share
        state, reason = self._state(number, share, isinstance(entry, ContestedEntry))
        return {
            "kind": kind, "state": state, "at": entry.at / 1000, "epoch": share.epoch,
            "task": share.task.hex(), "share": share.id.hex(), "genotype": share.genotype.hex(),
            "validation_correct": share.validation_correct, "points": entry.points,
            "reason": reason,
        }  # fmt: skip

    def _state(self, number: int, share: Share, was_contested: bool) -> tuple[str, str | None]:
        """What became of a share until now, and why."""
        book = self._pool.book
        if number in book.voided:
            return "voided", book.voided[number].reason
        refuted, open_yet = book.refuted.get(share.address), was_contested and share.id in book.contested
        if refuted is not None and (open_yet or refuted.share == share.model):
            return "refuted", refuted.reason
        return ("contested", CONTESTED) if open_yet else ("accepted", None)


def after_address(request: web.Request) -> bytes:
    """The address `after` in the query; empty where there is none."""
    text = request.query.get("after")
    try:
        return b"" if text is None else parse_address(text)
    except BadAddress as error:
        raise ApiError(400, "bad_address", sentence(f"after: {error}")) from error


def members_json(pool: Pool, after: bytes, limit: int) -> list[Json]:
    """At most `limit` members in order of their addresses."""
    book = pool.book
    found = heapq.nsmallest(min(limit, LARGEST_PAGE), (address for address in book.shares if address > after))
    return [
        {
            "address": address_text(address),
            "shares": book.shares[address],
            "scored": book.scored[address],
            "earned": book.earned[address],
            "paid": book.paid[address],
            "banned": book.ban_of(address) is not None,
            "ban_reason": book.ban_of(address),
        }
        for address in found
    ]


def terms_json(pool: Pool) -> Json:
    """The payout terms for members."""
    terms = pool.book.terms
    return {**plain(terms), "operator": address_text(terms.operator) if terms.fee else None}


def _bounded(ledger: Ledger, numbers: Iterable[int]) -> Iterable[tuple[int, bytes]]:
    """Entries until a page is full; at least one where there is any."""
    total = 0
    for number in numbers:
        data = ledger.raw(number)
        total += len(data)
        if total > _MOST_BYTES and total > len(data):
            return
        yield number, data
