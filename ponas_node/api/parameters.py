"""Reading paths, queries and bodies of requests. All raise ApiError 400 with a sentence that says what to mend."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from aiohttp import web

from chain.keys import BadAddress, parse_address
from ponas_node.api.errors import ApiError, sentence
from ponas_node.api.limits import DEFAULT_PAGE, LARGEST_PAGE, LIMITS

_NUMBER = re.compile(r"\d{1,19}", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


def path_hash(request: web.Request, name: str = "id") -> bytes:
    """A 32-byte id in the path."""
    return parse_hash(request.match_info[name])


def parse_hash(text: str) -> bytes:
    """A 32-byte id written as 64 hexadecimal digits."""
    lower = text.lower()
    if _HASH.fullmatch(lower) is None:
        raise ApiError(400, "bad_id", f"An id has 64 hexadecimal digits; {text[:80]!r} has not.")
    return bytes.fromhex(lower)


def path_address(request: web.Request, name: str = "address") -> bytes:
    """An address in the path."""
    try:
        return parse_address(request.match_info[name])
    except BadAddress as error:
        raise ApiError(400, "bad_address", sentence(str(error))) from error


def parse_number(text: str, what: str) -> int:
    """A number that is not negative."""
    if _NUMBER.fullmatch(text) is None:
        raise ApiError(400, "bad_number", f"{what} must be a whole number that is not negative, not {text[:40]!r}.")
    return int(text)


def query_number(request: web.Request, name: str) -> int | None:
    """A number in the query, or None where it is not given."""
    text = request.query.get(name)
    return None if text is None else parse_number(text, name)


def page_size(request: web.Request) -> int:
    """How many items the client asks for, `limit` in the query."""
    size = query_number(request, "limit")
    if size is None:
        return DEFAULT_PAGE
    if not 1 <= size <= LARGEST_PAGE:
        raise ApiError(400, "bad_limit", f"limit must be from 1 to {LARGEST_PAGE}.")
    return size


async def json_body(request: web.Request) -> dict[str, Any]:
    """The body, which must be a JSON object."""
    try:
        async with asyncio.timeout(request.app[LIMITS].request_seconds):
            data = await request.read()
    except TimeoutError as error:
        raise ApiError(408, "timeout", "The body of the request took too long to arrive.") from error
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "bad_json", "The body of the request is not JSON.") from error
    if not isinstance(value, dict):
        raise ApiError(400, "bad_json", "The body of the request must be a JSON object.")
    return value
