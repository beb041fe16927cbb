"""The results of all searches that a pool remembers, as the ledger tells them, and what earlier ones left."""

from __future__ import annotations

from pool import snapshot
from pool.errors import PoolFault
from pool.ledger import Ledger
from pool.records import Share, ShareEntry, WorkRecord
from pool.search import Archive
from pool.subspace import Domain
from pool.work import Candidate, Work


class Results:
    """Changes as the ledger's entries say. `work` is the current search, `archives` are all by work id, oldest first.

    `heritage` are the best genotypes that the latest search of each task left. At most `kept` searches are remembered.
    `began` is the ledger entry with which the current search began.
    """

    def __init__(self, least_subspaces: int, starting_points: int, kept: int) -> None:
        self.work: Work | None = None
        self.archives: dict[bytes, tuple[Work, Archive]] = {}
        self.heritage: dict[bytes, tuple[bytes, ...]] = {}
        self.began = 0
        self._least_subspaces, self._starting_points, self._kept = least_subspaces, starting_points, kept
        self._numbers: dict[bytes, dict[bytes, int]] = {}  # ledger entries of results, by work and genotype

    @property
    def archive(self) -> Archive | None:
        """Results of the current search."""
        return self.archives[self.work.id][1] if self.work is not None else None

    def begin(self, number: int, work: Work) -> None:
        """Entry `number`: a search begins, or goes on with other limits of time."""
        if self.work is None or work.id != self.work.id:
            self.began = number
            if self.work is not None:
                self.heritage[self.work.task] = self.archives[self.work.id][1].heritage(self._starting_points)
        _, archive = self.archives.pop(work.id, (work, None))
        if archive is None:
            archive = Archive(Domain(work.spec, self._least_subspaces), self.heritage.get(work.task, ()))
        self.work, self.archives[work.id] = work, (work, archive)
        while len(self.archives) > self._kept:
            oldest = next(iter(self.archives))
            del self.archives[oldest]
            self._numbers.pop(oldest, None)

    def add(self, number: int, share: Share) -> None:
        """A result of the search that the share names, from entry `number`; the first one of an architecture stands."""
        for work, archive in reversed(self.archives.values()):
            if (work.epoch, work.task) == (share.epoch, share.task):
                if share.genotype not in archive:
                    self._numbers.setdefault(work.id, {})[share.genotype] = number
                archive.add(
                    Candidate(
                        share.genotype, share.leaves, share.model, share.model_bytes, share.validation_correct,
                        work.validation_samples, share.address,
                    )
                )  # fmt: skip
                return

    def void(self, number: int) -> None:
        """The result of entry `number` is false."""
        for id, numbers in self._numbers.items():
            for genotype in [genotype for genotype, known in numbers.items() if known == number]:
                self.archives[id][1].remove(genotype)

    def refute(self, member: bytes) -> None:
        """All results of a member are worth nothing."""
        for _, archive in self.archives.values():
            for result in [result for result in archive if result.finder == member]:
                archive.remove(result.genotype)

    def number_of(self, work: bytes, genotype: bytes) -> int | None:
        """The ledger entry of a result that is there now."""
        found = self.archives.get(work)
        return self._numbers[work].get(genotype) if found is not None and genotype in found[1] else None

    def states(self) -> tuple[tuple[snapshot.ArchiveState, ...], tuple[snapshot.Heritage, ...]]:
        """For a snapshot: archives and heritage."""
        archives = tuple(
            snapshot.ArchiveState(
                WorkRecord.of(work),
                archive.starting_points,
                tuple(self._numbers[id][genotype] for genotype in archive.genotypes()),
            )
            for id, (work, archive) in self.archives.items()
        )
        return archives, tuple(snapshot.Heritage(task, genotypes) for task, genotypes in self.heritage.items())

    def restore(self, found: snapshot.Snapshot, ledger: Ledger) -> None:
        """Take over a snapshot of `ledger`. Raises PoolFault where it names what is no share."""
        self.began = found.began
        self.heritage = {heritage.task: heritage.genotypes for heritage in found.heritage}
        for state in found.archives:
            self.work = work = state.work.work
            domain = Domain(work.spec, self._least_subspaces)
            self.archives[work.id] = work, Archive(domain, state.starting_points)
            for number in state.entries:
                entry = ledger.entry(number)
                if not isinstance(entry, ShareEntry):
                    raise PoolFault(f"entry {number} of the pool's ledger is no share")
                self.add(number, entry.signed.share)
