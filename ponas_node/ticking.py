"""What parts of a node do again and again, as time goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from chain.errors import Invalid
from consensus.parameters import ConsensusParameters

log = logging.getLogger(__name__)


async def twice_a_slot(parameters: ConsensusParameters, what: str, step: Callable[[], Awaitable[None]]) -> None:
    """Run `step` twice a slot for ever; where what it sends is refused, say so and go on. `what`: for the log."""
    while True:
        await asyncio.sleep(parameters.slot_milliseconds / 2000)
        try:
            await step()
        except Invalid as error:
            log.warning("%s: %s", what, error)
