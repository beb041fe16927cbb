from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from chain.artifact import artifact_id
from consensus.datasets import digits, encode_dataset
from ponas_node.api import create_app
from ponas_node.cli.main import main
from ponas_node.wallet import create_wallet
from tests.api.conftest import FREE
from tests.api.view import TestView

DIGITS = encode_dataset(digits())
PASSPHRASE = "correct horse"


class LiveNode:
    """The API over a test's chain, served from a thread, so that `main` can run its own event loop."""

    def __init__(self, path: Path) -> None:
        self.view = TestView(
            path,
            name="digits",
            dataset=artifact_id(DIGITS),
            dataset_bytes=len(DIGITS),
            test_samples=372,
            eval_samples=300,
        )
        self.view.artifacts.put(DIGITS)
        self.world = self.view.world
        self.loop = asyncio.new_event_loop()
        self.url = ""
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        assert self._ready.wait(10)

    def _serve(self) -> None:
        async def serve() -> None:
            self._stop = asyncio.Event()
            runner = web.AppRunner(create_app(self.view, FREE))
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = "http://{}:{}".format(*runner.addresses[0])
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()

        self.loop.run_until_complete(serve())
        self.loop.close()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self.world.store.close()


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own wallet, or asks at a terminal."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PONAS_PASSPHRASE", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[LiveNode]:
    live = LiveNode(tmp_path / "node")
    yield live
    live.stop()


@pytest.fixture
def funded(node: LiveNode, tmp_path: Path) -> Path:
    """An unencrypted wallet that holds 0.1 PONAS."""
    return create_wallet(tmp_path / "funded.json", None, node.world.keys[1]).path


@pytest.fixture
def run(capsys):
    def go(*arguments: object, code: int = 0) -> str:
        """Run a command; gives what it printed on standard output, or on standard error where it fails."""
        got = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert got == code, f"exit code {got}\n{out}\n{err}"
        if code == 0 or (code == 1 and not err):
            return out
        assert "Traceback" not in err
        return err

    return go


def one_line(text: str) -> str:
    """What an error prints: one line that ends like a sentence."""
    assert text.startswith("ponas: ") and text.count("\n") == 1, text
    return text
