"""The handshake of one connection, without I/O: messages in, messages out, `Refused` where it must not go on."""

from __future__ import annotations

from chain.errors import BadSignature
from chain.hashing import digest
from chain.keys import PrivateKey, verify
from ponas_node.p2p.errors import Refused
from ponas_node.p2p.messages import Auth, Hello

_DIALLER = b"dialler"
_LISTENER = b"listener"


def signed_message(network: bytes, signer_dialled: bool, dialler: Hello, listener: Hello) -> bytes:
    """What a side signs. Role, keys and fresh nonces of both make it useless anywhere else."""
    role = _DIALLER if signer_dialled else _LISTENER
    return digest("ponas/handshake", network, role, dialler.key, listener.key, dialler.nonce, listener.nonce)


class Handshake:
    """One side of a handshake. Send `local`, then feed what arrives to `on_hello` and `on_auth`."""

    def __init__(self, local: Hello, key: PrivateKey, dialled: bool) -> None:
        self.local = local
        self.remote: Hello | None = None
        self.done = False
        self._key = key
        self._dialled = dialled

    def on_hello(self, remote: Hello) -> Auth:
        """Judge the peer's Hello; returns our Auth."""
        if self.remote is not None:
            raise Refused("protocol", "a second Hello")
        _check_same_network(self.local, remote)
        self.remote = remote
        return Auth(self._key.sign(self._message(self._dialled)))

    def on_auth(self, auth: Auth) -> Hello:
        """Judge the peer's Auth; returns its Hello, which is proven now."""
        if self.remote is None or self.done:
            raise Refused("protocol", "an Auth out of order")
        try:
            verify(self.remote.key, auth.signature, self._message(not self._dialled))
        except BadSignature as error:
            raise Refused(
                "bad_signature", "the handshake's signature does not verify under the stated node key"
            ) from error
        self.done = True
        return self.remote

    def _message(self, signer_dialled: bool) -> bytes:
        if self.remote is None:
            raise Refused("protocol", "no Hello yet")
        dialler, listener = (self.local, self.remote) if self._dialled else (self.remote, self.local)
        return signed_message(self.local.network, signer_dialled, dialler, listener)


def _check_same_network(ours: Hello, theirs: Hello) -> None:
    if theirs.version != ours.version:
        text = f"protocol version differs: ours {ours.version}, theirs {theirs.version}; update the older node"
        raise Refused("other_version", text)
    if theirs.network != ours.network:
        text = f"genesis differs: ours {ours.network.hex()}, theirs {theirs.network.hex()}; use the same genesis file"
        raise Refused("other_network", text)
    if theirs.genesis != ours.genesis:
        text = f"genesis block differs: ours {ours.genesis.hex()}, theirs {theirs.genesis.hex()}; use the same software"
        raise Refused("other_genesis", text)
    if theirs.key == ours.key:
        raise Refused("self", "this is our own node key: the address is our own, or two nodes share a key file")


def newcomer_stays(own: bytes, peer: bytes, old_dialled: bool, new_dialled: bool) -> bool:
    """Which of two connections to node `peer` stays; both ends come to the same answer.

    In opposite directions: the one that the smaller key dialled. In the same direction: the listener takes the newer,
    as the dialler must have lost the older; a dialler that still has it keeps it.
    """
    if old_dialled == new_dialled:
        return not new_dialled
    return new_dialled == (own < peer)
