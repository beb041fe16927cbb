"""A small client of the HTTP API. What a node sends is bounded in size and time, and its errors become typed ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import aiohttp
from yarl import URL

from chain.artifact import artifact_id
from chain.types import Transaction

DEFAULT_URL = "http://127.0.0.1:8645"
_MOST_JSON = 32 << 20
_PIECE = 1 << 16
_PATIENCE = 120  # seconds of "too many requests" in a row


class ClientError(Exception):
    """Base of what can go wrong with a node; the message says what to do. `code` is the API's, if it gave one."""

    code = "client"


class BadUrl(ClientError):
    """Text that is not the address of a node's API."""

    code = "bad_url"


class Unreachable(ClientError):
    """No node answers."""

    code = "unreachable"


class BadAnswer(ClientError):
    """Something answered, but not as a node does."""

    code = "bad_answer"


class Refused(ClientError):
    """The node answered with an error: `status` of HTTP, `code` and sentence of the API."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class NodeClient:
    """The API of the node at `url`; `timeout` in seconds for one request. Use it as an asynchronous context manager."""

    def __init__(self, url: str = DEFAULT_URL, timeout: float = 20.0) -> None:
        try:
            self.url = URL(url)
        except ValueError as error:
            raise BadUrl(f"{url!r} is not a URL: write it like {DEFAULT_URL}.") from error
        if self.url.scheme not in ("http", "https") or not self.url.host:
            raise BadUrl(f"{url!r} is not the URL of a node: write it like {DEFAULT_URL}.")
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> NodeClient:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, headers: Mapping[str, str] | None = None, **query: str | int) -> dict[str, Any]:
        """GET `path`, such as "/v1/status"; the answer's JSON object. Raises ClientError."""
        data = await self._request("GET", path, _MOST_JSON, params=query, headers=headers)
        return self._object(data)

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST a JSON object to `path`. Raises ClientError."""
        data = await self._request("POST", path, _MOST_JSON, json=dict(body))
        return self._object(data)

    async def text(self, path: str) -> str:
        """GET `path` as text. Raises ClientError."""
        try:
            return (await self._request("GET", path, _MOST_JSON)).decode()
        except UnicodeDecodeError as error:
            raise self._bad_answer("its text is not UTF-8") from error

    async def artifact(self, id: bytes, most: int) -> bytes:
        """An artifact of at most `most` bytes, checked against its id. Raises ClientError."""
        data = await self._request("GET", f"/v1/artifacts/{id.hex()}", most)
        if artifact_id(data) != id:
            raise self._bad_answer(f"what it sent is not the artifact {id.hex()[:16]}")
        return data

    async def has_artifact(self, id: bytes) -> bool:
        """Whether the node holds an artifact. Raises ClientError."""
        try:
            await self._request("HEAD", f"/v1/artifacts/{id.hex()}", 0)
        except ClientError as error:
            if isinstance(error, BadAnswer | Refused):
                return False
            raise
        return True

    async def send(self, transaction: Transaction) -> str:
        """Send a transaction; answers "pending", or "checking" where the verdict takes longer. Raises ClientError."""
        answer = await self.post("/v1/transactions", {"transaction": transaction.raw.hex()})
        return "checking" if answer.get("status") == "checking" else "pending"

    async def _request(self, method: str, path: str, most: int, **options: Any) -> bytes:
        """The body of the answer; waits where the node asks for it."""
        for _ in range(_PATIENCE):
            status, data = await self._answer(method, path, most, **options)
            if status < 300:
                return data
            if status != 429:
                break
            await asyncio.sleep(1.0)
        raise self._refused(status, data)

    async def _answer(self, method: str, path: str, most: int, **options: Any) -> tuple[int, bytes]:
        if self._session is None:
            raise RuntimeError("use NodeClient as an asynchronous context manager")
        try:
            url = self.url.with_path(self.url.path.rstrip("/") + path)
            async with self._session.request(method, url, allow_redirects=False, **options) as answer:
                return answer.status, await self._read(answer, most if answer.status < 300 else _MOST_JSON)
        except TimeoutError as error:
            raise Unreachable(
                f"The node at {self.url} did not answer within {self._timeout:g} s; try again."
            ) from error
        except (aiohttp.ClientConnectorError, aiohttp.ClientOSError, asyncio.IncompleteReadError) as error:
            message = (
                f"No node answers at {self.url}: is it running? Start one with `ponas node`, or name another by --node."
            )
            raise Unreachable(message) from error
        except (aiohttp.ClientError, ValueError) as error:
            raise self._bad_answer("it does not speak the protocol") from error

    async def _read(self, answer: aiohttp.ClientResponse, most: int) -> bytes:
        pieces, size = [], 0
        async for piece in answer.content.iter_chunked(_PIECE):
            size += len(piece)
            if size > most:
                raise self._bad_answer(f"it sent more than {most} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    def _object(self, data: bytes) -> dict[str, Any]:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self._bad_answer("it did not send JSON") from error
        if not isinstance(value, dict):
            raise self._bad_answer("it did not send a JSON object")
        return value

    def _refused(self, status: int, data: bytes) -> ClientError:
        try:
            error = json.loads(data)["error"]
            return Refused(status, str(error["code"]), str(error["message"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            return self._bad_answer(f"it answered with HTTP status {status}")

    def _bad_answer(self, what: str) -> BadAnswer:
        return BadAnswer(f"What answers at {self.url} is not a PoNAS node, or is faulty: {what}. Check the URL.")
