"""Exit code 0 where a node answers, or where a pool knows a member: `python -m ponas_node.health URL [WALLET]`.

For container health checks. Uses the standard library only, so that it starts fast.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

_TIMEOUT = 5.0


def healthy(url: str, wallet: str | None) -> bool:
    """Whether the node at `url` answers, and its pool knows the address of `wallet` where one is given."""
    path = "/v1/status"
    if wallet is not None:
        address = json.loads(Path(wallet).read_text())["address"]
        path = f"/v1/pool/members/{address}"
    if not url.startswith(("http://", "https://")):
        return False
    try:
        with urllib.request.urlopen(url + path, timeout=_TIMEOUT) as answer:  # noqa: S310 (scheme checked above)
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    sys.exit(0 if healthy(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None) else 1)
