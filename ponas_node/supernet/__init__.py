"""Proposals from a supernet: all cells of `nb201-v1` trained at once, with shared weights (docs/pool-supernet.md)."""
