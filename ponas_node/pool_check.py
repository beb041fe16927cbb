"""A member checks its pool: signed head, proofs of its entries, its own sums, and the payout tables on the chain.

Nothing that the pool says is taken on trust; the payout tables come from the chain, best through a node of one's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from chain.encoding import Address, Record
from chain.errors import BadEncoding, BadSignature
from chain.keys import BadAddress, address_of, address_text, parse_address
from chain.merkle import root_from_path
from consensus.genesis import Genesis
from consensus.types import Payout, Payouts
from ponas_node.client import NodeClient, Refused
from ponas_node.miner.receipts import Receipts
from pool.account import Account, OwnRound
from pool.heads import SignedHead
from pool.history import consistent
from pool.inspection import Inspection
from pool.ledger import MOST_BYTES, decode_entry, subject_of
from pool.payouts import table
from pool.records import Entry, ShareEntry

_PAGE = 100
_MOST_PROBLEMS = 100
_MOST_ENTRIES = 2_000_000
_REJECTION = ("share", "genotype", "code", "reason")
_PATIENCE = 120  # seconds of "too many requests" in a row
_ROUNDING = Fraction(1, 2**30)  # of a table, by which scaling to 32 bits may move a line


class CheckFailed(Exception):
    """What the pool sent does not hold together; the message says what, for the member."""


@dataclass(frozen=True, slots=True)
class TableCheck:
    """A payout table on the chain: the member's part of it, and the part that the ledger owes it."""

    epoch: int
    result: str
    seated: bool
    part: Fraction
    owed: Fraction

    @property
    def short(self) -> bool:
        """Whether the table pays less than the ledger owes."""
        return self.part + _ROUNDING < self.owed


@dataclass(slots=True)
class Findings:
    """What a check found. `problems` are sentences; without any the pool owes the member nothing but what it says."""

    head: SignedHead
    account: Account
    tables: list[TableCheck] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    receipts: int = 0


@dataclass(frozen=True, slots=True)
class _Table(Record):
    """Payouts of an answer, for their limits."""

    owner: Address
    payouts: Payouts


async def check(
    pool: NodeClient, chain: NodeClient, member: bytes, folder: Path, epochs: int, whole: bool = False
) -> Findings:
    """Check all entries of `member`, and the tables of the last `epochs` rounds. Raises CheckFailed, ClientError.

    With `whole` all entries of the ledger are fetched and replayed: nobody else may be credited with too much, either.
    Receipts are read from `folder` and the head is kept there, so that the next check continues from it.
    """
    genesis = Genesis.from_json(await chain.text("/v1/genesis"))
    head = read_head(await _get(pool, "/v1/pool"), genesis.network)
    receipts = Receipts(folder, head.pool)
    await _check_growth(pool, receipts, head)
    account = Account(member, genesis.consensus.payout_entries)
    account.replay(await fetch_entries(pool, head, member))
    findings = Findings(head, account, problems=account.problems)
    _check_receipts(findings, receipts)
    for epoch in sorted(account.rounds)[-epochs:]:
        await _check_epoch(chain, findings, epoch, account.rounds[epoch])
    await _check_payments(chain, findings, epochs)
    if whole:
        findings.problems += await inspect_all(pool, head, genesis.consensus.payout_entries)
    if not findings.problems:
        receipts.check_off(head)
    return findings


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


async def fetch_entries(pool: NodeClient, head: SignedHead, member: bytes) -> list[tuple[int, Entry]]:
    """The entries about `member` and the general ones, all proven against `head`, by number. Raises CheckFailed."""
    found: list[tuple[int, Entry]] = []
    if head.size:
        for path, subject in ((f"/v1/pool/members/{address_text(member)}/shares", member), ("/v1/pool/ledger", b"")):
            found += [pair async for pair in _pages(pool, path, subject, head)]
    return sorted(found, key=lambda pair: pair[0])


async def _pages(pool: NodeClient, path: str, subject: bytes, head: SignedHead) -> AsyncIterator[tuple[int, Entry]]:
    before, last, count = None, head.size, 0
    while before != 0:
        query: dict[str, int] = {} if before is None else {"before": before}
        answer = await _get(pool, path, limit=_PAGE, size=head.size, **query)
        try:
            following, items = int(answer["next"]), list(answer["entries"])
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


def read_entry(item: Any, head: SignedHead, subject: bytes) -> tuple[int, Entry]:
    """An entry of a page, proven to be in the ledger, and about `subject`. Raises CheckFailed."""
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
    if subject_of(entry) != subject:
        raise CheckFailed(f"entry {number} is not about what was asked for")
    if isinstance(entry, ShareEntry):
        try:
            entry.signed.verify()
        except BadSignature as error:
            raise CheckFailed(f"entry {number} is a share that the member did not sign") from error
    return number, entry


async def inspect_all(pool: NodeClient, head: SignedHead, limit: int) -> list[str]:
    """What is wrong with any entry of the ledger, in sentences. Raises CheckFailed where it is not the signed one."""
    inspection = Inspection(limit)
    while inspection.peaks.size < head.size:
        answer = await _get(pool, "/v1/pool/ledger/entries", **{"from": inspection.peaks.size, "limit": _PAGE})
        try:
            items = [bytes.fromhex(item["entry"]) for item in answer["entries"]]
            entries = [decode_entry(data) for data in items[: head.size - inspection.peaks.size]]
        except (KeyError, TypeError, ValueError, BadEncoding) as error:
            raise CheckFailed("an entry of the ledger is malformed") from error
        if not entries:
            raise CheckFailed(f"the pool gives only {inspection.peaks.size} of the {head.size} entries that it signed")
        for entry in entries:
            inspection.take(entry)
    if inspection.peaks.root() != head.root:
        raise CheckFailed("the entries of the ledger do not have the root that the pool signed")
    return inspection.problems[:_MOST_PROBLEMS]


async def _check_growth(pool: NodeClient, receipts: Receipts, head: SignedHead) -> None:
    """The heads of earlier checks and connections must be beginnings of this ledger."""
    for known in (receipts.head("checked"), receipts.head("latest")):
        if known is None or known.size == 0 or known.size > head.size:
            continue
        answer = await _get(pool, "/v1/pool/ledger/consistency", **{"from": known.size, "to": head.size})
        try:
            nodes = list(answer["path"])
            path = [bytes.fromhex(node) for node in nodes[:128]]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckFailed("the proof that the ledger only grew is malformed") from error
        if not consistent(known.size, known.root, head.size, head.root, path):
            raise CheckFailed(
                f"the pool changed its past: its ledger of {head.size} entries does not begin with the {known.size} "
                "that it signed earlier"
            )
    wrong = receipts.take(head)
    if wrong is not None:
        raise CheckFailed(wrong)


def _check_receipts(findings: Findings, receipts: Receipts) -> None:
    known = receipts.shares()
    findings.receipts = len(known)
    for share, points in known.items():
        found = findings.account.shares.get(share)
        if found is None:
            findings.problems.append(f"share {share.hex()[:16]} was acknowledged, but the ledger does not have it")
        elif found[1].points < points:
            findings.problems.append(
                f"share {share.hex()[:16]} was acknowledged with {points} points, the ledger has {found[1].points}"
            )


async def _check_epoch(chain: NodeClient, findings: Findings, number: int, own: OwnRound) -> None:
    """Every table that the pool revealed in an epoch must give the member its part of the round."""
    try:
        epoch = await _get(chain, f"/v1/epochs/{number}", limit=_PAGE)
    except Refused as error:
        if error.status == 404:
            return  # the node has not come so far
        raise
    pool = address_text(address_of(findings.head.pool))
    try:
        wanted = [str(item["id"]) for item in epoch["ranking"] if item["owner"] == pool]
    except (KeyError, TypeError) as error:
        raise CheckFailed("the node's answer about an epoch is malformed") from error
    for id in wanted:
        _, result = await _result(chain, id)
        findings.tables.append(table_check(number, id, result, own, findings.account))
        if findings.tables[-1].short:
            last = findings.tables[-1]
            findings.problems.append(
                f"epoch {number}, result {id[:16]}: the payout table gives {float(last.part):.6%}, "
                f"the ledger owes {float(last.owed):.6%}"
            )


def table_check(epoch: int, id: str, result: dict[str, Any], own: OwnRound, account: Account) -> TableCheck:
    """The member's part of the table of `result`, an answer of a node, against its part of the round."""
    try:
        weights = {line.address: line.weight for line in read_payouts(result)}
        genotype, leaves = bytes.fromhex(result["genotype"]), tuple(bytes.fromhex(leaf) for leaf in result["leaves"])
        seated = bool(result["seated"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckFailed("the node's answer about a result is malformed") from error
    shares = [entry.signed.share for _, entry in account.shares.values()]
    mine = any((share.epoch, share.genotype, share.leaves) == (epoch, genotype, leaves) for share in shares)
    finder = account.member if mine else _stranger(own)
    fair = table(own.entry.credits, finder, account.limit, own.entry.terms)
    part, owed = (
        Fraction(lines.get(account.member, 0), sum(lines.values()))
        for lines in (weights, {line.address: line.weight for line in fair})
    )
    return TableCheck(epoch, id, seated, part, owed)


def _stranger(own: OwnRound) -> bytes:
    """Some finder who is not the member: it takes the finder's part, whoever it is."""
    others = {credit.address for credit in own.entry.credits}
    return next(bytes([i]) * 20 for i in range(256) if bytes([i]) * 20 not in others)


def read_payouts(result: dict[str, Any]) -> tuple[Payout, ...]:
    """The payout table in a node's answer, within its limits. Raises KeyError, TypeError or ValueError."""
    lines = tuple(Payout(parse_address(line["address"]), int(line["weight"])) for line in result["payouts"])
    try:
        return _Table.decode(_Table(bytes(20), lines).encode()).payouts
    except (BadEncoding, BadAddress, OverflowError) as error:
        raise ValueError(str(error)) from error


async def _check_payments(chain: NodeClient, findings: Findings, epochs: int) -> None:
    """What counts as paid must have taken a seat, with the table that the ledger states."""
    me = findings.account.member
    paid = [entry for entry in findings.account.payments if any(credit.address == me for credit in entry.debits)]
    for entry in paid[-epochs:]:
        id = entry.result.hex()
        found, result = await _result(chain, id)
        try:
            good = found and bool(result["seated"]) and read_payouts(result) == entry.table
        except (KeyError, TypeError, ValueError) as error:
            raise CheckFailed("the node's answer about a result is malformed") from error
        if not good:
            findings.problems.append(f"result {id[:16]} counts as paid, but did not take a seat with that table")


async def _result(chain: NodeClient, id: str) -> tuple[bool, dict[str, Any]]:
    if len(id) != 64 or not id.isalnum():
        raise CheckFailed("the node's answer names a result by what is no id")
    try:
        return True, await _get(chain, f"/v1/results/{id}")
    except Refused as error:
        if error.status == 404:
            return False, {}
        raise


async def rejections(pool: NodeClient, member: bytes) -> list[dict[str, str]]:
    """The member's latest rejections, as the pool tells them: there is no proof of these. Raises CheckFailed."""
    answer = await _get(pool, f"/v1/pool/members/{address_text(member)}/shares", limit=1)
    try:
        return [{name: str(item[name])[:500] for name in _REJECTION} for item in answer["rejected"]]
    except (KeyError, TypeError) as error:
        raise CheckFailed("the list of rejections is malformed") from error


async def _get(client: NodeClient, path: str, **query: str | int) -> dict[str, Any]:
    """GET, with patience where the node asks for it."""
    for _ in range(_PATIENCE):
        try:
            return await client.get(path, **query)
        except Refused as error:
            if error.status != 429:
                raise
        await asyncio.sleep(1.0)
    raise CheckFailed("the node answers nothing but that there are too many requests; try again later")
