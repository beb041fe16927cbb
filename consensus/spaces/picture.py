"""A drawing of a network as SVG: one self-contained, escaped string, fit to be put into a page, light or dark.

Nodes stand in rows: each one row below the lowest node that it reads. Nodes of one row stand side by side. An edge that
spans more than one row runs down a lane of its own beside the boxes of the rows between.
"""

from __future__ import annotations

from statistics import fmean
from xml.sax.saxutils import escape

from consensus.spaces.graph import Graph, Node

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y, MARGIN, HEAD, LANE = 168, 40, 36, 36, 24, 44, 12
MAX_TITLE = 200
COLOURS = {
    "input": "#e8e8e8",
    "conv": "#cfe3f7",
    "depthwise": "#d9d4f2",
    "sum_pool": "#d5ecd8",
    "max_pool": "#f7e3c4",
    "add": "#f6d3d6",
}
Place = tuple[int, int]
"""(x, row) of a node: x of its middle, counted from the axis of the drawing."""


def picture(graph: Graph, title: str) -> str:
    """The SVG of a network under a title. `title` may be any text: it is escaped, and cut after 200 characters."""
    places = _places(graph)
    lanes = _lanes(graph, places)
    shown = "".join(char if char.isprintable() else "\ufffd" for char in title[:MAX_TITLE])
    length = sum(8 if char.isascii() and not char.isupper() else 14 for char in shown)
    half = max(*(abs(x) + BOX_WIDTH // 2 for x, _ in places), *map(abs, lanes.values()), length // 2) + MARGIN
    places = [(x + half, row) for x, row in places]
    lanes = {edge: x + half for edge, x in lanes.items()}
    height = _top(max(row for _, row in places)) + BOX_HEIGHT + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * half} {height}" width="{2 * half}" '
        f'height="{height}" role="img" font-family="sans-serif" font-size="12"><title>{escape(shown)}</title>',
        f'<rect width="{2 * half}" height="{height}" fill="#ffffff"/>',
        f'<text x="{half}" y="{MARGIN}" text-anchor="middle" font-size="13" font-weight="bold" fill="#222222">'
        f"{escape(shown)}</text>",
        *_edges(graph, places, lanes),
        *(_box(graph, index, x, _top(row)) for index, (x, row) in enumerate(places)),
        "</svg>",
    ]
    return "".join(parts)


def _top(row: int) -> int:
    """y of the upper side of the boxes of a row."""
    return HEAD + row * (BOX_HEIGHT + GAP_Y)


def _places(graph: Graph) -> list[Place]:
    """Where each node stands. Rows are centred; in a row, nodes stand in the order of what they read."""
    rows: list[int] = []
    for node in graph.nodes:
        rows.append(max((rows[source] + 1 for source in node.inputs), default=0))
    places = [(0, row) for row in rows]
    for row in range(max(rows) + 1):
        members = [index for index, other in enumerate(rows) if other == row]
        members.sort(key=lambda index: fmean(places[source][0] for source in graph.nodes[index].inputs or (0,)))
        for position, index in enumerate(members):
            places[index] = (2 * position - len(members) + 1) * (BOX_WIDTH + GAP_X) // 2, row
    return places


def _lanes(graph: Graph, places: list[Place]) -> dict[tuple[int, int], int]:
    """x of the lane of each edge (source, target) that skips a row: free all the way, and as near as can be."""
    near = BOX_WIDTH // 2 + LANE
    taken = {(x + step, row) for x, row in places for step in range(-near + 1, near)}
    reach = max(x for x, _ in places) + near + 2 * LANE * len(graph.nodes)
    lanes: dict[tuple[int, int], int] = {}
    for target, node in enumerate(graph.nodes):
        for source in sorted(set(node.inputs), reverse=True):
            (x1, above), (x2, below) = places[source], places[target]
            between = range(above + 1, below)
            if not between:
                continue
            free = [x for x in range(-reach, reach, LANE // 2) if not any((x, row) in taken for row in between)]
            lane = lanes[source, target] = min(free, key=lambda x: (abs(x - x1) + abs(x - x2), -x))
            taken |= {(lane + step, row) for row in between for step in range(-LANE + 1, LANE)}
    return lanes


def _edges(graph: Graph, places: list[Place], lanes: dict[tuple[int, int], int]) -> list[str]:
    """Each from the middle below its source to a point of its own above its target, with a head there."""
    lines = []
    for target, node in enumerate(graph.nodes):
        sources = sorted(node.inputs, key=lambda source: lanes.get((source, target), places[source][0]))
        for position, source in enumerate(sources):
            (x1, above), (x2, below) = places[source], places[target]
            x2 += (2 * position - len(sources) + 1) * LANE // 2
            y, end = _top(above) + BOX_HEIGHT, _top(below)
            path = f"M{x1} {y}"
            if (source, target) in lanes:
                lane = lanes[source, target]
                path += _bow(x1, y, lane, y + GAP_Y) + f"V{end - GAP_Y}"
                x1, y = lane, end - GAP_Y
            path += _bow(x1, y, x2, end) + f"M{x2 - 3} {end - 5}L{x2} {end}L{x2 + 3} {end - 5}"
            lines.append(f'<path d="{path}" fill="none" stroke="#777777" stroke-width="1.3"/>')
    return lines


def _bow(x1: int, y1: int, x2: int, y2: int) -> str:
    """A curve that leaves and arrives upright."""
    middle = (y1 + y2) // 2
    return f"C{x1} {middle} {x2} {middle} {x2} {y2}"


def _box(graph: Graph, index: int, x: int, y: int) -> str:
    node = graph.nodes[index]
    size = f"{node.height} x {node.width} x {node.channels}"
    plain = node.kind == "sum_pool" and node.kernel == (1, 1)  # a relu, or nothing at all
    fill = "#ffffff" if plain else COLOURS[node.kind]
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
