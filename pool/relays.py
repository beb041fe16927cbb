"""Checkpoints that members upload on the way, so that others can go on from there. Durable in records of its own.

Of each lease and architecture the latest is kept, until the architecture has its result. Who was *handed* one is kept
with the lease that it was handed to, and after the share came in as that share's *origin*: leaves that were another
member's claim before are not held against whoever went on from them.
"""

from __future__ import annotations

from dataclasses import dataclass

from chain.encoding import U64, Record
from chain.errors import BadEncoding
from pool.errors import PoolFault
from pool.records import Share, SignedCheckpoint
from pool.storage import Storage, Writes

KEPT, HANDED, ORIGINS = b"k/c", b"k/h", b"k/o"


@dataclass(frozen=True, slots=True)
class Kept(Record):
    """A checkpoint whose state is stored, and when it came in."""

    at: U64
    signed: SignedCheckpoint


class Relays:
    """All checkpoints of the current work by architecture and lease, and the origins of results of all works.

    `most_bytes` is the room for states; who takes up most of it loses its oldest ones first.
    """

    def __init__(self, storage: Storage, most_bytes: int) -> None:
        """Raises PoolFault where the storage is damaged."""
        self._storage, self._most = storage, most_bytes
        self._kept: dict[bytes, dict[int, Kept]] = {}
        self._handed: dict[bytes, dict[int, SignedCheckpoint]] = {}
        self._origins: dict[tuple[bytes, bytes, bytes], SignedCheckpoint] = {}
        self._bytes: dict[bytes, int] = {}  # by member
        try:
            for key, value in storage.iterate(KEPT):
                self._enter(_lease(key), Kept.decode(value))
            for key, value in storage.iterate(HANDED):
                self._handed.setdefault(key[len(HANDED) + 8 :], {})[_lease(key)] = SignedCheckpoint.decode(value)
            for key, value in storage.iterate(ORIGINS):
                key = key[len(ORIGINS) :]
                self._origins[key[:32], key[52:], key[32:52]] = SignedCheckpoint.decode(value)
        except BadEncoding as error:
            raise PoolFault(f"a record of the pool's checkpoints is damaged: {error}") from error

    def states(self) -> set[bytes]:
        """The states that are wanted, by their hashes."""
        return {kept.signed.checkpoint.state for found in self._kept.values() for kept in found.values()}

    def kept(self, genotype: bytes) -> dict[int, SignedCheckpoint]:
        """What there is of an architecture, by lease."""
        return {lease: kept.signed for lease, kept in self._kept.get(genotype, {}).items()}

    def handed(self, lease: int, genotype: bytes) -> SignedCheckpoint | None:
        """The other member's checkpoint that the holder of a lease was given to go on from."""
        return self._handed.get(genotype, {}).get(lease)

    def origin(self, work: bytes, genotype: bytes, member: bytes) -> SignedCheckpoint | None:
        """The other member's checkpoint that a member's result went on from."""
        return self._origins.get((work, genotype, member))

    def results_from(self, uploader: bytes) -> list[tuple[bytes, bytes]]:
        """Results, by work and genotype, that went on from a checkpoint of `uploader`."""
        return [key[:2] for key, signed in self._origins.items() if signed.checkpoint.address == uploader]

    def went_on_from(self, share: Share) -> SignedCheckpoint | None:
        """The checkpoint of which a share has the first leaves, where its lease was handed one."""
        signed = self.handed(share.lease, share.genotype)
        if signed is None or share.leaves[: len(signed.checkpoint.leaves)] != signed.checkpoint.leaves:
            return None
        return signed

    def contradicted(self, share: Share) -> bool:
        """Whether another member uploaded a checkpoint of the same architecture with other leaves."""
        others = [*self.kept(share.genotype).values(), *self._handed.get(share.genotype, {}).values()]
        return any(
            share.leaves[: len(signed.checkpoint.leaves)] != signed.checkpoint.leaves
            for signed in others
            if signed.checkpoint.address != share.address
        )

    # --- changes; all return what is to be stored

    def keep(self, signed: SignedCheckpoint, at: int) -> Writes:
        """The state of a checkpoint is stored: it takes the place of the lease's earlier one."""
        checkpoint, kept = signed.checkpoint, Kept(at, signed)
        self._leave(checkpoint.lease, checkpoint.genotype)
        self._enter(checkpoint.lease, kept)
        return [(_key(KEPT, checkpoint.lease, checkpoint.genotype), kept.encode()), *self._make_room()]

    def hand(self, lease: int, genotype: bytes, signed: SignedCheckpoint) -> Writes:
        """The holder of a lease gets another member's checkpoint to go on from."""
        self._handed.setdefault(genotype, {})[lease] = signed
        return [(_key(HANDED, lease, genotype), signed.encode())]

    def finished(self, genotype: bytes) -> Writes:
        """An architecture got its result: nobody needs to go on."""
        return [
            *((_key(HANDED, lease, genotype), None) for lease in self._handed.pop(genotype, ())),
            *(change for lease in list(self._kept.get(genotype, ())) for change in self._drop(lease, genotype)),
        ]

    def set_origin(self, work: bytes, share: Share, signed: SignedCheckpoint) -> Writes:
        """A share that went on from another member's checkpoint is a result now."""
        self._origins[work, share.genotype, share.address] = signed
        return [(ORIGINS + work + share.address + share.genotype, signed.encode())]

    def forget_origin(self, work: bytes, genotype: bytes, member: bytes) -> Writes:
        """The result is gone."""
        self._origins.pop((work, genotype, member), None)
        return [(ORIGINS + work + member + genotype, None)]

    def evict(self, member: bytes) -> Writes:
        """A member lost its place: nobody should go on from its states."""
        mine = [
            (lease, genotype)
            for genotype, found in self._kept.items()
            for lease, kept in found.items()
            if kept.signed.checkpoint.address == member
        ]
        return [change for lease, genotype in mine for change in self._drop(lease, genotype)]

    def clear(self) -> Writes:
        """The work changed: all trainings are over."""
        self._kept.clear()
        self._handed.clear()
        self._bytes.clear()
        return [(key, None) for prefix in (KEPT, HANDED) for key, _ in self._storage.iterate(prefix)]

    def keep_only(self, works: set[bytes]) -> Writes:
        """Forget the origins of all other works."""
        old = [key for key in self._origins if key[0] not in works]
        return [change for key in old for change in self.forget_origin(*key)]

    def _enter(self, lease: int, kept: Kept) -> None:
        checkpoint = kept.signed.checkpoint
        self._kept.setdefault(checkpoint.genotype, {})[lease] = kept
        self._bytes[checkpoint.address] = self._bytes.get(checkpoint.address, 0) + checkpoint.state_bytes

    def _leave(self, lease: int, genotype: bytes) -> None:
        found = self._kept.get(genotype, {})
        if lease not in found:
            return
        checkpoint = found.pop(lease).signed.checkpoint
        if not found:
            del self._kept[genotype]
        self._bytes[checkpoint.address] -= checkpoint.state_bytes
        if not self._bytes[checkpoint.address]:
            del self._bytes[checkpoint.address]

    def _drop(self, lease: int, genotype: bytes) -> Writes:
        self._leave(lease, genotype)
        return [(_key(KEPT, lease, genotype), None)]

    def _make_room(self) -> Writes:
        changes: Writes = []
        while sum(self._bytes.values()) > self._most:
            most = max(self._bytes, key=lambda member: (self._bytes[member], member))
            _, lease, genotype = min(
                (kept.at, lease, genotype)
                for genotype, found in self._kept.items()
                for lease, kept in found.items()
                if kept.signed.checkpoint.address == most
            )
            changes += self._drop(lease, genotype)
        return changes


def _key(prefix: bytes, lease: int, genotype: bytes) -> bytes:
    return prefix + lease.to_bytes(8, "big") + genotype


def _lease(key: bytes) -> int:
    return int.from_bytes(key[3:11], "big")
