"""A member checks its pool: signed head, proofs of its entries, its own sums, and the payout tables on the chain.

Nothing that the pool says is taken on trust; the payout tables come from the chain, best through a node of one's own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from chain.encoding import Address, Record
from chain.errors import BadEncoding
from chain.keys import PrivateKey, address_of, address_text, parse_address
from consensus.genesis import Genesis
from consensus.types import Payout, Payouts
from ponas_node.client import NodeClient, Refused
from ponas_node.miner.receipts import Receipts
from ponas_node.pool_proofs import (
    PAGE,
    CheckFailed,
    check_beginning,
    fetch_entries,
    fetch_entry,
    inspect_all,
    read_head,
)
from pool.account import Account, Claim, OwnRound
from pool.heads import SignedHead
from pool.payouts import table
from pool.records import Entry, ShareEntry, WorkEntry

_STRANGER = bytes(20)  # a finder who is not the member: it takes the finder's part, whoever it is
_ROUNDING = Fraction(1, 2**30)  # of a table, by which scaling to 32 bits may move a line


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
    pool: NodeClient, chain: NodeClient, key: PrivateKey, folder: Path, epochs: int, whole: bool = False
) -> Findings:
    """Check all entries of the member with `key`, and the tables of the last `epochs` rounds.

    Raises CheckFailed, ClientError. With `whole` all entries of the ledger are fetched and replayed, but for those of
    the search that is open: nobody else may be credited with too much, either.
    Receipts are read from `folder` and the head is kept there, so that the next check continues from it.
    """
    genesis = Genesis.from_json(await chain.text("/v1/genesis"))
    receipts = Receipts(folder, read_head(await pool.get("/v1/pool"), genesis.network).pool)
    # Read before the head, which must have all of this: a miner may go on meanwhile.
    promised, earlier = receipts.shares(), [receipts.head(name) for name in ("checked", "latest")]
    head = read_head(await pool.get("/v1/pool"), genesis.network)
    await _check_growth(pool, [known for known in earlier if known is not None], head)
    wrong = receipts.take(head)
    if wrong is not None:
        raise CheckFailed(wrong)
    account = Account(key.address, genesis.consensus.payout_entries)
    entries = await fetch_entries(pool, head, key)
    account.replay(entries)
    findings = Findings(head, account, problems=account.problems)
    _check_receipts(findings, promised)
    findings.problems += account.overdue()
    for epoch in sorted(account.rounds)[-epochs:]:
        await _check_epoch(pool, chain, findings, epoch, account.rounds[epoch])
    await _check_payments(chain, findings, epochs)
    if whole:
        told = _told(entries, head, time.time())
        findings.problems += await inspect_all(pool, head, genesis.consensus.payout_entries, told)
    if not findings.problems:
        receipts.check_off(head)
    return findings


def _told(entries: list[tuple[int, Entry]], head: SignedHead, now: float) -> int:
    """How many entries the pool must tell to all: those before the first of the search that is open."""
    works = [(number, entry.work.work) for number, entry in entries if isinstance(entry, WorkEntry)]
    if not works or now >= works[-1][1].closes:
        return head.size
    return min(number for number, work in works if work.id == works[-1][1].id)


async def _check_growth(pool: NodeClient, earlier: list[SignedHead], head: SignedHead) -> None:
    """The heads of earlier checks and connections must be beginnings of this ledger."""
    for known in earlier:
        if known.size > head.size:
            raise CheckFailed(f"the pool's ledger has shrunk from {known.size} entries to {head.size}")
        await check_beginning(pool, known.size, known.root, head)


def _check_receipts(findings: Findings, known: dict[bytes, int]) -> None:
    findings.receipts = len(known)
    for share, points in known.items():
        found = findings.account.receipt(share)
        if found is None:
            findings.problems.append(f"share {share.hex()[:16]} was acknowledged, but the ledger does not have it")
        elif found < points:
            findings.problems.append(
                f"share {share.hex()[:16]} was acknowledged with {points} points, the ledger has {found}"
            )


async def _check_epoch(pool: NodeClient, chain: NodeClient, findings: Findings, number: int, own: OwnRound) -> None:
    """Every table that the pool revealed in an epoch must give the member its part of the round."""
    try:
        epoch = await chain.get(f"/v1/epochs/{number}", limit=PAGE)
    except Refused as error:
        if error.status == 404:
            return  # the node has not come so far
        raise
    owner = address_text(address_of(findings.head.pool))
    try:
        wanted = [str(item["id"]) for item in epoch["ranking"] if item["owner"] == owner]
    except (KeyError, TypeError) as error:
        raise CheckFailed("the node's answer about an epoch is malformed") from error
    for id in wanted:
        _, result = await _result(chain, id)
        claim = _claim(number, result)
        await _check_first(pool, findings, claim)
        findings.tables.append(_check_table(claim, id, result, own, findings.account))
        if findings.tables[-1].short:
            last = findings.tables[-1]
            findings.problems.append(
                f"epoch {number}, result {id[:16]}: the payout table gives {float(last.part):.6%}, "
                f"the ledger owes {float(last.owed):.6%}"
            )


def _claim(epoch: int, result: dict[str, Any]) -> Claim:
    """The training of a result, an answer of a node."""
    try:
        return epoch, bytes.fromhex(result["genotype"]), tuple(bytes.fromhex(leaf) for leaf in result["leaves"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckFailed("the node's answer about a result is malformed") from error


async def _check_first(pool: NodeClient, findings: Findings, claim: Claim) -> None:
    """Where the ledger says that another member was the first with a training of this one, that must be so."""
    if claim not in findings.account.confirmed:
        return
    number, first = findings.account.confirmed[claim]
    other = await fetch_entry(pool, findings.head, first) if first < number else None
    share = other.signed.share if isinstance(other, ShareEntry) else None
    if (
        share is None
        or share.address == findings.account.member
        or claim != (share.epoch, share.genotype, share.leaves)
    ):
        findings.problems.append(
            f"entry {number}: the share counts as the second of its kind, but entry {first} is not the first"
        )


def _check_table(claim: Claim, id: str, result: dict[str, Any], own: OwnRound, account: Account) -> TableCheck:
    """The member's part of the table of `result`, an answer of a node, against its part of the round."""
    try:
        weights = {line.address: line.weight for line in read_payouts(result)}
        seated = bool(result["seated"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckFailed("the node's answer about a result is malformed") from error
    finder = account.member if claim in account.finds else _STRANGER
    fair = table(own.entry.credits, finder, account.limit, own.entry.terms)
    part, owed = (
        Fraction(lines.get(account.member, 0), sum(lines.values()))
        for lines in (weights, {line.address: line.weight for line in fair})
    )
    return TableCheck(claim[0], id, seated, part, owed)


def read_payouts(result: dict[str, Any]) -> tuple[Payout, ...]:
    """The payout table in a node's answer, within its limits. Raises KeyError, TypeError or ValueError."""
    lines = tuple(Payout(parse_address(line["address"]), line["weight"]) for line in result["payouts"])
    try:
        return _Table.decode(_Table(bytes(20), lines).encode()).payouts
    except (BadEncoding, OverflowError) as error:
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
        return True, await chain.get(f"/v1/results/{id}")
    except Refused as error:
        if error.status == 404:
            return False, {}
        raise
