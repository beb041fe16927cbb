"""A whole network on one machine: four nodes, a pool with two members and a solo miner."""
