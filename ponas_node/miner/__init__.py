"""How does a miner search? Training in child processes, for a pool or alone."""
