"""Reading a pool's ledger through its API: every entry is proven against the head that the pool signed, or refused."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from chain.errors import BadEncoding, BadSignature
from chain.keys import PrivateKey, address_text
from chain.merkle import root_from_path
from ponas_node.client import NodeClient
from ponas_node.pool_disclosure import sign_request
from pool.heads import SignedHead
from pool.history import consistent
from pool.inspection import Inspection
from pool.ledger import MOST_BYTES, decode_entry, subject_of
from pool.records import ContestedEntry, Entry, ShareEntry

PAGE = 100
_MOST_PROBLEMS = 100
_MOST_ENTRIES = 2_000_000
_REJECTION = ("share", "genotype", "code", "reason")


class CheckFailed(Exception):
    """What the pool sent does not hold together; the message says what, for the member."""


def read_head(summary: dict[str, Any], network: bytes) -> SignedHead:
    """The signed head in the summary of a pool on `network`. Raises CheckFailed."""
    try:
        head = SignedHead.decode(bytes.fromhex(summary["ledger"]["head"]))
        head.verify()
    except (KeyError, TypeError, ValueError, BadEncoding, BadSignature) as error:
        raise CheckFailed("the pool gives no head of its ledger that bears its signature") from error
    if head.network != network:
        raise CheckFailed("the pool is of another network than the node: name another node with --node")
    return head


async def fetch_entries(pool: NodeClient, head: SignedHead, key: PrivateKey) -> list[tuple[int, Entry]]:
    """The entries about the member with `key` and the general ones, all proven against `head`, by number.

    Raises CheckFailed.
    """
    found: list[tuple[int, Entry]] = []
    if head.size:
        for path, subject in ((_shares(key.address), key.address), ("/v1/pool/ledger", b"")):
            found += [pair async for pair in _pages(pool, path, subject, head, key)]
    return sorted(found, key=lambda pair: pair[0])


async def fetch_entry(pool: NodeClient, head: SignedHead, number: int) -> Entry:
    """One entry that everybody may read, proven against `head`. Raises CheckFailed."""
    item = await pool.get(f"/v1/pool/ledger/{number}/proof", size=head.size)
    found, entry = read_entry(item, head, None)
    if found != number:
        raise CheckFailed(f"the pool gave entry {found}, not {number}")
    return entry


def _shares(member: bytes) -> str:
    return f"/v1/pool/members/{address_text(member)}/shares"


def _signed(key: PrivateKey, network: bytes, path: str) -> dict[str, str]:
    return sign_request(key, network, path, time.time_ns() // 1_000_000)


async def _pages(
    pool: NodeClient, path: str, subject: bytes, head: SignedHead, key: PrivateKey
) -> AsyncIterator[tuple[int, Entry]]:
    before, last, count = None, head.size, 0
    while before != 0:
        query: dict[str, int] = {} if before is None else {"before": before}
        headers = _signed(key, head.network, path)
        answer = await pool.get(path, headers, limit=PAGE, size=head.size, **query)
        try:
            following, items = answer["next"], list(answer["entries"])
            if type(following) is not int:
                raise TypeError("a page is named by a number")
        except (KeyError, TypeError, ValueError) as error:
            raise CheckFailed("a page of the ledger is malformed") from error
        if following < 0 or (before is not None and following >= before):
            raise CheckFailed("the pages of the ledger do not end")
        for item in items:
            number, entry = read_entry(item, head, subject)
            count += 1
            if number >= last or count > _MOST_ENTRIES:
                raise CheckFailed("the pages of the ledger repeat themselves, or have no end")
            last = number
            yield number, entry
        before = following


def read_entry(item: Any, head: SignedHead, subject: bytes | None) -> tuple[int, Entry]:
    """An entry of a page, proven to be in the ledger, and about `subject`, if one is given. Raises CheckFailed."""
    try:
        number, text, nodes = item["number"], item["entry"], item["path"]
        if type(number) is not int or len(text) > 2 * MOST_BYTES or len(nodes) > 64:
            raise ValueError("too large")
        data, path = bytes.fromhex(text), tuple(bytes.fromhex(node) for node in nodes)
        if any(len(node) != 32 for node in path):
            raise ValueError("a node has 32 bytes")
        entry = decode_entry(data)
    except (KeyError, TypeError, ValueError, BadEncoding) as error:
        raise CheckFailed("an entry of the ledger is malformed") from error
    if root_from_path(data, number, head.size, path) != head.root:
        raise CheckFailed(f"entry {number} is not in the ledger that the pool signed")
    if subject is not None and subject_of(entry) != subject:
        raise CheckFailed(f"entry {number} is not about what was asked for")
    if isinstance(entry, ShareEntry | ContestedEntry):
        try:
            entry.signed.verify()
        except BadSignature as error:
            raise CheckFailed(f"entry {number} is a share that the member did not sign") from error
    return number, entry


async def inspect_all(pool: NodeClient, head: SignedHead, limit: int, least: int) -> list[str]:
    """What is wrong with any entry of the ledger, in sentences, up to those of an open search.

    `least` is the number of entries that must be told. Raises CheckFailed where they are not the signed ones.
    """
    inspection = Inspection(limit)
    while inspection.peaks.size < head.size:
        answer = await pool.get("/v1/pool/ledger/entries", None, **{"from": inspection.peaks.size, "limit": PAGE})
        try:
            items = [bytes.fromhex(item["entry"]) for item in answer["entries"]]
            entries = [decode_entry(data) for data in items[: head.size - inspection.peaks.size]]
        except (KeyError, TypeError, ValueError, BadEncoding) as error:
            raise CheckFailed("an entry of the ledger is malformed") from error
        if not entries and inspection.peaks.size >= least:
            break
        if not entries:
            raise CheckFailed(f"the pool gives only {inspection.peaks.size} of the {least} entries that it must tell")
        for entry in entries:
            inspection.take(entry)
    await check_beginning(pool, inspection.peaks.size, inspection.peaks.root(), head)
    return [*inspection.problems, *inspection.overdue()][:_MOST_PROBLEMS]


async def check_beginning(pool: NodeClient, size: int, root: bytes, head: SignedHead) -> None:
    """Raise CheckFailed unless the ledger of `head` begins with the `size` entries under `root`."""
    if size == 0:
        return
    answer = await pool.get("/v1/pool/ledger/consistency", None, **{"from": size, "to": head.size})
    try:
        nodes = list(answer["path"])
        path = [bytes.fromhex(node) for node in nodes[:128]]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckFailed("the proof that the ledger only grew is malformed") from error
    if not consistent(size, root, head.size, head.root, path):
        raise CheckFailed(
            f"the pool changed its past: its ledger of {head.size} entries does not begin with the {size} "
            "that it signed or told earlier"
        )


async def rejections(pool: NodeClient, network: bytes, key: PrivateKey) -> list[dict[str, str]]:
    """The member's latest rejections, as the pool tells them: there is no proof of these. Raises CheckFailed."""
    path = _shares(key.address)
    answer = await pool.get(path, _signed(key, network, path), limit=1)
    try:
        return [{name: str(item[name])[:500] for name in _REJECTION} for item in answer["rejected"]]
    except (KeyError, TypeError) as error:
        raise CheckFailed("the list of rejections is malformed") from error
