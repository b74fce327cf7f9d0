"""A handler of relayed events that does each event's work once: verify, claim by the event's id, work, complete."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from ._context import StepContext
from ._errors import KeyLeased, LeaseLost, NotExecuted, OutcomeUnknown, StepFailed, StepRunning, Unavailable, VerificationFailed
from ._execute import Reconcile, is_async
from ._ledger import Ledger
from ._protocol import OnLost
from ._run import Run
from ._webhook import RelayedEvent, verify

Work = Callable[[StepContext, RelayedEvent], Any]
AsyncWork = Callable[[StepContext, RelayedEvent], Awaitable[Any]]

UNKNOWN_RETRY_SECONDS = 60


class HandlerTerms(TypedDict, total=False):
    """How a handler works. All may be left out."""

    name: str
    """Two handlers of the same events have two names ("webhook")."""
    lease: float
    """Seconds, extended as long as the work runs (30)."""
    on_lost: OnLost
    """`"retry"` unless said otherwise."""
    tolerance: float
    """Seconds that a request may be old (300)."""
    reconcile: Reconcile
    """Asked what became of an event's work whose process died."""


@dataclass(frozen=True)
class Answer:
    """What to answer hookonce with."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class Handler:
    """Handles relayed events for one destination.

    Each event is a run `{name}:{event id}` with a step `handle`; `context.run` takes further steps. An error in the work is the framework's
    500, and hookonce tries again. `StepFailed` ends the delivery for good. `on_lost` is "retry" here: a handler that died is called again
    with the same `effect_key`. With "hold" a lost event waits, answered 503, until somebody or `reconcile` resolves it.
    """

    def __init__(
        self,
        ledger: Ledger,
        secrets: str | Iterable[str],
        *,
        name: str = "webhook",
        lease: float = 30.0,
        on_lost: OnLost = "retry",
        tolerance: float = 300.0,
        reconcile: Reconcile | None = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._ledger = ledger
        self._secrets = [secrets] if isinstance(secrets, str) else list(secrets)
        self._name, self._tolerance, self._now = name, tolerance, now
        self._lease, self._reconcile = lease, reconcile
        self._on_lost: OnLost = on_lost

    def handle(self, headers: Mapping[str, str], body: bytes, work: Work) -> Answer:
        """`body` is the exact bytes that came."""
        if is_async(work):
            raise TypeError("the handler's work is async: write `await handler.ahandle(…)`")
        try:
            event = self._verified(headers, body)
            self._run(event).outcome(
                "handle",
                lambda context: work(context, event),
                lease=self._lease,
                on_lost=self._on_lost,
                wait=0.0,
                reconcile=self._reconcile,
            )
            return _answer(200, "done")
        except Exception as error:
            return _answer_to(error)

    async def ahandle(self, headers: Mapping[str, str], body: bytes, work: AsyncWork) -> Answer:
        """The same for asyncio, with a coroutine function."""
        try:
            event = self._verified(headers, body)
            await self._run(event).aoutcome(
                "handle",
                lambda context: work(context, event),
                lease=self._lease,
                on_lost=self._on_lost,
                wait=0.0,
                reconcile=self._reconcile,
            )
            return _answer(200, "done")
        except Exception as error:
            return _answer_to(error)

    def flask(self, work: Work) -> Callable[[], Any]:
        """A view for Flask: `app.post("/webhooks")(handler.flask(work))`."""
        import flask

        if is_async(work):
            raise TypeError("a Flask view's work is a plain function; async work belongs to FastAPI, or to `handler.ahandle`")

        def view() -> flask.Response:
            answer = self.handle(dict(flask.request.headers), flask.request.get_data(), work)
            return flask.Response(answer.body, answer.status, answer.headers)

        view.__name__ = getattr(work, "__name__", "handler")
        return view

    def fastapi(self, work: Work | AsyncWork) -> Callable[..., Any]:
        """An endpoint for FastAPI and Starlette: `app.post("/webhooks")(handler.fastapi(work))`. Plain functions run on a thread."""
        from starlette.requests import Request
        from starlette.responses import Response

        async def endpoint(request: Request) -> Response:
            headers, body = dict(request.headers), await request.body()
            if is_async(work):
                answer = await self.ahandle(headers, body, work)
            else:
                answer = await asyncio.to_thread(self.handle, headers, body, work)
            return Response(answer.body, answer.status, answer.headers)

        return endpoint

    def _verified(self, headers: Mapping[str, str], body: bytes) -> RelayedEvent:
        return verify(headers, body, self._secrets, tolerance=self._tolerance, now=self._now() if self._now else None)

    def _run(self, event: RelayedEvent) -> Run:
        return self._ledger.run(f"{self._name}:{event.id}")


def _answer(status: int, said: str, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps({"status": said}).encode(), {"content-type": "application/json"} | named)


def _answer_to(error: Exception) -> Answer:
    """What makes hookonce do the right thing next. An error of the work's own is the framework's."""
    match error:
        case VerificationFailed():
            return _answer(401, "refused")
        case StepFailed():
            return _answer(422, "failed", hookonce_retry="no")
        case OutcomeUnknown():
            return _answer(503, "unknown", retry_after=str(UNKNOWN_RETRY_SECONDS))
        case StepRunning() | KeyLeased():
            return _answer(503, "running", retry_after=str(round(error.retry_after)))
        case NotExecuted() | LeaseLost() | Unavailable():
            return _answer(503, "not-done", retry_after="1")
        case _:
            raise error
