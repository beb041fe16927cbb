"""The web application: all endpoints, and the limits and headers that hold for every one of them."""

from __future__ import annotations

import time
from collections.abc import Callable

from aiohttp import web

from ponas_node.api import blocks, explorer, histories, pictures, proofs, search, status
from ponas_node.api.errors import answer_errors
from ponas_node.api.limits import LIMITS, ApiLimits, limit_rate
from ponas_node.api.metrics import metrics
from ponas_node.api.submit import SUBMISSIONS, Submissions
from ponas_node.api.view import VIEW, NodeView

_DEFAULT_LIMITS = ApiLimits()


def create_app(
    view: NodeView, limits: ApiLimits = _DEFAULT_LIMITS, clock: Callable[[], float] = time.monotonic
) -> web.Application:
    """The HTTP API of the node behind `view`. `clock` (seconds, monotonic) paces the clients."""
    app = web.Application(
        client_max_size=limits.body_bytes,
        middlewares=[answer_errors, limit_rate(limits, clock)],
    )
    app[VIEW] = view
    app[LIMITS] = limits
    app[SUBMISSIONS] = Submissions(view, limits.request_seconds / 2, limits.submissions)
    app.on_cleanup.append(_stop_submissions)
    for module in (status, blocks, histories, search, proofs, pictures, explorer):
        app.add_routes(module.routes())
    app.add_routes([web.get("/metrics", metrics)])
    app.on_response_prepare.append(_headers)
    return app


async def _stop_submissions(app: web.Application) -> None:
    await app[SUBMISSIONS].stop()


async def _headers(request: web.Request, response: web.StreamResponse) -> None:
    """Nothing that the API sends is to be guessed into HTML, framed, or cached without saying so."""
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["X-Frame-Options"] = "DENY"
    response.headers.setdefault("Cache-Control", "no-store")
