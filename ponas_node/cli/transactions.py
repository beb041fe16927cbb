"""Making and sending transactions from the command line: network, nonce and fee come from the node."""

from __future__ import annotations

from pathlib import Path

from chain.encoding import AMOUNT_MAX, Record
from chain.keys import PrivateKey, address_text
from chain.types import Kind, Transaction, sign_transaction
from consensus.genesis import Genesis
from ponas_node.cli.errors import UserError
from ponas_node.cli.node import read_genesis
from ponas_node.client import NodeClient
from ponas_node.units import format_amount


async def fetch_genesis(client: NodeClient, pinned: Path | None) -> Genesis:
    """The node's genesis; it must be that of the file `pinned`, if one is given. Raises BadGenesis, UserError."""
    genesis = Genesis.from_json(await client.text("/v1/genesis"))
    if pinned is not None and read_genesis(pinned).network != genesis.network:
        raise UserError(
            f"The node at {client.url} belongs to network {genesis.network.hex()[:16]}, not to that of {pinned}. "
            "Ask another node with --node."
        )
    return genesis


async def make_transaction(
    client: NodeClient, genesis: Genesis, key: PrivateKey, kind: Kind, body: Record, fee: int | None, spends: int
) -> Transaction:
    """A signed transaction; `fee` None takes the least. `spends`: what it takes from the account beside the fee.

    Raises UserError where the account does not hold enough.
    """
    account = await client.get(f"/v1/accounts/{address_text(key.address)}")
    balance, nonce = int(account["balance"]), int(account["next_nonce"])
    if fee is None:
        # The largest fee gives the largest encoding, so this is enough whatever the fee turns out to be.
        largest = sign_transaction(key, genesis.network, kind, nonce, AMOUNT_MAX, body)
        fee = len(largest.raw) * genesis.ledger.fee_per_byte
    if balance < spends + fee:
        immature = int(account.get("immature", 0))
        later = f"; {format_amount(immature)} more are not mature yet" if immature else ""
        raise UserError(
            f"{address_text(key.address)} holds {format_amount(balance)}, but {format_amount(spends)} and a fee of "
            f"{format_amount(fee)} are needed{later}."
        )
    return sign_transaction(key, genesis.network, kind, nonce, fee, body)
