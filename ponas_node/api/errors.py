"""Errors as JSON: {"error": {"code": a stable word, "message": a sentence}}, with the fitting HTTP status."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from chain.errors import Ignore, Invalid, Missing
from chain.failures import StoreError

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_HTTP_CODES = {
    400: ("bad_request", "The request is malformed."),
    404: ("no_such_endpoint", "There is no such endpoint; docs/http-api.md lists them all."),
    405: ("method_not_allowed", "This endpoint does not take that method."),
    408: ("timeout", "The request took too long to arrive."),
    413: ("too_large", "The body of the request is too large."),
    415: ("bad_request", "The body must be JSON."),
}
_BUSY = frozenset({"pool_full", "missing_facts", "fact_unavailable", "unsettled", "syncing"})


class ApiError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after


def not_found(code: str, message: str) -> ApiError:
    """The thing that the path names is not here."""
    return ApiError(404, code, message)


def error_response(error: ApiError) -> web.Response:
    """`error` as JSON."""
    body = {"error": {"code": error.code, "message": error.message}}
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return web.json_response(body, status=error.status, headers=headers)


def refusal(error: Invalid) -> ApiError:
    """What a refused transaction answers: 400 where it can never be valid, 409 where it does not fit now."""
    if isinstance(error, Missing):
        message = "The node must first fetch or check the data that this transaction names; send it again in a while."
        return ApiError(503, error.code, message, retry_after=5)
    status = 503 if error.code in _BUSY else 409 if isinstance(error, Ignore) else 400
    return ApiError(status, error.code, sentence(str(error)), retry_after=5 if status == 503 else None)


def sentence(text: str) -> str:
    """`text` with a capital and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Middleware: whatever a handler raises becomes JSON."""
    try:
        return await handler(request)
    except Exception as error:
        return error_response(_translate(request, error))


def _translate(request: web.Request, error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Invalid):
        return refusal(error)
    if isinstance(error, TimeoutError):
        return ApiError(503, "timeout", "The node did not answer in time; try again later.", retry_after=5)
    if isinstance(error, web.HTTPException) and error.status in _HTTP_CODES:
        return ApiError(error.status, *_HTTP_CODES[error.status])
    if isinstance(error, StoreError):
        log.error("database: %s", error)
        return ApiError(503, "database", "The node's database cannot be read at present; its log says more.")
    # The log gets the details; a stranger does not. The path is logged as a repr, for it is the stranger's text.
    log.exception("%s %r failed", request.method, request.path)
    return ApiError(500, "internal", "The node failed to answer; its log says more.")
