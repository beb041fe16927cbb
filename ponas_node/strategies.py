"""The search strategy that a node was told to use, and what feeds it."""

from __future__ import annotations

from pathlib import Path

from ponas_node.supernet.strategy import SupernetFeed, SupernetStrategy
from pool.search import STRATEGIES, Strategy
from pool.work import Work

NAMES = (*sorted(STRATEGIES), SupernetStrategy.name)


class ChosenStrategy:
    """One service's own: what a strategy learns from its feed, no other service sees."""

    def __init__(self, name: str, artifacts: Path, nice: int) -> None:
        """`artifacts` holds the datasets. Raises KeyError for a name that is not in `NAMES`."""
        self.strategy: Strategy
        self._feed: SupernetFeed | None = None
        if name == SupernetStrategy.name:
            self.strategy = supernet = SupernetStrategy()
            self._feed = SupernetFeed(supernet, artifacts, nice)
        else:
            self.strategy = STRATEGIES[name]

    def set_work(self, work: Work | None) -> None:
        """What is searched now; may be called as often as one likes, where an event loop runs."""
        if self._feed is not None:
            self._feed.set_work(work)

    async def stop(self) -> None:
        """End what runs for the strategy."""
        if self._feed is not None:
            await self._feed.stop()
