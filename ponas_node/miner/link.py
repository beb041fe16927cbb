"""A member's connection to a pool: handshake with both sides' signatures, messages, and the pool's artifacts."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import TypeVar

import aiohttp

from chain.artifact import artifact_id
from chain.encoding import Record
from chain.errors import BadEncoding, BadSignature
from chain.keys import PrivateKey, address_of, verify
from pool import messages
from pool.messages import LARGEST_MODEL, Hello, Join, Problem, SealedUpload, ShareUpload, Welcome
from pool.sealing import KEY, BadSeal, SealingKey, UploadKey, seal
from pool.server import PATH
from pool.state_messages import STATE, SealedState, StateGrant, StatePart, StateRequest, grant_info, request_digest

AGENT = "ponas-node"
HANDSHAKE_SECONDS = 15.0
HEARTBEAT_SECONDS = 20.0
LARGEST_MESSAGE = 1 << 20
R = TypeVar("R", bound=Record)


class LinkError(Exception):
    """The connection cannot be used; the message is for the miner's owner."""


class PoolLink:
    """An open connection, after the handshake."""

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        url: str,
        hello: Hello,
        key: PrivateKey,
        nonce: bytes,
        upload_key: bytes,
        silence: float,
    ) -> None:
        self.url = url
        self.hello = hello
        self.silence = silence
        self._socket = socket
        self._key, self._nonce = key, nonce
        self._upload_key = UploadKey(upload_key)
        self._uploads = 0

    @property
    def pool(self) -> bytes:
        """The pool's address."""
        return address_of(self.hello.pool)

    @classmethod
    async def open(cls, http: aiohttp.ClientSession, url: str, key: PrivateKey, worker: bytes) -> PoolLink:
        """Connect and join. Raises LinkError."""
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                socket = await http.ws_connect(
                    url.rstrip("/") + PATH, heartbeat=HEARTBEAT_SECONDS, max_msg_size=LARGEST_MESSAGE, compress=0
                )
                try:
                    return await cls._join(socket, url, key, worker)
                except BaseException:
                    await socket.close()
                    raise
        except TimeoutError as error:
            raise LinkError("the pool does not answer") from error
        except aiohttp.WSServerHandshakeError as error:
            if error.status in (429, 503):
                raise LinkError(f"the pool is full or was asked too often: it answers {error.status}") from error
            raise LinkError(f"there is no pool at {url}: it answers {error.status} {error.message}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise LinkError(f"cannot connect: {error}") from error

    @classmethod
    async def _join(cls, socket: aiohttp.ClientWebSocketResponse, url: str, key: PrivateKey, worker: bytes) -> PoolLink:
        hello = await _expect(socket, Hello)
        if hello.version != messages.VERSION:
            raise LinkError(f"the pool speaks version {hello.version} of the protocol, this miner {messages.VERSION}")
        if hello.max_model_bytes > LARGEST_MODEL:
            raise LinkError(f"the pool's models have up to {hello.max_model_bytes} bytes, too many for this miner")
        nonce, upload_key = secrets.token_bytes(32), secrets.token_bytes(KEY)
        try:
            sealed_key = seal(upload_key, hello.sealing, messages.key_info(hello, key.public, nonce))
        except BadSeal as error:
            raise LinkError(f"the pool's key is of no use: {error}") from error
        signature = key.sign(messages.join_digest(hello, key.public, nonce, sealed_key, worker))
        await socket.send_bytes(messages.encode(Join(key.public, nonce, sealed_key, worker, AGENT, signature)))
        welcome = await _expect(socket, Welcome)
        try:
            verify(hello.pool, welcome.signature, messages.welcome_digest(hello, key.public, nonce))
        except BadSignature as error:
            raise LinkError("the pool does not hold the key that it claims") from error
        return cls(socket, url, hello, key, nonce, upload_key, welcome.silence / 1000)

    async def send(self, message: Record) -> None:
        """Send a message. Raises LinkError where the connection is gone."""
        try:
            await self._socket.send_bytes(messages.encode(message))
        except (ConnectionError, RuntimeError) as error:
            raise LinkError("the connection was lost") from error

    async def upload(self, upload: ShareUpload) -> None:
        """Send a share, sealed to the pool for this place in this connection. Raises LinkError."""
        await self.send(SealedUpload(*self._seal(upload, messages.SHARE)))

    def seal_state(self, part: StatePart) -> SealedState:
        """A part of a state, sealed to the pool for this place in this connection."""
        return SealedState(*self._seal(part, STATE))

    def _seal(self, content: Record, sealed_as: bytes) -> tuple[int, bytes]:
        """The next place in this connection, and `content` sealed for it."""
        self._uploads += 1
        return self._uploads, self._upload_key.seal(content.encode(), self._uploads, sealed_as)

    def state_request(self, lease: int, genotype: bytes, offset: int, key: bytes) -> StateRequest:
        """To have a part of a state sealed to `key`."""
        claim = request_digest(self.hello, self._key.public, self._nonce, lease, genotype, key)
        return StateRequest(lease, genotype, offset, key, self._key.sign(claim))

    def open_state(self, grant: StateGrant, key: SealingKey) -> bytes:
        """The part that the pool sent. Raises BadSeal."""
        where = grant.lease, grant.genotype, grant.offset
        return key.open(grant.sealed, grant_info(self.hello, self._key.public, self._nonce, *where))

    async def receive(self) -> AsyncIterator[Record]:
        """Messages until the connection ends. Raises LinkError for what is no message."""
        while True:
            frame = await self._socket.receive()
            if frame.type is not aiohttp.WSMsgType.BINARY:
                return
            yield _decode(frame.data)

    async def close(self) -> None:
        """End the connection."""
        await self._socket.close()


async def fetch_artifact(http: aiohttp.ClientSession, url: str, id: bytes, size: int) -> bytes:
    """An artifact of exactly `size` bytes from the pool's node, checked against its id. Raises LinkError."""
    address = f"{url.rstrip('/')}/v1/artifacts/{id.hex()}"
    try:
        async with http.get(address, timeout=aiohttp.ClientTimeout(total=600, sock_read=60)) as answer:
            if answer.status != 200:
                raise LinkError(f"the pool's node does not hand out the dataset: it answers {answer.status}")
            data = bytearray()
            async for chunk in answer.content.iter_chunked(1 << 16):
                data += chunk
                if len(data) > size:
                    raise LinkError(f"the dataset is larger than the {size} bytes that the task states")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise LinkError(f"cannot fetch the dataset: {error or type(error).__name__}") from error
    found = bytes(data)
    if len(found) != size or artifact_id(found) != id:
        raise LinkError("the dataset that the pool's node sent is not the one that the task names")
    return found


def _decode(data: bytes) -> Record:
    try:
        return messages.decode(data, 0)
    except BadEncoding as error:
        raise LinkError(f"the pool sent what is no message: {error}") from error


async def _expect(socket: aiohttp.ClientWebSocketResponse, kind: type[R]) -> R:
    frame = await socket.receive()
    if frame.type is not aiohttp.WSMsgType.BINARY:
        raise LinkError("the pool closed the connection during the handshake")
    message = _decode(frame.data)
    if isinstance(message, Problem):
        raise LinkError(f"the pool refuses: {message.reason} ({message.code})")
    if not isinstance(message, kind):
        raise LinkError(f"the pool sent {type(message).__name__} where {kind.__name__} was due")
    return message
