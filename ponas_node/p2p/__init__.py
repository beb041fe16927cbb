"""Peers: how does a node learn what the others know, and tell them what it knows?

Transport
    WebSocket at `/p2p`, no compression. A binary frame is one type byte and the canonical encoding
    (`chain.encoding.Record`) of the message of that type (`messages.py`). Sizes and rates of every type stand in one
    table (`limits.py`); sizes are checked before parsing, and a frame beyond `MAX_FRAME` is not even read.

Handshake (`handshake.py`)
    Both sides send `Hello`: version, network id, genesis block, node key, nonce, agent, listen address, height and tip.
    Each answers with `Auth`, an Ed25519 signature over digest("ponas/handshake", network, own role, key and nonce of
    the dialler, key and nonce of the listener). It must be done within 10 seconds. A node refuses itself, another
    version, another network or genesis, a banned key, and a second connection to a node that it already has: of two
    connections in opposite directions the one that the smaller node key dialled stays.
    Who is refused or dropped gets a `Goodbye` with a code and a sentence, and `Network.refusals` keeps the last few.

Gossip (`inventory.py`, `gossip.py`)
    `Announce(kind, ids)`, then `Request(kind, ids)`, then `Transaction` or `Block` frames, or `NotFound(kind, ids)`.
    A beacon is a transaction. What was not asked for is unsolicited and costs points. An unanswered request goes to
    another peer that announced the same id. `GetPending` asks for announcements of all pending transactions.
    `Tip(height, id)` tells of a change of tip.

Catch-up (`sync.py`)
    `GetBlocks(request, locator)` is answered by `Blocks(request, blocks)`: what follows the first id of the locator
    that is on the answerer's best chain, at most 128 blocks and 512 KiB (or one block). An empty answer says: level.

Artifacts (`artifacts.py`)
    `GetArtifact(request, id)` is answered by `ArtifactInfo(request, size, hashes)`; hashes that do not lead to the id
    are refused. `GetChunk(request, id, index)` is answered by `Chunk(request, found, data)`, 64 KiB each, checked
    against its hash.

Addresses
    `GetPeers(request)` is answered by `Peers(request, addresses)`.

Misbehaviour (`scoring.py`)
    Points per misdeed, which fade with time; at 100 the peer is dropped and its key and address are banned for a while.
    Whoever sends faster than the table allows is read more slowly; only gross excess costs points as well.
"""

from ponas_node.p2p.errors import PortInUse, Refused
from ponas_node.p2p.host import ChainView, Host
from ponas_node.p2p.info import PeerInfo, Refusal, SyncStatus
from ponas_node.p2p.network import Network
from ponas_node.p2p.settings import NetworkSettings

__all__ = [
    "ChainView",
    "Host",
    "Network",
    "NetworkSettings",
    "PeerInfo",
    "PortInUse",
    "Refusal",
    "Refused",
    "SyncStatus",
]
