"""State after a restart equals state before: from a snapshot, from a damaged one, and from the entries alone."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.merkle import merkle_root
from consensus.types import Payout
from pool import snapshot
from pool.errors import NoLease, PoolFault
from pool.ledger import HEAD, PREFIX, Ledger, decode_entry
from pool.pool import Pool
from pool.records import ShareEntry, Terms
from pool.storage import MemoryStorage
from tests.pool.kit import NOW, SAMPLES, key, make_settings, make_work, submit

MEMBERS = [key(number) for number in range(5)]
TERMS = [
    Terms(),
    Terms(fee=250, operator=key(9).address),
    Terms("pplns", 500),
    Terms("pplns", 2000, 100, key(9).address, 40),
    Terms(minimum=300),
]


def opened(storage: MemoryStorage, terms: Terms) -> Pool:
    return Pool(storage, make_settings(terms=terms, snapshot_entries=5, works_kept=3), random.Random(1))


def state(pool: Pool) -> object:
    """All that the ledger's entries add up to."""
    archives = [(work, list(archive), archive.starting_points) for work, archive in pool.archives.values()]
    return (
        snapshot.state_of(pool.book),
        archives,
        pool.results.heritage,
        pool.book.owed(),
        len(pool.ledger),
        pool.ledger.root,
    )


def live(seed: int, steps: int) -> tuple[Pool, MemoryStorage, Terms]:
    """A pool after random events: works that come and go and return, shares, rounds, payments, bans, terms."""
    rng, storage, terms, epoch = random.Random(seed), MemoryStorage(), TERMS[0], 1
    pool = opened(storage, terms)
    pool.set_work(make_work(1), NOW)
    for step in range(steps):
        what = rng.choices(
            ["share", "work", "round", "paid", "void", "refute", "ban", "unban", "terms", "tick"],
            [30, 3, 4, 2, 1, 0.3, 1, 1, 1, 3],
        )[0]
        found = pool.candidates(3)
        member = rng.choice(MEMBERS)
        if what == "share":
            try:
                lease = pool.lease(member.address, b"w", NOW)
            except NoLease as refused:
                assert refused.code == "banned"
                continue
            submit(pool, lease, rng.choice(lease.genotypes), member, rng.randint(0, SAMPLES))
        elif what == "work":
            epoch += rng.random() < 0.7
            pool.set_work(make_work(epoch, seed=rng.choice([b"a" * 32, b"b" * 32])), NOW)
        elif what == "round" and found:
            assert len(pool.payouts_for(rng.choice(found), 4)) <= 4
        elif what == "paid" and pool.book.rounds:
            number = rng.choice(sorted(pool.book.rounds))
            pool.table_paid(rng.randbytes(32), number, (Payout(member.address, 1),))
        elif what == "void" and pool.book.open_rounds:
            pool.round_void(rng.choice(sorted(pool.book.open_rounds)))
        elif what == "refute" and found:
            pool.refute(found[0].genotype, found[0].leaves, "not what the recipe trains", NOW)
        elif what == "ban":
            pool.ban(member.address, f"reason {step}", NOW)
        elif what == "unban":
            pool.unban(member.address, NOW)
        elif what == "terms":
            terms = rng.choice(TERMS)
            pool = opened(storage, terms)
            pool.set_work(pool.work, NOW)
        elif what == "tick":
            pool.tick(NOW)
    return pool, storage, terms


@settings(max_examples=40, deadline=None, print_blob=True)
@given(st.integers(0, 2**32))
def test_a_restart_changes_nothing(seed):
    pool, storage, terms = live(seed, 120)
    expected = state(pool)
    assert state(opened(storage.copy(), terms)) == expected
    replayed = storage.copy()
    replayed.delete(snapshot.KEY)
    assert state(opened(replayed, terms)) == expected
    pool.save_snapshot()
    assert state(opened(storage.copy(), terms)) == expected
    entries = [value for _, value in storage.iterate(PREFIX)]
    assert merkle_root(entries) == pool.ledger.root


@pytest.mark.parametrize("damage", ["hash", "content", "short", "other_ledger", "longer"])
def test_a_snapshot_that_does_not_belong_here_is_not_used(damage, caplog):
    pool, storage, terms = live(3, 80)
    pool.save_snapshot()
    value = bytearray(storage.get(snapshot.KEY))
    if damage == "hash":
        value[0] ^= 1
    elif damage == "content":
        value[-1] ^= 1
    elif damage == "short":
        del value[40:]
    else:
        found = snapshot.load(storage, pool.ledger)
        changes = {"root": bytes(32)} if damage == "other_ledger" else {"size": found.size + 1}
        snapshot.save(storage, dataclasses.replace(found, **changes))
        value = storage.get(snapshot.KEY)
    storage.put(snapshot.KEY, bytes(value))
    assert state(opened(storage, terms)) == state(pool)
    assert "replayed" in caplog.text


def test_indexes_find_what_a_scan_finds():
    _, storage, _ = live(11, 200)
    entries = [decode_entry(value) for _, value in storage.iterate(PREFIX)]
    ledger = Ledger(storage)
    for member in MEMBERS:
        scanned = [
            number for number, entry in enumerate(entries)
            if (entry.signed.share.address if isinstance(entry, ShareEntry) else getattr(entry, "member", b""))
            == member.address
        ]  # fmt: skip
        assert ledger.page(member.address, None, 1000) == scanned[::-1]
        assert ledger.page(member.address, 5, 3) == scanned[2:5][::-1]
        assert ledger.count(member.address) == len(scanned)
    general = ledger.page(b"", None, 1000)
    assert len(general) + sum(ledger.count(member.address) for member in MEMBERS) == len(entries)
    assert ledger.page(b"", 0, 10) == []


def test_a_damaged_ledger_is_a_fault():
    pool, storage, terms = live(5, 60)
    broken = storage.copy()
    broken.put(HEAD, (len(pool.ledger)).to_bytes(8, "big") + bytes(32))
    with pytest.raises(PoolFault, match="root"):
        opened(broken, terms)
    broken = storage.copy()
    broken.delete(snapshot.KEY)
    broken.delete(PREFIX + (3).to_bytes(8, "big"))
    with pytest.raises(PoolFault, match="no entry 3"):
        opened(broken, terms)
