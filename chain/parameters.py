"""Network parameters that the ledger needs. They come from the genesis file."""

from __future__ import annotations

from dataclasses import dataclass

from chain.encoding import U32, U64, Amount, Record


@dataclass(frozen=True, slots=True)
class LedgerParameters(Record):
    """Limits and prices of the ledger. Amounts are in the smallest unit, depths in blocks or slots as named."""

    coinbase_maturity: U32  # blocks until a coinbase output can be spent
    max_rollback: U32  # slots: a reorganisation deeper than this is refused
    max_block_bytes: U32
    fee_per_byte: Amount
    subsidy: Amount  # per block, before the first halving
    halving_blocks: U64  # the subsidy halves every so many blocks

    def subsidy_at(self, height: int) -> int:
        """New coins that the block at `height` creates. Source: protocol L9."""
        halvings = (height - 1) // self.halving_blocks
        return self.subsidy >> halvings if halvings < 64 else 0
