"""Blocks from a peer."""

from __future__ import annotations

from chain.errors import BadEncoding
from chain.types import MAX_BLOCK, Block
from ponas_node.p2p import messages as m
from ponas_node.p2p.errors import Misbehaviour
from ponas_node.p2p.session import Session


async def fetch_blocks(session: Session, locator: tuple[bytes, ...], timeout: float) -> list[Block]:
    """A batch of those that follow the first id of `locator` on the peer's best chain; none where it has none.

    Nothing but their encoding is checked. Raises RequestFailed, Misbehaviour.
    """
    reply = await session.request(lambda number: m.GetBlocks(number, locator), m.Blocks, timeout)
    try:
        return [Block.decode(raw, MAX_BLOCK) for raw in reply.blocks]
    except BadEncoding as error:
        raise Misbehaviour("malformed", str(error)) from error
