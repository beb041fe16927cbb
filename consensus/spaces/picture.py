"""A drawing of a network as SVG: one self-contained, escaped string, fit to be put into a page.

Nodes stand in rows: each one row below the lowest node that it reads. Nodes of one row stand side by side. An edge that
spans more than one row runs as a curve beside what lies between.
"""

from __future__ import annotations

from xml.sax.saxutils import escape

from consensus.spaces.graph import Graph, Node

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y, MARGIN, HEAD = 168, 40, 28, 26, 24, 44
MAX_TITLE = 200
COLOURS = {
    "input": "#e8e8e8",
    "conv": "#cfe3f7",
    "depthwise": "#d9d4f2",
    "sum_pool": "#d5ecd8",
    "max_pool": "#f7e3c4",
    "add": "#f6d3d6",
}


def picture(graph: Graph, title: str) -> str:
    """The SVG of a network under a title. `title` may be any text: it is escaped, and cut after 200 characters."""
    rows = _rows(graph)
    places = _places(graph, rows)
    right = max(x for x, _ in places) + BOX_WIDTH // 2
    reach = max((bend for _, bend in _bends(graph, rows)), default=0)
    shown = "".join(char if char.isprintable() else "\ufffd" for char in title[:MAX_TITLE])
    width = max(right + reach + MARGIN, 2 * MARGIN + 7 * len(shown))
    height = max(y for _, y in places) + BOX_HEIGHT + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="sans-serif" font-size="12"><title>{escape(shown)}</title>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{MARGIN}" y="{MARGIN}" font-size="13" font-weight="bold" fill="#222222">{escape(shown)}</text>',
        *_edges(graph, rows, places, right),
        *(_box(graph, index, *place) for index, place in enumerate(places)),
        "</svg>",
    ]
    return "".join(parts)


def _rows(graph: Graph) -> list[int]:
    rows: list[int] = []
    for node in graph.nodes:
        rows.append(max((rows[source] + 1 for source in node.inputs), default=0))
    return rows


def _places(graph: Graph, rows: list[int]) -> list[tuple[int, int]]:
    """Middle of the upper side of each box: rows are centred on the widest one."""
    members: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        members.setdefault(row, []).append(index)
    widest = max(len(row) for row in members.values())
    centre = MARGIN + (widest * BOX_WIDTH + (widest - 1) * GAP_X) // 2
    places = [(0, 0)] * len(graph.nodes)
    for row, indices in members.items():
        left = centre - ((len(indices) - 1) * (BOX_WIDTH + GAP_X)) // 2
        for position, index in enumerate(indices):
            places[index] = left + position * (BOX_WIDTH + GAP_X), HEAD + row * (BOX_HEIGHT + GAP_Y)
    return places


def _bends(graph: Graph, rows: list[int]) -> list[tuple[tuple[int, int], int]]:
    """((source, target), how far beside the boxes it runs) of the edges that skip a row; long ones further out."""
    long = [
        (source, target)
        for target, node in enumerate(graph.nodes)
        for source in sorted(set(node.inputs))
        if rows[target] - rows[source] > 1
    ]
    return [((source, target), 14 + 8 * min(rows[target] - rows[source], 8)) for source, target in long]


def _edges(graph: Graph, rows: list[int], places: list[tuple[int, int]], right: int) -> list[str]:
    bends = dict(_bends(graph, rows))
    lines = []
    for target, node in enumerate(graph.nodes):
        for source in sorted(set(node.inputs)):
            (x1, y1), (x2, y2) = places[source], places[target]
            y1 += BOX_HEIGHT
            if (source, target) in bends:
                x1, x2 = x1 + BOX_WIDTH // 2, x2 + BOX_WIDTH // 2
                y1, y2 = y1 - BOX_HEIGHT // 2, y2 + BOX_HEIGHT // 2
                side = right + bends[source, target]
                path = f"M{x1} {y1}C{side} {y1} {side} {y1} {side} {(y1 + y2) // 2}S{side} {y2} {x2} {y2}"
            else:
                path = f"M{x1} {y1}L{x2} {y2}"
            lines.append(f'<path d="{path}" fill="none" stroke="#888888" stroke-width="1.3"/>')
    return lines


def _box(graph: Graph, index: int, x: int, y: int) -> str:
    node = graph.nodes[index]
    size = f"{node.height} x {node.width} x {node.channels}"
    fill = COLOURS.get(node.kind, "#ffffff")
    return (
        f'<g><rect x="{x - BOX_WIDTH // 2}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" fill="{fill}" '
        f'stroke="#555555"/><text x="{x}" y="{y + 16}" text-anchor="middle" fill="#111111">'
        f"{escape(_label(graph, index, node))}</text>"
        f'<text x="{x}" y="{y + 32}" text-anchor="middle" font-size="10" fill="#444444">{size}</text></g>'
    )


def _label(graph: Graph, index: int, node: Node) -> str:
    high, wide = node.kernel
    last = index == len(graph.nodes) - 1
    if node.kind == "sum_pool" and (high, wide) == (1, 1):
        name = "relu" if node.relu else "identity"
    elif node.kind in ("input", "add"):
        name = node.kind
    elif node.kind == "conv" and node.height == node.width == 1 and node.pad == 0:
        name = "linear" if (high, wide) == (1, 1) else f"linear {high}x{wide}"
    else:
        words = {"sum_pool": "mean", "max_pool": "max"}
        name = f"{words.get(node.kind, node.kind)} {high}x{wide}"
    if node.kind not in ("input", "add") and node.stride != (1, 1) and node.stride != node.kernel:
        name += f", stride {node.stride[0]}"
    if node.relu and not name.startswith("relu"):
        name += " + relu"
    return f"{name}: logits" if last else name
