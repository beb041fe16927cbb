"""What an operator does with a node's database while no node runs: behind `ponas db`."""
