"""The search: tasks, epochs, results, seats, the leader of a slot, artifacts and the pool."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from chain.keys import address_of, address_text
from chain.state import StateView
from consensus import records
from consensus.challenge import challenge_closes
from consensus.settle import rank
from consensus.types import EpochRecord, TaskRecord
from ponas_node.api.errors import ApiError, not_found
from ponas_node.api.limits import LARGEST_PAGE
from ponas_node.api.parameters import page_size, parse_number, path_address, path_hash, query_number
from ponas_node.api.render import Json, epoch_json, payouts_json, result_json, result_summary, task_json
from ponas_node.api.status import clock_json
from ponas_node.api.view import NodeView, view_of


async def tasks(request: web.Request) -> web.Response:
    """GET /v1/tasks: the built-in tasks and those that are still funded, in the order in which they will be run."""
    state = view_of(request).chain.state
    funded = records.ids(state, records.FUNDED)
    built_in = records.ids(state, records.BUILT_IN)
    found = [records.need_task(state, id) for id in dict.fromkeys((*funded, *built_in))]
    # The order of settle.choose_task; a stable sort keeps the order of funding among equals.
    found.sort(key=lambda task: (task.id not in funded, -task.spec.bounty_per_epoch, task.height))
    return web.json_response({"tasks": [_task(state, task) for task in found]})


async def task(request: web.Request) -> web.Response:
    """GET /v1/tasks/{id}: one task, also when its funding is spent."""
    state = view_of(request).chain.state
    found = records.task(state, path_hash(request))
    if found is None:
        raise not_found("unknown_task", "No task of this chain has that id.")
    return web.json_response(_task(state, found))


def _task(state: StateView, found: TaskRecord) -> Json:
    return task_json(
        found,
        funded=found.id in records.ids(state, records.FUNDED),
        built_in=found.id in records.ids(state, records.BUILT_IN),
        current=found.id == records.current_epoch(state).task,
    )


async def epoch(request: web.Request) -> web.Response:
    """GET /v1/epochs/{n}, n a number or "current": the epoch and its best results."""
    view = view_of(request)
    found = _find_epoch(view, request.match_info["n"])
    state = view.chain.state
    found_task = records.task(state, found.task)
    results = records.results_of(state, found)
    ranking = rank(results, found_task.spec.baseline_correct if found_task else 0)
    spec = found_task.spec if found_task else None
    parameters = view.genesis.consensus
    first = parameters.start(found.number)
    here = clock_json(view)
    return web.json_response({
        **epoch_json(found, found_task),
        "first_slot": first,
        "starts_at": parameters.time_of(first),
        "ends_at": parameters.time_of(first + parameters.epoch_slots),
        "phase": here["phase"] if here["epoch"] == found.number else None,
        "ranking": [result_summary(result, spec) for result in ranking[: page_size(request)]],
        "revoked": [result_summary(result, spec) for result in results if result.revoked][: page_size(request)],
    })  # fmt: skip


def _find_epoch(view: NodeView, text: str) -> EpochRecord:
    state = view.chain.state
    if text == "current":
        return records.current_epoch(state)
    number = parse_number(text, "An epoch")
    found = records.epoch(state, number) if number < 2**63 else None
    if found is None:
        raise not_found("unknown_epoch", "No block has opened this epoch: it lies ahead, or its slots stayed empty.")
    return found


async def result(request: web.Request) -> web.Response:
    """GET /v1/results/{id}: one result, with all that is needed to train it again."""
    view = view_of(request)
    state = view.chain.state
    found = records.result(state, path_hash(request))
    if found is None:
        raise not_found("unknown_result", "No result of this chain has that id.")
    found_task = records.task(state, found.task)
    spec = found_task.spec if found_task else None
    answer = result_json(found, spec, model_here=view.artifacts.has(found.model))
    opened = records.epoch(state, found.epoch)
    return web.json_response({
        **answer,
        "task_name": spec.name if spec else None,
        "seed": opened.seed.hex() if opened else None,
        "challenge_closes": challenge_closes(state, view.genesis.consensus, found),
    })  # fmt: skip


async def model(request: web.Request) -> web.StreamResponse:
    """GET /v1/results/{id}/model: the trained model's bytes."""
    view = view_of(request)
    found = records.result(view.chain.state, path_hash(request))
    if found is None:
        raise not_found("unknown_result", "No result of this chain has that id.")
    return _send_artifact(view, found.model)


async def artifact(request: web.Request) -> web.StreamResponse:
    """GET /v1/artifacts/{id}: the bytes of a dataset or model."""
    return _send_artifact(view_of(request), path_hash(request))


def _send_artifact(view: NodeView, id: bytes) -> web.StreamResponse:
    # The path comes from 32 parsed bytes, never from the request's text, so it cannot lead elsewhere.
    if not view.artifacts.has(id):
        raise not_found("artifact_not_here", "This node does not hold that artifact; another one may.")
    headers = {
        "Content-Type": "application/octet-stream",
        "Cache-Control": "public, max-age=31536000, immutable",
        "Content-Disposition": f'attachment; filename="{id.hex()}"',
    }
    return web.FileResponse(view.artifacts.path(id), headers=headers)


async def seats(request: web.Request) -> web.Response:
    """GET /v1/seats: all active seats, the newest epoch first, and those that can still be challenged.

    A bootstrap seat has neither epoch nor result.
    """
    state = view_of(request).chain.state
    window = records.seat_window(state)
    epochs = {seat: group.epoch for group in window.groups for seat in group.seats}
    listed = [(epochs.get(seat), seat) for seat in records.active_seats(state)]
    listed.sort(key=lambda item: -1 if item[0] is None else item[0], reverse=True)
    return web.json_response({
        "count": len(listed),
        "seats": [_seat(state, number, seat) for number, seat in listed[: LARGEST_PAGE * 10]],
        "pending": [
            {"epoch": group.epoch, "active_from": group.closes + 1, "seats": [seat.hex() for seat in group.seats]}
            for group in window.pending
        ],
    })  # fmt: skip


def _seat(state: StateView, number: int | None, seat: bytes) -> Json:
    holder = records.seat_holder(state, seat)
    owner, payouts = holder if holder is not None else (None, ())
    won = None if number is None else records.result(state, seat)
    return {
        "id": seat.hex(),
        "owner": None if owner is None else address_text(address_of(owner)),
        "public_key": None if owner is None else owner.hex(),
        "epoch": number,
        "result": None if won is None else won.id.hex(),
        "correct": None if won is None else won.correct,
        "total": None if won is None else won.total,
        "payouts": payouts_json(payouts),
    }


async def leader(request: web.Request) -> web.Response:
    """GET /v1/leader: who may mint at `slot` (default: the first from now on) on top of the tip, as things stand."""
    view = view_of(request)
    tip = view.chain.tip
    soonest = max(view.slot(), tip.slot + 1)
    slot = query_number(request, "slot")
    slot = soonest if slot is None else slot
    last = soonest + view.genesis.consensus.epoch_slots
    if not tip.slot < slot <= last:
        raise ApiError(400, "bad_slot", f"slot must be from {tip.slot + 1}, which follows the tip's, to {last}.")
    seat = view.rules.leader(view.chain.state, tip, slot)
    holder = records.seat_holder(view.chain.state, seat)
    return web.json_response({
        "slot": slot,
        "starts_at": view.genesis.consensus.time_of(slot),
        "seat": seat.hex(),
        "owner": None if holder is None else address_text(address_of(holder[0])),
        "on_top_of": tip.id.hex(),
    })  # fmt: skip


async def pool(request: web.Request) -> web.Response:
    """GET /v1/pool: the pool that this node runs."""
    summary = view_of(request).pool_summary()
    if summary is None:
        raise not_found("no_pool", "This node runs no pool.")
    return web.json_response(summary)


async def pool_member(request: web.Request) -> web.Response:
    """GET /v1/pool/members/{address}: one member of the pool."""
    view = view_of(request)
    address = path_address(request)
    if view.pool_summary() is None:
        raise not_found("no_pool", "This node runs no pool.")
    member = view.pool_member(address)
    if member is None:
        raise not_found("unknown_member", "The pool has no member with this address.")
    return web.json_response(member)


def routes() -> list[web.RouteDef]:
    """The endpoints of this module."""
    table: list[tuple[str, Any]] = [
        ("/v1/tasks", tasks),
        ("/v1/tasks/{id}", task),
        ("/v1/epochs/{n}", epoch),
        ("/v1/results/{id}", result),
        ("/v1/results/{id}/model", model),
        ("/v1/artifacts/{id}", artifact),
        ("/v1/seats", seats),
        ("/v1/leader", leader),
        ("/v1/pool", pool),
        ("/v1/pool/members/{address}", pool_member),
    ]
    return [web.get(path, handler) for path, handler in table]
