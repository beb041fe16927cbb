"""What is a block, and what does it do to the ledger? Knows nothing of neural networks."""
