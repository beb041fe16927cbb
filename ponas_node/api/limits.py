"""What one client may ask of the API: a token bucket per client address, and the sizes of bodies and pages."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from aiohttp import web
from aiohttp.typedefs import Middleware

from ponas_node.api.errors import ApiError, Handler, error_response


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """Limits of an API. `request_seconds`: how long a body may take to arrive, and a verdict to be waited for.

    A transaction's hex takes twice its size, so `body_bytes` must exceed twice the largest.
    """

    body_bytes: int = 256 << 10
    request_seconds: float = 10.0
    requests_per_second: float = 20.0
    burst: float = 100.0
    clients: int = 10_000
    submissions: int = 64


LIMITS: web.AppKey[ApiLimits] = web.AppKey("limits", ApiLimits)
DEFAULT_PAGE, LARGEST_PAGE = 20, 100
_DEAR = 5.0  # tokens of a request that is checked, executed, drawn or sent from disk


class RateLimiter:
    """Token buckets by client. A bucket holds `burst` tokens and gains `rate` a second; the idle ones are forgotten."""

    def __init__(self, rate: float, burst: float, most: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._most = most
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, cost: float) -> float:
        """Take `cost` tokens; 0 where they were there, else the seconds until they will be, and none are taken."""
        now, cost = self._clock(), min(cost, self._burst)
        tokens, last = self._buckets.pop(client, (self._burst, now))
        tokens = min(self._burst, tokens + max(0.0, now - last) * self._rate)
        wait = max(0.0, (cost - tokens) / self._rate)
        self._buckets[client] = (tokens if wait else tokens - cost, now)
        while len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return wait


def limit_rate(limits: ApiLimits, clock: Callable[[], float] = time.monotonic) -> Middleware:
    """Middleware that answers 429 to a client that asks too often. Headers of proxies are not believed."""
    limiter = RateLimiter(limits.requests_per_second, limits.burst, limits.clients, clock)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        path = request.path
        dear = (
            request.method == "POST"
            or path.endswith(("/model", "/picture.svg", "/shares"))
            or path.startswith(("/v1/artifacts/", "/v1/pool/ledger"))
        )
        wait = limiter.take(request.remote or "", _DEAR if dear else 1.0)
        if wait:
            seconds = ceil(wait)
            message = f"Too many requests from your address; try again in {seconds} s."
            return error_response(ApiError(429, "too_many_requests", message, retry_after=seconds))
        return await handler(request)

    return middleware
