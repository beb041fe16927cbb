"""The operator's door to a running pool: a Unix socket in the data directory, for the node's own user only."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from chain.keys import address_text
from ponas_node.api.errors import ApiError, answer_errors
from ponas_node.api.limits import LIMITS, ApiLimits
from ponas_node.api.parameters import json_body, page_size, path_address
from ponas_node.pool_api import after_address, members_json, terms_json
from ponas_node.pool_config import BadPoolConfig, pool_options
from pool.pool import Pool

log = logging.getLogger(__name__)
_SECONDS = 20.0


class AdminError(Exception):
    """The pool could not be asked, or refused; the message says what to do."""


class PoolAdmin:
    """Serves status, members, bans and previews of `pool` on the socket `path`."""

    def __init__(self, pool: Pool, path: Path, clock: Callable[[], float], payout_entries: int) -> None:
        self._pool, self._path, self._clock, self._entries = pool, path, clock, payout_entries
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Open the socket. Where that is impossible the pool runs without it, and the log says so."""
        app = web.Application(middlewares=[answer_errors])
        app[LIMITS] = ApiLimits()
        app.add_routes([
            web.get("/status", self._status),
            web.get("/members", self._members),
            web.post("/preview", self._preview),
            web.post("/ban/{address}", self._ban),
            web.post("/unban/{address}", self._unban),
        ])  # fmt: skip
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        mask = os.umask(0o177)
        try:
            self._path.unlink(missing_ok=True)
            await web.UnixSite(self._runner, str(self._path)).start()
        except OSError as error:
            log.warning(
                "`ponas pool` cannot reach this pool, for its socket %s cannot be opened: %s", self._path, error
            )
        finally:
            os.umask(mask)

    async def stop(self) -> None:
        """Close the socket."""
        if self._runner is not None:
            await self._runner.cleanup()
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    async def _status(self, request: web.Request) -> web.Response:
        found = dataclasses.asdict(self._pool.summary())
        ledger = {"size": len(self._pool.ledger), "root": self._pool.ledger.root.hex()}
        rejected = dict(self._pool.rejected)
        return web.json_response({**found, "terms": terms_json(self._pool), "ledger": ledger, "rejected": rejected})

    async def _members(self, request: web.Request) -> web.Response:
        return web.json_response({"members": members_json(self._pool, after_address(request), page_size(request))})

    async def _preview(self, request: web.Request) -> web.Response:
        """The next table, as it is or under other terms: a dry run, which changes nothing."""
        given = await json_body(request)
        terms = self._pool.book.terms
        if given:
            try:
                options = pool_options(
                    None, {"fee_address": address_text(terms.operator) if terms.fee else "", **given}
                )
                terms = options.terms(terms.operator)
            except BadPoolConfig as error:
                raise ApiError(400, "bad_terms", str(error)) from error
        lines = self._pool.preview(terms, self._entries)
        total = sum(line.weight for line in lines)
        return web.json_response({
            "lines": [
                {"address": address_text(line.address), "weight": line.weight, "percent": 100 * line.weight / total}
                for line in lines
            ]
        })  # fmt: skip

    async def _ban(self, request: web.Request) -> web.Response:
        address, reason = path_address(request), (await json_body(request)).get("reason")
        if not isinstance(reason, str) or not reason.strip():
            raise ApiError(400, "no_reason", "A ban needs a reason, which the member can read.")
        self._pool.ban(address, reason.strip()[:500], self._clock())
        return web.json_response({"banned": address_text(address)})

    async def _unban(self, request: web.Request) -> web.Response:
        address = path_address(request)
        if not self._pool.unban(address, self._clock()):
            raise ApiError(404, "not_banned", "The operator has not banned this member.")
        return web.json_response({"unbanned": address_text(address)})


async def ask_pool(socket: Path, method: str, path: str, **options: Any) -> dict[str, Any]:
    """Ask the pool whose socket this is. Raises AdminError."""
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(socket)), timeout=aiohttp.ClientTimeout(total=_SECONDS)
            ) as session,
            session.request(method, f"http://pool{path}", **options) as answer,
        ):
            found = json.loads(await answer.read())
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise AdminError(
            f"No pool answers at {socket}: is it running there, as your user? Start it with `ponas node --pool`, "
            "or name its data directory with --data."
        ) from error
    if answer.status >= 300:
        raise AdminError(str(found.get("error", {}).get("message", answer.status)))
    return dict(found)
