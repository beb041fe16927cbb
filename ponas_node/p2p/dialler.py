"""The dialling side: configured peers forever, a few learned ones at a time."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import aiohttp

from ponas_node.p2p.addresses import AddressBook
from ponas_node.p2p.backoff import Backoff
from ponas_node.p2p.errors import Refused
from ponas_node.p2p.limits import MAX_FRAME
from ponas_node.p2p.listener import PATH
from ponas_node.p2p.roster import Roster
from ponas_node.p2p.session import Socket
from ponas_node.p2p.settings import NetworkSettings
from ponas_node.p2p.text import parse_endpoint

log = logging.getLogger("ponas_node.p2p")
_HOPELESS = ("self", "other_network", "other_genesis", "other_version")  # trying soon again cannot help
_PATIENT = (*_HOPELESS, "banned")
_EXPLORE = 1.0


class Dialler:
    """Opens connections and gives each to `serve`, which returns the code of its end or raises Refused."""

    def __init__(
        self,
        settings: NetworkSettings,
        book: AddressBook,
        roster: Roster,
        serve: Callable[[Socket, str], Awaitable[str]],
        source: random.Random,
    ) -> None:
        self._settings = settings
        self._book = book
        self._roster = roster
        self._serve = serve
        self._random = source
        self._client: aiohttp.ClientSession | None = None
        self._learned: dict[str, asyncio.Task[None]] = {}
        self._own: set[str] = set()
        self._keys: dict[str, bytes] = {}  # of configured peers

    async def start(self) -> None:
        """Make ready to dial."""
        trace = aiohttp.TraceConfig()
        trace.on_request_redirect.append(_refuse_redirect)
        timeout = aiohttp.ClientTimeout(total=None, connect=self._settings.dial_timeout)
        self._client = aiohttp.ClientSession(
            timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[trace], trust_env=False
        )

    async def stop(self) -> None:
        """Give up all dialling."""
        tasks = list(self._learned.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    def found(self, address: str, key: bytes) -> None:
        """At this address answers the node with this key."""
        if address in self._settings.peers:
            self._keys[address] = key

    async def keep(self, address: str) -> None:
        """Stay connected to a configured peer. Never returns."""
        settings = self._settings
        backoff = Backoff(settings.backoff_first, settings.backoff_most, self._random)
        loop = asyncio.get_running_loop()
        while True:
            if self._keys.get(address) in self._roster.sessions:  # it called us, or is known by another address as well
                await asyncio.sleep(settings.backoff_first)
                continue
            started = loop.time()
            try:
                await self._dial(address)
                if loop.time() - started >= settings.stable_after:
                    backoff.reset()
            except Refused as error:
                if error.code in _PATIENT:
                    backoff.exhaust()
            except (OSError, aiohttp.ClientError, TimeoutError) as error:
                log.info("cannot reach %s: %s", address, _reason(error))
            except Exception:
                log.exception("dialling %s failed", address)
            await asyncio.sleep(backoff.wait())

    async def explore(self) -> None:
        """Dial a few of the learned addresses. Never returns."""
        while True:
            await asyncio.sleep(_EXPLORE * self._random.uniform(0.5, 1.0))
            room = len(self._roster) + len(self._learned) < self._settings.max_peers
            if not room or len(self._learned) >= self._settings.learned_peers:
                continue
            taken = {*self._settings.peers, *self._learned, *self._own}
            taken.update(session.reachable or "" for session in self._roster)
            address = self._book.pick(asyncio.get_running_loop().time(), taken)
            if address is not None and self._roster.banned(parse_endpoint(address)[0]) is None:
                task = self._learned[address] = asyncio.create_task(self._try(address))
                task.add_done_callback(lambda _, address=address: self._learned.pop(address, None))  # type: ignore[misc]

    async def _try(self, address: str) -> None:
        """Dial a learned address once; the next time comes with the next pick."""
        try:
            await self._dial(address)
        except Refused as error:
            if error.code in _HOPELESS:
                self._book.drop(address)
                if error.code == "self":
                    self._own.add(address)
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            log.debug("cannot reach %s: %s", address, _reason(error))
        except Exception:
            log.exception("dialling %s failed", address)
        self._book.failed(address, asyncio.get_running_loop().time())

    async def _dial(self, address: str) -> str:
        client = self._client
        if client is None:
            raise Refused("stopping", "the node is not running")
        url = f"http://{address}{PATH}"
        async with asyncio.timeout(self._settings.dial_timeout):
            socket = await client.ws_connect(
                url,
                timeout=aiohttp.ClientWSTimeout(ws_close=self._settings.close_timeout),
                max_msg_size=MAX_FRAME + 1,
                compress=0,
                autoping=False,
            )
        try:
            return await self._serve(socket, address)
        finally:
            await socket.close()


async def _refuse_redirect(*_: object) -> None:
    """A peer's address is where the peer is: no answer of it may send us elsewhere."""
    raise Refused("redirect", "the address answers with a redirect")


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).replace("\n", " ")
