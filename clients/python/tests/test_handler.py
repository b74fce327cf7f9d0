"""What hookonce really relays, handled by real servers of FastAPI and Flask."""

import json
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import fastapi
import flask
import uvicorn
from werkzeug.serving import make_server

from hookonce import Handler, Ledger, RelayedEvent, StepContext

from .conftest import SECRET, TOKEN, Service


class Works:
    """The work of a handler: fails at first, then is done."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, Any]] = []

    def __call__(self, ctx: StepContext, event: RelayedEvent) -> str:
        self.seen.append((event.id, ctx.effect_key, event.json()))
        if len(self.seen) == 1:
            raise RuntimeError("at first it fails")
        assert event.source == "ledger" and event.key and event.type
        return ctx.run.execute("email", lambda _: "sent")


def check(service: Service, name: str, works: Works) -> None:
    """An event is emitted, handled at the second attempt, and, replayed, not again."""
    ledger = Ledger(service.url, TOKEN)

    def pay(ctx: StepContext) -> None:
        ctx.emit(f"{name}.paid", {"order": "ü"})

    ledger.run(str(uuid.uuid4())).execute("pay", pay)
    delivered(service, name, 1)
    assert len(works.seen) == 2 and works.seen[0] == works.seen[1] and works.seen[0][2] == {"order": "ü"}
    service.command("replay", works.seen[0][0], "--yes")
    delivered(service, name, 2)
    assert len(works.seen) == 2
    steps = ledger.run(f"webhook:{works.seen[0][0]}").resume()
    assert {step: state.status for step, state in steps.items()} == {"handle": "done", "email": "done"}


def delivered(service: Service, name: str, count: int) -> None:
    """Waits for so many deliveries that ended well."""
    deadline = time.monotonic() + 30
    while True:
        listed = json.loads(service.command("deliveries", "list", "--state", "delivered", "--output", "json"))
        if len([row for row in listed if row["destination"] == name]) == count:
            return
        assert time.monotonic() < deadline, listed


def in_thread(serve: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_fastapi(service: Service) -> None:
    works, app = Works(), fastapi.FastAPI()
    handler = Handler(Ledger(service.url, TOKEN), SECRET)
    app.post("/webhooks")(handler.fastapi(works))
    server = uvicorn.Server(uvicorn.Config(app, port=service.handler_ports["fastapi"], log_level="critical"))
    thread = in_thread(server.run)
    try:
        check(service, "fastapi", works)
    finally:
        server.should_exit = True
        thread.join(20)


def test_flask(service: Service) -> None:
    works, app = Works(), flask.Flask("test")
    handler = Handler(Ledger(service.url, TOKEN), SECRET)
    app.post("/webhooks")(handler.flask(works))
    server = make_server("127.0.0.1", service.handler_ports["flask"], app, threaded=True)
    thread = in_thread(server.serve_forever)
    try:
        check(service, "flask", works)
    finally:
        server.shutdown()
        thread.join(20)
