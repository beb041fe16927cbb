"""How a simulated node joins: the real `Branches` and `DeepForks`, whose coroutines virtual time drives."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from bench.simulation.network import Session
from bench.simulation.setting import NETWORK
from chain.errors import Missing
from consensus.facts import facts_of
from ponas_node.branches import Branches
from ponas_node.p2p import messages as m
from ponas_node.p2p.deep import DeepForks
from ponas_node.p2p.errors import GiveUp, Misbehaviour, RequestFailed, TimedOut

if TYPE_CHECKING:
    from bench.simulation.node import Node
    from ponas_node.node import Node as RealNode
    from ponas_node.p2p.host import Host
    from ponas_node.p2p.session import Session as RealSession

Found = bool | Misbehaviour | RequestFailed | GiveUp
"""Whether the peer's branch is followed, or why that could not be found out."""

_HEADER = 300  # bytes


class Joining:
    """Settles with one peer at a time whose branch is followed after a deep fork."""

    def __init__(self, node: Node) -> None:
        self._node = node
        host = _Host(node)
        self.branches = host.branches = Branches(cast("RealNode", host))
        self._deep = DeepForks(cast("Host", host), NETWORK)
        self._request = 0  # number of the one under way

    def look(self) -> bool:
        """Whether the node is joining, by its tip and its clock; tells the chain."""
        return self.branches.is_joining()

    def settle(self, session: Session, done: Callable[[Session, Found], None]) -> None:
        """Find out which branch is denser, and follow it; `done` is called when that is done."""
        errand = self._deep.settle(cast("RealSession", _Peer(session)))
        self._go_on(session, errand, done, lambda: errand.send(None))

    def _go_on(
        self,
        session: Session,
        errand: Coroutine[Any, Any, bool],
        done: Callable[[Session, Found], None],
        step: Callable[[], _Question | None],
    ) -> None:
        """Let the errand run up to its next question, and ask the peer."""
        self._request += 1
        number = self._request
        try:
            question = step()
            while question is None:  # it only lets others run
                question = errand.send(None)
        except StopIteration as end:
            done(session, bool(end.value))
            return
        except (Misbehaviour, RequestFailed, GiveUp) as error:
            done(session, error)
            return

        def answer(reply: m.Reply) -> None:
            if number == self._request and self._node.joining is self:
                self._go_on(session, errand, done, lambda: errand.send(reply))

        def time_out() -> None:
            if number == self._request and self._node.joining is self:
                self._go_on(session, errand, done, lambda: errand.throw(TimedOut("no answer in time")))

        self._node.network.send(session, 34 * len(question.message.locator), _on_question, question.message, answer)
        self._node.events.after(question.timeout, time_out)

    def answer(self, session: Session, message: m.GetHeaders | m.GetBlocks, take: Callable[[m.Reply], None]) -> None:
        """A peer asks: `take` is called there with the reply."""
        chain, shows = self._node.chain, self._node.behaviour.serves
        if isinstance(message, m.GetHeaders):
            found = chain.headers_after(message.locator, min(message.most, m.MAX_HEADERS))
            headers = tuple(header for header in found if shows(session, header.id) is not None)
            reply: m.Reply = m.Headers(message.request, headers)
            size = _HEADER * len(headers)
        else:
            blocks = chain.after(message.locator, m.MAX_BATCH_BLOCKS, m.MAX_BATCH_BYTES)
            raw = tuple(block.raw for block in blocks if shows(session, block.id) is not None)
            reply, size = m.Blocks(message.request, raw), sum(map(len, raw))
        self._node.network.send(session, size, _on_reply, take, reply)


class _Question:
    """What an errand waits for."""

    def __init__(self, message: m.GetHeaders | m.GetBlocks, timeout: float) -> None:
        self.message = message
        self.timeout = timeout

    def __await__(self) -> Generator[_Question, m.Reply, m.Reply]:
        return (yield self)


class _Peer:
    """A session as `DeepForks` uses it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.key = session.key
        self.address = f"node {session.peer.index}"

    @property
    def height(self) -> int:
        """What the peer said last."""
        return self._session.height

    async def request(
        self, make: Callable[[int], m.GetHeaders | m.GetBlocks], kind: type[m.Reply], timeout: float
    ) -> m.Reply:
        """Ask, and wait for the reply."""
        return await _Question(make(0), timeout)


class _Host:
    """A simulated node as `Branches` and `DeepForks` use it."""

    branches: Branches

    def __init__(self, node: Node) -> None:
        self._node = node
        self.chain = node.chain
        self.network = node.rules.network
        self.genesis = node.rules.config
        self.config = SimpleNamespace(label=f"node {node.index}")
        self.store = SimpleNamespace(namespace=lambda name: node.kept)
        self.slot = node.slot
        self.after = node.after

    async def establish(self, missing: Missing, priority: int, peer: bytes | None) -> None:
        """Learn facts."""
        self._node.world.oracle.establish(facts_of(missing))


def _on_question(session: Session, message: m.GetHeaders | m.GetBlocks, take: Callable[[m.Reply], None]) -> None:
    session.owner.joining.answer(session, message, take)


def _on_reply(session: Session, take: Callable[[m.Reply], None], reply: m.Reply) -> None:
    take(reply)
