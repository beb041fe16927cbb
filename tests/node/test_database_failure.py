"""A node whose database fails stops, whichever part of it was the first to notice."""

from __future__ import annotations

from pathlib import Path

import plyvel
import pytest

from chain.failures import StoreError
from chain.keys import PrivateKey
from chain.types import Block
from ponas_node.config import NodeConfig
from ponas_node.node import Node
from ponas_node.testnet.genesis import testnet_genesis as make_genesis

KEY = PrivateKey(bytes(32))


class FullDisk:
    """A database that can be read, but not written to."""

    def __init__(self, db: plyvel.DB) -> None:
        self._db = db

    def __getattr__(self, name: str):
        if name in ("put", "write_batch"):
            raise plyvel.IOError(b"IO error: 000003.log: No space left on device")
        return getattr(self._db, name)


@pytest.mark.parametrize("part", ["facts", "blocks"])
async def test_a_full_disk_stops_the_node(tmp_path: Path, caplog, part: str) -> None:
    genesis = make_genesis(0, (KEY.public,), (KEY.address,))
    node = Node(NodeConfig(data=tmp_path / "data", prover_delay=-1), genesis, KEY)
    slot = node.slot()
    seat = node.rules.leader(node.chain.state, node.chain.tip, slot)
    header, transactions = node.chain.draft(slot, seat, KEY.public, ())
    block = Block(header.signed(KEY, node.network), transactions)
    store = node.store
    real = store._db
    store._db = FullDisk(real)
    store.facts._db = FullDisk(store.facts._db)
    assert not node.failed.is_set()
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            if part == "facts":
                store.facts.put(b"key", b"")
            else:
                await node.receive_block(block, None)
        assert caught.value.code == "disk_full"
    assert node.failed.is_set() and node.chain.height == 0
    told = [record.message for record in caplog.records if "the node stops" in record.message]
    assert len(told) == 1 and "Free some space" in told[0]
    store._db = real
    await node.stop()
