"""What is known of a search, and strategies that say what to train next. Shared by the pool and the solo miner."""

from __future__ import annotations

from pool.search.archive import Archive
from pool.search.evolution import Evolution
from pool.search.local_search import LocalSearch
from pool.search.random_search import RandomSearch
from pool.search.reinforce import Reinforce
from pool.search.strategy import Strategy
from pool.search.surrogate import Surrogate

__all__ = [
    "DEFAULT_STRATEGY",
    "STRATEGIES",
    "Archive",
    "Evolution",
    "LocalSearch",
    "RandomSearch",
    "Reinforce",
    "Strategy",
    "Surrogate",
]

STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy for strategy in (RandomSearch(), Evolution(), LocalSearch(), Reinforce(), Surrogate())
}
DEFAULT_STRATEGY = Surrogate.name
"""What pools and solo miners use unless told otherwise; see docs/pool-search.md."""
