"""GET /: one HTML page that shows the chain. It is the same for every node and learns all it shows from the API."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from aiohttp import web

_PAGE = Path(__file__).with_name("explorer.html")


@cache
def _page() -> tuple[str, str]:
    """The page and its content security policy: only its own script and style run, and they reach only this node."""
    text = _PAGE.read_text(encoding="utf-8")
    sources = {tag: _hash_of(text, tag) for tag in ("script", "style")}
    policy = (
        f"default-src 'none'; script-src {sources['script']}; style-src {sources['style']}; "
        "connect-src 'self'; img-src data: 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, policy


def _hash_of(text: str, tag: str) -> str:
    match = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    content = match[1] if match else ""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


async def page(request: web.Request) -> web.Response:
    """The page."""
    text, policy = _page()
    return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": policy})


def routes() -> list[web.RouteDef]:
    """The endpoints of this module."""
    return [web.get("/", page)]
