"""Which results are checked by a second training, and how each check ended. Durable in records of its own.

A *double lease* gives an architecture that has a result to another member, who cannot tell it from other leases. New
members' shares are checked often, and those of members whose shares passed many checks seldom; whatever is among the
best of its search when it comes in is always checked.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated

from chain.encoding import U8, U32, U64, Record, Size
from chain.errors import BadEncoding
from chain.hashing import digest
from pool.errors import PoolFault
from pool.records import SignedShare
from pool.storage import Storage, Writes

CHECKS, STANDINGS, SECRET = b"q/c", b"q/s", b"q/k"
WAITING, PASSED, DISPUTED, REPLAYED = range(4)
"""Of a check: wants a second result; two members agree; they disagree; the pool itself trained it and agrees."""


@dataclass(frozen=True, slots=True)
class AuditPolicy:
    """Of every `block` shares of a member, `new` are checked until `probation` of them have passed, then `trusted`.

    The `best` results of a search are checked in any case. With `new` 0 and `best` 0 nothing is leased twice.
    """

    block: int = 16
    new: int = 9
    trusted: int = 2
    probation: int = 64
    best: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.trusted <= self.new <= self.block or self.block < 1:
            raise ValueError("an audit policy needs 0 <= trusted <= new <= block, and a block of at least one share")


@dataclass(frozen=True, slots=True)
class Standing(Record):
    """Of one member: `left` shares to come in this block, `due` of which are to be checked; checks passed in all."""

    shares: U64 = 0
    left: U32 = 0
    due: U32 = 0
    passed: U64 = 0


@dataclass(frozen=True, slots=True)
class Check(Record):
    """Of one result: how its check stands, and what others handed in: the same, credited; or another, contested."""

    state: U8
    same: Annotated[tuple[SignedShare, ...], Size(0, 16)] = ()
    against: Annotated[tuple[SignedShare, ...], Size(0, 16)] = ()


class Audits:
    """The checks of all works that the pool remembers, by work id and genotype."""

    def __init__(self, storage: Storage, policy: AuditPolicy, fresh_secret: bytes) -> None:
        """Raises PoolFault where the storage is damaged. `fresh_secret` is used where the storage has none."""
        self._storage, self._policy = storage, policy
        known = storage.get(SECRET)
        if known is None:
            storage.put(SECRET, fresh_secret)
        self._secret = known or fresh_secret
        self._standings: dict[bytes, Standing] = {}
        self._checks: dict[tuple[bytes, bytes], Check] = {}
        self._places: dict[tuple[int, bytes], dict[bytes, None]] = {}  # genotypes by state and work
        self._best: dict[bytes, list[int]] = {}
        try:
            for key, value in storage.iterate(STANDINGS):
                self._standings[key[len(STANDINGS) :]] = Standing.decode(value)
            for key, value in storage.iterate(CHECKS):
                work, genotype = key[len(CHECKS) :][:32], key[len(CHECKS) + 32 :]
                self._set(work, genotype, Check.decode(value, 1 << 20))
        except BadEncoding as error:
            raise PoolFault(f"a record of the pool's checks is damaged: {error}") from error

    def passed(self, member: bytes) -> int:
        """How many checks a member's shares have passed."""
        return self._standings.get(member, Standing()).passed

    def get(self, work: bytes, genotype: bytes) -> Check | None:
        """The check of a result; None where it was not chosen for one."""
        return self._checks.get((work, genotype))

    def checks(self, state: int) -> Iterator[tuple[bytes, bytes]]:
        """Work and genotype of all checks in `state`, by work."""
        places = self._places.items()
        return iter([(work, genotype) for (found, work), all in places if found == state for genotype in all])

    def waiting(self, work: bytes) -> Collection[bytes]:
        """Genotypes of a work that want a second result, those first that were not looked at for longest."""
        return self._places.get((WAITING, work), {}).keys()

    def postpone(self, work: bytes, genotypes: Iterable[bytes]) -> None:
        """These were looked at: others of those that wait come first the next time."""
        places = self._places.get((WAITING, work), {})
        for genotype in genotypes:
            if genotype in places:
                del places[genotype]
                places[genotype] = None

    def count(self, work: bytes, state: int) -> int:
        """How many checks of a work are in `state`."""
        return len(self._places.get((state, work), ()))

    def drawn(self, work: bytes, genotype: bytes) -> bytes:
        """A number that nobody outside can foresee, to draw by."""
        return digest("ponas/pool-draw", self._secret, work, genotype)

    def trusts(self, member: bytes) -> bool:
        """Whether so many of a member's shares have passed that few are checked."""
        return self.passed(member) >= self._policy.probation

    def enter(
        self, work: bytes, genotype: bytes, member: bytes, correct: int, share: bytes, doubtful: bool = False
    ) -> Writes:
        """A first result came in: choose whether to check it, as in any case where it is `doubtful`.

        Returns the changes to store, as all methods below.
        """
        chosen = self._enters_best(work, correct) or doubtful
        standing = self._next_of_block(member)
        coin = int.from_bytes(digest("ponas/pool-audit", self._secret, share)[:8], "big") >> 11
        chosen = chosen or coin * standing.left < standing.due << 53
        writes = self._count(member, standing, chosen, passed=0)
        return writes + self.put(work, genotype, Check(WAITING)) if chosen else writes

    def compare(self, work: bytes, genotype: bytes, finder: bytes, signed: SignedShare, same: bool) -> Writes:
        """A second member handed in the `same` result as `finder`, or another: then only a replay can tell."""
        check = self._checks.get((work, genotype), Check(WAITING))
        member = signed.share.address
        writes = self._count(member, self._next_of_block(member), True, passed=int(same))
        if not same:
            return writes + self.put(work, genotype, replace(check, state=DISPUTED, against=(*check.against, signed)))
        writes += self._pass(finder)
        return writes + self.put(work, genotype, replace(check, state=PASSED, same=(*check.same, signed)))

    def replayed(self, work: bytes, genotype: bytes, finder: bytes) -> Writes:
        """The pool trained it again, whole, and found the same as `finder`."""
        check = self._checks.get((work, genotype), Check(WAITING))
        return self._pass(finder) + self.put(work, genotype, replace(check, state=REPLAYED))

    def put(self, work: bytes, genotype: bytes, check: Check | None) -> Writes:
        """Set or with None forget the check of a result."""
        self._set(work, genotype, check)
        return [(CHECKS + work + genotype, check.encode() if check is not None else None)]

    def keep_only(self, works: set[bytes]) -> Writes:
        """Forget the checks of all other works."""
        old = [key for key in self._checks if key[0] not in works]
        for work in [work for work in self._best if work not in works]:
            del self._best[work]
        return [change for work, genotype in old for change in self.put(work, genotype, None)]

    def see_best(self, work: bytes, scores: list[int]) -> None:
        """After a start, or when results were removed: the best scores of a work now."""
        self._best[work] = sorted(scores)[-self._policy.best :] if self._policy.best else []

    def _set(self, work: bytes, genotype: bytes, check: Check | None) -> None:
        old = self._checks.pop((work, genotype), None)
        if old is not None and (check is None or check.state != old.state):
            places = self._places[old.state, work]
            del places[genotype]
            if not places:
                del self._places[old.state, work]
        if check is not None:
            self._checks[work, genotype] = check
            self._places.setdefault((check.state, work), {}).setdefault(genotype)

    def _enters_best(self, work: bytes, correct: int) -> bool:
        best = self._best.setdefault(work, [])
        if len(best) >= self._policy.best and (not best or correct <= best[0]):
            return False
        insort(best, correct)
        del best[: -self._policy.best]
        return True

    def _next_of_block(self, member: bytes) -> Standing:
        standing = self._standings.get(member, Standing())
        if standing.left:
            return standing
        policy = self._policy
        due = policy.trusted if self.trusts(member) else policy.new
        return replace(standing, left=policy.block, due=due)

    def _count(self, member: bytes, standing: Standing, checked: bool, passed: int) -> Writes:
        """One more share of a block."""
        due = max(0, standing.due - 1) if checked else standing.due
        standing = Standing(standing.shares + 1, standing.left - 1, due, standing.passed + passed)
        return self._store(member, standing)

    def _pass(self, member: bytes) -> Writes:
        standing = self._standings.get(member, Standing())
        return self._store(member, replace(standing, passed=standing.passed + 1))

    def _store(self, member: bytes, standing: Standing) -> Writes:
        self._standings[member] = standing
        return [(STANDINGS + member, standing.encode())]
