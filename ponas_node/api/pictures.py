"""Drawings of networks as SVG: of a result, and of any genotype of a search space on inputs of any shape."""

from __future__ import annotations

from aiohttp import web

from consensus import records
from consensus.spaces import InputShape, InvalidGenotype, Space, UnknownSpace, get_space, picture
from consensus.tasks import input_shape
from ponas_node.api.errors import ApiError, not_found
from ponas_node.api.parameters import path_hash, query_number
from ponas_node.api.view import view_of

_HEADERS = {
    "Cache-Control": "public, max-age=86400",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
}
_MOST_SIZE, _MOST_CLASSES = 1024, 1000
"""As of a task: see `TaskSpec`."""


async def of_result(request: web.Request) -> web.Response:
    """GET /v1/results/{id}/picture.svg: the network of a result, on the samples of its task."""
    state = view_of(request).chain.state
    found = records.result(state, path_hash(request))
    if found is None:
        raise not_found("unknown_result", "No result of this chain has that id.")
    spec = records.need_task(state, found.task).spec
    return _drawn(get_space(spec.space), found.genotype, input_shape(spec))


async def of_genotype(request: web.Request) -> web.Response:
    """GET /v1/spaces/{space}/{genotype}/picture.svg?height=H&width=W&channels=C&classes=N: any network of a space."""
    shape = InputShape(
        _size(request, "height", 1, _MOST_SIZE),
        _size(request, "width", 1, _MOST_SIZE),
        _size(request, "channels", 1, _MOST_SIZE),
        _size(request, "classes", 2, _MOST_CLASSES),
    )
    try:
        space = get_space(request.match_info["space"])
    except UnknownSpace as error:
        raise not_found("unknown_space", str(error)) from error
    try:
        return _drawn(space, space.parse(request.match_info["genotype"]), shape)
    except InvalidGenotype as error:
        raise ApiError(400, "bad_genotype", str(error)) from error


def _size(request: web.Request, name: str, least: int, most: int) -> int:
    size = query_number(request, name)
    if size is None or not least <= size <= most:
        raise ApiError(400, "bad_shape", f"The query must have {name}, from {least} to {most}.")
    return size


def _drawn(space: Space, genotype: bytes, shape: InputShape) -> web.Response:
    svg = picture(space.decode(genotype, shape), space.text(genotype))
    return web.Response(text=svg, content_type="image/svg+xml", headers=_HEADERS)


def routes() -> list[web.RouteDef]:
    """The endpoints of this module."""
    return [
        web.get("/v1/results/{id}/picture.svg", of_result),
        web.get("/v1/spaces/{space}/{genotype}/picture.svg", of_genotype),
    ]
