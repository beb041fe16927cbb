"""How does it run? Node, peers, API, miner, wallet, command line and local testnet."""
