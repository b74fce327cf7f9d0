"""Steps that wait for a webhook: as the wire has it, against a server that is told what to say, and for a real one's events."""

import asyncio
import datetime
import json
import threading
import time
import uuid
from typing import Any

import httpx
import pytest

from hookonce import Ledger, Refused, StepWaiting, WaitTimedOut

from .conftest import TOKEN, Service

EVENT = {
    "event": "0197b2f4-7a1c-7d3e-9f00-1234567890ab",
    "source": "stripe",
    "type": "invoice.paid",
    "key": "evt_1",
    "received_at": "2026-11-27T10:00:00.25Z",
    "body": {"data": {"object": {"id": "in_1"}}},
}


class Server:
    """Says one thing after another, of whatever step is asked for."""

    def __init__(self, *said: tuple[int, dict[str, Any]]) -> None:
        self.said = list(said)
        self.asked: list[tuple[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.url.path, json.loads(request.content)))
        status, body = self.said.pop(0)
        _, _, _, run, _, step, _ = request.url.path.split("/")
        return httpx.Response(status, json={"run": run, "step": step, **body}, headers={"retry-after": "0"})

    def ledger(self) -> Ledger:
        return Ledger(
            "http://127.0.0.1:9", "t", transport=httpx.MockTransport(self), async_transport=httpx.MockTransport(self)
        )


WAITING = (409, {"type": "urn:hookonce:problem:step-waiting"})
CAME = (200, {"status": "done", "result": EVENT, "ended_at": "2026-11-27T10:00:00Z", "replayed_at": "2026-11-27T10:00:01Z"})


def test_it_asks_until_the_event_is_there_and_always_the_same() -> None:
    server = Server(WAITING, WAITING, CAME)
    done = server.ledger().run("r").wait_for("stripe", match=("body:/data/object/id", "in_1"), timeout=60)
    assert (done.result.event, done.result.type, done.result.key) == (EVENT["event"], "invoice.paid", "evt_1")
    assert done.result.body == EVENT["body"]
    assert done.result.received_at == datetime.datetime(2026, 11, 27, 10, 0, 0, 250_000, datetime.timezone.utc)
    paths, bodies = {path for path, _ in server.asked}, [body for _, body in server.asked]
    assert len(paths) == 1 and len(bodies) == 3
    for body in bodies:
        assert 0 < body.pop("wait_ms") <= 20_000
        assert body == {"source": "stripe", "match": {"place": "body:/data/object/id", "value": "in_1"}, "timeout_ms": 60_000}


def test_two_that_wait_for_different_events_are_two_steps_and_a_name_may_be_given() -> None:
    server = Server(*[CAME] * 4)
    run = server.ledger().run("r")
    run.wait_for("stripe", type="invoice.paid", timeout=60)
    run.wait_for("stripe", type="invoice.paid", key="evt_1", timeout=60)
    run.wait_for("stripe", type="invoice.paid", timeout=5)
    run.wait_for("stripe", key="evt_1", timeout=60, step="the invoice")
    names = [path.split("/")[5] for path, _ in server.asked]
    assert names[0] == names[2] != names[1] and names[3] == "the invoice"
    assert names[0].startswith("wait:stripe:")


def test_a_body_that_is_no_json_is_bytes() -> None:
    server = Server((200, {"status": "done", "result": {**EVENT, "body": {"base64": "AP8="}}}))
    assert server.ledger().run("r").wait_for("stripe", type="t", timeout=60).result.body == b"\x00\xff"


def test_what_did_not_come_in_time_has_failed_and_a_wait_that_ends_before_goes_on() -> None:
    server = Server((200, {"status": "failed", "result": {"error": "timed-out"}}), WAITING, CAME)
    run = server.ledger().run("r")
    with pytest.raises(WaitTimedOut) as late:
        run.wait_for("stripe", type="t", timeout=1)
    assert late.value.error == {"error": "timed-out"}
    with pytest.raises(StepWaiting):
        run.wait_for("stripe", type="t", timeout=60, wait=0)
    assert run.wait_for("stripe", type="t", timeout=60, wait=0).result.key == "evt_1"


def test_tasks_wait_too_and_refusals_are_said() -> None:
    server = Server(WAITING, CAME, (422, {"type": "urn:hookonce:problem:unknown-source", "detail": "no source"}))

    async def main() -> None:
        run = server.ledger().run("r")
        assert (await run.await_for("stripe", type="t", timeout=60)).result.key == "evt_1"
        with pytest.raises(Refused, match="unknown-source"):
            await run.await_for("strype", type="t", timeout=60)

    asyncio.run(main())


def test_it_needs_to_know_what_for() -> None:
    server = Server()
    with pytest.raises(ValueError, match="match"):
        server.ledger().run("r").wait_for("stripe", timeout=1)
    assert not server.asked


def test_a_number_is_looked_for_as_json_writes_it() -> None:
    server = Server(*[CAME] * 3)
    run = server.ledger().run("r")
    for value in (5.0, True, "5"):
        run.wait_for("stripe", match=("body:/amount", value), timeout=60)
    assert [body["match"]["value"] for _, body in server.asked] == ["5", "true", "5"]
