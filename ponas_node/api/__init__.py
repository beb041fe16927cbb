"""The HTTP API of a node: JSON under /v1, metrics for Prometheus, and a page that shows the chain."""

from __future__ import annotations

from ponas_node.api.app import create_app
from ponas_node.api.limits import ApiLimits
from ponas_node.api.view import NodeView

__all__ = ["ApiLimits", "NodeView", "create_app"]
