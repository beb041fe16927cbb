"""What an opened database is: new, of this network, of this layout, or of an older one that is brought up to date."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from chain import layout
from chain.failures import StoreError, corrupt, other_network


def check_meta(db: Any, path: Path, network: bytes) -> None:
    """Describe a new database; migrate an old one; refuse what is not of this network or of a newer layout."""
    # With checksums from the first read on: a block that is in LevelDB's cache is never looked at again.
    schema = db.get(layout.META_SCHEMA, verify_checksums=True)
    stored = db.get(layout.META_NETWORK, verify_checksums=True)
    if schema is None and stored is None:
        with db.iterator(include_value=False, verify_checksums=True) as keys:
            if next(keys, None) is not None:
                raise corrupt(path, "it holds data but does not say of which network")
        with db.write_batch(sync=True) as batch:
            batch.put(layout.META_SCHEMA, layout.SCHEMA.to_bytes(4, "big"))
            batch.put(layout.META_NETWORK, network)
            batch.put(layout.META_INDEXES, layout.INDEXES.to_bytes(4, "big"))
        return
    if schema is None or stored is None or len(schema) != 4:
        raise corrupt(path, "its description is incomplete")
    version = int.from_bytes(schema, "big")
    if version > layout.SCHEMA:
        message = f"The database in {path} has layout {version}; this program reads up to {layout.SCHEMA}."
        raise StoreError("newer_schema", message, "Install a newer version, or use another data directory.")
    if stored != network:
        raise other_network(path, f"belongs to network {stored.hex()[:16]}, not {network.hex()[:16]}")
    if version < 1:
        raise corrupt(path, "its layout is numbered 0")
    for step in range(version, layout.SCHEMA):
        with db.write_batch(transaction=True, sync=True) as batch:
            _STEPS[step](db, batch)
            batch.put(layout.META_SCHEMA, (step + 1).to_bytes(4, "big"))


def _from_1(db: Any, batch: Any) -> None:
    """Layout 2 has indexes of blocks by owner and of the state: mark all indexes as incomplete."""
    batch.delete(layout.META_INDEXES)


# By the version from which a step leads to the next. Each writes to one batch, so that a kill leaves one or the other.
_STEPS: dict[int, Callable[[Any, Any], None]] = {1: _from_1}
