"""A network of real state machines under virtual time. What is real and what is replaced: docs/simulation.md."""
