"""The cases that all clients share, for threads and for asyncio."""

import asyncio
import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import hookonce
from hookonce import Done, Failed, Grant, Handler, Ledger, LostStep, NotExecuted, Run, StepContext, StepFailed

from .conftest import TOKEN, Service

CASES = json.loads((Path(__file__).parents[2] / "conformance.json").read_text())["cases"]
PATIENCE = 30.0


class Raised(Exception):
    """An error of the work's own."""


PLAIN = httpx.HTTPTransport()


class Faults(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Befall the next calls, one each."""

    def __init__(self) -> None:
        self.open: deque[str] = deque()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        fault = self.open.popleft() if self.open else ""
        if fault == "refuse":
            raise httpx.ConnectError("refused")
        if fault.isdigit():
            return httpx.Response(int(fault), headers={"retry-after": "0"})
        response = PLAIN.handle_request(request)
        if fault == "lose":
            response.read()
            raise httpx.RemoteProtocolError("the answer is lost")
        return response

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        plain = httpx.Request(request.method, request.url, headers=request.headers, content=await request.aread())

        def whole() -> httpx.Response:
            response = self.handle_request(plain)
            return httpx.Response(response.status_code, headers=response.headers, content=response.read())

        return await asyncio.to_thread(whole)


class Player:
    """Does the operations of one case."""

    def __init__(self, service: Service, mode: str) -> None:
        self.faults = Faults()
        self.name = f"python-{mode}-{uuid.uuid4()}"
        self.ledger = Ledger(service.url, TOKEN, transport=self.faults, async_transport=self.faults)
        self.run = self.ledger.run(self.name)
        self.mode = mode
        self.grants: dict[str, Any] = {}
        self.threads: dict[str, tuple[threading.Thread, list[BaseException]]] = {}

    def play(self, operation: dict[str, Any]) -> None:
        kind = next(iter(operation))
        expected = operation.get("expect", {})
        self.faults.open = deque(operation.get("faults", []))
        seen: dict[str, Any] = {"executed": 0}
        try:
            getattr(self, f"do_{kind}")(operation[kind], operation, seen)
        except (hookonce.HookonceError, Raised) as error:
            seen["error"] = type(error).__name__
            seen["of"] = getattr(error, "error", None)
            seen["reason"] = getattr(error, "reason", None)
            if hasattr(error, "fence"):
                seen["fence"] = error.fence
        seen["faults_left"] = len(self.faults.open)
        if "error" not in expected:
            assert "error" not in seen, (operation, seen)
        for name, value in expected.items():
            if name in ("effect_key_of", "asked_of"):
                name, value = name.removesuffix("_of"), self.grants[value].effect_key
            assert seen.get(name) == value, (operation, name, seen)

    def do_claim(self, step: str, operation: dict[str, Any], seen: dict[str, Any]) -> None:
        got = self.run.claim(step, **terms(operation))
        if isinstance(got, Grant):
            self.grants[operation.get("as", step)] = got
            seen.update(fence=got.fence, attempt=got.attempt, effect_key=got.effect_key)
        else:
            seen.update(status=got.status, result=got.result)

    def do_heartbeat(self, name: str, operation: dict[str, Any], seen: dict[str, Any]) -> None:
        self.run.heartbeat(self.grants[name], operation["lease_ms"] / 1000)

    def do_complete(self, name: str, operation: dict[str, Any], seen: dict[str, Any]) -> None:
        self.run.complete(self.grants[name], operation["result"])

    def do_fail(self, name: str, operation: dict[str, Any], seen: dict[str, Any]) -> None:
        self.run.fail(self.grants[name], operation["error"])

    def do_release(self, name: str, operation: dict[str, Any], seen: dict[str, Any]) -> None:
        self.run.release(self.grants[name])

    def do_resolve(self, step: str, operation: dict[str, Any], seen: dict[str, Any]) -> None:
        outcome = outcome_of(operation["outcome"])
        assert outcome is not None
        self.run.resolve(step, operation["fence"], outcome)

    def do_resume(self, steps: dict[str, Any], operation: dict[str, Any], seen: dict[str, Any]) -> None:
        found = self.run.resume() if self.mode == "threads" else asyncio.run(self.run.aresume())
        assert {name: {"status": s.status, "result": s.result, "fence": s.fence} for name, s in found.items()} == steps

    def do_execute(self, step: str, operation: dict[str, Any], seen: dict[str, Any]) -> None:
        reconcile = None
        if "reconcile" in operation:

            def hook(lost: LostStep) -> Done | Failed | NotExecuted | None:
                seen["asked"] = lost.effect_key
                return outcome_of(operation["reconcile"])

            reconcile = hook
        work = self.work(operation, seen)
        if self.mode == "threads":
            seen["result"] = self.run.execute(step, work, reconcile=reconcile, **terms(operation))
            return

        async def awork(context: StepContext) -> Any:
            return await asyncio.to_thread(work, context)

        seen["result"] = asyncio.run(self.run.aexecute(step, awork, reconcile=reconcile, **terms(operation)))

    def work(self, operation: dict[str, Any], seen: dict[str, Any]) -> Callable[[StepContext], Any]:
        body = operation["body"]

        def work(context: StepContext, *_: Any) -> Any:
            seen["executed"] += 1
            seen.update(fence=context.fence, attempt=context.attempt, effect_key=context.effect_key)
            self.grants[operation.get("as", "")] = Grant(context.step, context.fence, context.attempt, context.effect_key)
            if "beats" in body:
                until(lambda: context.heartbeats >= body["beats"])
            if "overtaken" in body:
                overtake(self.run, context)
            if "until_lost" in body:
                assert context.wait_lost(PATIENCE)
            self.faults.open = deque(body.get("faults", self.faults.open))
            if "fail" in body:
                raise StepFailed(body["fail"])
            if "not_executed" in body:
                raise NotExecuted(body["not_executed"])
            if "raise" in body:
                raise Raised(body["raise"])
            return body["return"]

        return work

    def do_start(self, name: str, operation: dict[str, Any], seen: dict[str, Any]) -> None:
        errors: list[BaseException] = []

        def play() -> None:
            try:
                self.play(operation["do"])
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=play)
        thread.start()
        self.threads[name] = (thread, errors)

    def do_join(self, name: str, operation: dict[str, Any], seen: dict[str, Any]) -> None:
        thread, errors = self.threads[name]
        thread.join(PATIENCE)
        assert not thread.is_alive() and not errors, errors

    def do_dedup(self, key: str, operation: dict[str, Any], seen: dict[str, Any]) -> None:
        window = operation["window"]
        if "lease_ms" not in operation:
            seen["first"] = self.ledger.dedup(self.name, key, window=window)
            return
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                leased = self.ledger.dedup(self.name, key, window=window, lease=operation["lease_ms"] / 1000)
                break
            except hookonce.KeyLeased:
                if "until_free" not in operation or time.monotonic() > deadline:
                    raise
        seen["first"] = leased.first
        self.grants[operation.get("as", key)] = leased

    def do_dedup_done(self, name: str, operation: dict[str, Any], seen: dict[str, Any]) -> None:
        self.grants[name].done()

    def do_hash(self, value: Any, operation: dict[str, Any], seen: dict[str, Any]) -> None:
        seen["hash"] = hookonce.input_hash(value)

    def do_verify(self, request: dict[str, Any], operation: dict[str, Any], seen: dict[str, Any]) -> None:
        event = hookonce.verify(request["headers"], request["body"].encode(), operation["secrets"], now=operation["now"])
        seen["event"] = {name: getattr(event, name) for name in ("id", "source", "key", "type", "attempt", "fence", "replay")}
        seen["event"]["json"] = event.json()

    def do_handle(self, request: dict[str, Any], operation: dict[str, Any], seen: dict[str, Any]) -> None:
        handler = Handler(self.ledger, operation["secrets"], name=self.name, now=lambda: float(operation["now"]))
        work: Any = self.work(operation, seen)
        body = request["body"].encode()
        if self.mode == "threads":
            answer = handler.handle(request["headers"], body, work)
        else:

            async def awork(context: StepContext, event: hookonce.RelayedEvent) -> Any:
                return work(context)

            answer = asyncio.run(handler.ahandle(request["headers"], body, awork))
        seen["status"] = answer.status
        wanted = operation["expect"].get("headers", {})
        seen["headers"] = {name: answer.headers.get(name) for name in wanted}


def overtake(run: Run, context: StepContext) -> None:
    """Lets the lease end and another claim the step. A beat may come between the two."""

    def claimed() -> bool:
        run.heartbeat(Grant(context.step, context.fence, 1, ""), 0.001)
        try:
            return isinstance(run.claim(context.step, on_lost="retry"), Grant)
        except hookonce.StepRunning:
            return False

    until(claimed)


def terms(operation: dict[str, Any]) -> dict[str, Any]:
    return {
        "lease": operation.get("lease_ms", 30_000) / 1000,
        "on_lost": operation.get("on_lost", "hold"),
        "wait": operation.get("wait_ms", 0) / 1000,
        "input": operation.get("input"),
    }


def outcome_of(said: dict[str, Any]) -> Done | Failed | NotExecuted | None:
    if "done" in said:
        return Done(said["done"], said["evidence"])
    if "failed" in said:
        return Failed(said["failed"], said["evidence"])
    return NotExecuted(said["not_executed"]) if "not_executed" in said else None


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.005)


@pytest.mark.parametrize("mode", ["threads", "asyncio"])
@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_case(service: Service, case: dict[str, Any], mode: str) -> None:
    player = Player(service, mode)
    for operation in case["do"]:
        player.play(operation)
