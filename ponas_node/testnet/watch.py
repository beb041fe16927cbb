"""Looks at a running testnet through its HTTP APIs, as anybody could."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from chain.keys import address_text
from ponas_node.testnet.layout import FULL_NODES, POOL, Layout

Json = dict[str, Any]
_TIMEOUT = aiohttp.ClientTimeout(total=3)


@dataclass(frozen=True, slots=True)
class Payment:
    """A coinbase that was seen: height, minter's name, and amount by participant."""

    height: int
    minter: str
    paid: dict[str, int]


@dataclass(slots=True)
class Snapshot:
    """What was seen last. Anything may be missing while the processes start."""

    status: dict[str, Json] = field(default_factory=dict)
    epoch: Json = field(default_factory=dict)
    last_epoch: Json = field(default_factory=dict)
    seats: list[Json] = field(default_factory=list)
    pending: list[Json] = field(default_factory=list)  # seats that can still be challenged, by epoch
    pool: Json = field(default_factory=dict)
    payments: list[Payment] = field(default_factory=list)
    first_member_payment: float | None = None  # Unix time


class Watcher:
    """Polls a testnet; `snapshot` is the last view of it."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.snapshot = Snapshot()
        self.names = {address_text(address): name for name, address in layout.addresses().items()}
        self.reorgs: dict[str, int] = {}
        self._seen_height = 0

    async def poll(self, session: aiohttp.ClientSession) -> Snapshot:
        """Look once at every node."""
        answers = await asyncio.gather(*(self._get(session, name, "/v1/status") for name in FULL_NODES))
        status = {name: answer for name, answer in zip(FULL_NODES, answers, strict=True) if answer}
        self.snapshot.status = status
        if not status:
            return self.snapshot
        best = max(status, key=lambda name: int(status[name]["height"]))
        epoch, seats, pool = await asyncio.gather(
            self._get(session, best, "/v1/epochs/current"),
            self._get(session, best, "/v1/seats"),
            self._get(session, POOL, "/v1/pool"),
        )
        self.snapshot.epoch = epoch or self.snapshot.epoch
        self.snapshot.seats = seats.get("seats", self.snapshot.seats)
        self.snapshot.pending = seats.get("pending", self.snapshot.pending)
        self.snapshot.pool = pool or self.snapshot.pool
        number = int(self.snapshot.epoch.get("number", 0))
        if number > 0 and self.snapshot.last_epoch.get("number") != number - 1:
            self.snapshot.last_epoch = await self._get(session, best, f"/v1/epochs/{number - 1}")
        for name, answer in status.items():
            self.reorgs[name] = int(answer["counters"]["reorgs"])
        await self._payments(session, best, int(status[best]["height"]))
        return self.snapshot

    async def _payments(self, session: aiohttp.ClientSession, node: str, height: int) -> None:
        for h in range(max(self._seen_height + 1, height - 20), height + 1):
            block = await self._get(session, node, f"/v1/blocks/{h}")
            if not block:
                return
            coinbase = await self._get(session, node, f"/v1/transactions/{block['transactions'][0]['id']}")
            if not coinbase:
                return
            paid: dict[str, int] = {}
            for output in coinbase["body"]["outputs"]:
                name = self.names.get(output["address"], output["address"])
                paid[name] = paid.get(name, 0) + int(output["amount"])
            minter = self.names.get(block["minter_address"], str(block["minter_address"]))
            self.snapshot.payments = [*self.snapshot.payments, Payment(h, minter, paid)][-100:]
            if self.snapshot.first_member_payment is None and any(name.startswith("member") for name in paid):
                self.snapshot.first_member_payment = float(self.snapshot.status[node]["time"])
            self._seen_height = h

    async def _get(self, session: aiohttp.ClientSession, name: str, path: str) -> Json:
        try:
            async with session.get(self.layout.url(name) + path, timeout=_TIMEOUT) as response:
                answer: Json = await response.json() if response.status == 200 else {}
                return answer
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return {}
