"""The ledger as code sees it: runs, steps, dedup; for threads and for asyncio."""

import asyncio
import contextlib
import contextvars
import functools
import inspect
import ipaddress
import json
import os
import socket
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, overload

import httpx

from ._context import StepContext, ThreadBeats, beat
from ._errors import HookonceError, InputChanged, LeaseLost, NotExecuted, OutcomeUnknown, StepFailed
from ._protocol import (
    Call,
    Ended,
    Exchange,
    Grant,
    LostStep,
    OnLost,
    Outcome,
    Pause,
    Protocol,
    Reply,
    StepState,
    Terms,
    input_hash,
)

P = ParamSpec("P")
T = TypeVar("T")

Reconcile = Callable[[LostStep], Outcome | None | Awaitable[Outcome | None]]
"""Asked what became of a step that was lost: `Done`, `Failed` or `NotExecuted` with the evidence, or None where it can't tell."""

ABANDON_SECONDS = 0.001
ABANDON_GIVE_UP = 1.0

_current: contextvars.ContextVar["Run | None"] = contextvars.ContextVar("hookonce_run", default=None)


class Ledger:
    """A ledger, at a server. `url` and `token` default to HOOKONCE_URL (http://127.0.0.1:8081) and HOOKONCE_TOKEN.

    A call that gets no answer, or 429, 502, 503 or 504, is sent again as it was, with backoff, for `give_up` seconds; then `Unavailable`.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        owner: str | None = None,
        give_up: float = 60.0,
        transport: httpx.BaseTransport | None = None,
        async_transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        url = url or os.environ.get("HOOKONCE_URL") or "http://127.0.0.1:8081"
        token = token or os.environ.get("HOOKONCE_TOKEN") or ""
        self.protocol = Protocol(owner or f"{socket.gethostname()}:{os.getpid()}"[-255:], give_up)
        self._base = url.rstrip("/") + "/v1"
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        # What is on this machine is not asked for through a proxy.
        self._trust_env = not _is_loopback(httpx.URL(url).host)
        self._client = httpx.Client(headers=self._headers, trust_env=self._trust_env, transport=transport)
        self._async_transport = async_transport
        self._async_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = weakref.WeakKeyDictionary()

    def close(self) -> None:
        self._client.close()

    async def aclose(self) -> None:
        client = self._async_clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()
        self.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> "Ledger":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def run(self, name: str) -> "Run":
        """A run by its name; as a context manager it is the one that decorated steps belong to."""
        return Run(self, name)

    def step(
        self,
        name: str,
        *,
        run: str | None = None,
        lease: float = 30.0,
        on_lost: OnLost = "hold",
        wait: float = 30.0,
        input: Callable[..., Any] | None = None,
        reconcile: Reconcile | None = None,
    ) -> "StepDecorator":
        """Makes a function a step. It gets a `StepContext` before its own arguments; its callers give the arguments alone.

        `name` and `run` are formatted with the arguments by name: `"charge:{order.id}"`. Without `run`, the run is the one of the enclosing
        `with ledger.run(…)`. `input` is called with the arguments: a step that comes again with another input is refused.
        """
        return StepDecorator(self, name, run, Terms(lease, on_lost, wait), input, reconcile)

    @overload
    def dedup(self, scope: str, key: str, *, window: str | float) -> bool: ...
    @overload
    def dedup(self, scope: str, key: str, *, window: str | float, lease: float) -> "DedupLease": ...
    def dedup(self, scope: str, key: str, *, window: str | float, lease: float | None = None) -> "bool | DedupLease":
        """Is this key new in the scope? `window` is how long it is remembered: "24h", or seconds.

        Without a lease the answer marks the key, and a crash before the work is done loses it. With one, use it as `with` and handle the key
        where `.first` is true: it is done when the block ends without an error, and free again after the lease where it does not.
        """
        fence = self.drive(self.protocol.mark(scope, key, window, lease))
        return fence is not None if lease is None else DedupLease(self, scope, key, fence)

    @overload
    async def adedup(self, scope: str, key: str, *, window: str | float) -> bool: ...
    @overload
    async def adedup(self, scope: str, key: str, *, window: str | float, lease: float) -> "DedupLease": ...
    async def adedup(self, scope: str, key: str, *, window: str | float, lease: float | None = None) -> "bool | DedupLease":
        """The same for asyncio: `async with await ledger.adedup(…) as mine`."""
        fence = await self.adrive(self.protocol.mark(scope, key, window, lease))
        return fence is not None if lease is None else DedupLease(self, scope, key, fence)

    def drive(
        self, exchange: Exchange[T], reconcile: Reconcile | None = None, sleep: Callable[[float], object] = time.sleep
    ) -> T:
        """Runs one exchange on this thread."""
        given: Any = None
        while True:
            try:
                wanted = exchange.send(given)
            except StopIteration as end:
                return cast(T, end.value)
            given = None
            if isinstance(wanted, Call):
                given = self._send(wanted)
            elif isinstance(wanted, Pause):
                sleep(wanted.seconds)
            elif reconcile is not None:
                given = reconcile(wanted)
                if inspect.isawaitable(given):
                    raise TypeError("an async reconcile hook belongs to an async step")

    async def adrive(self, exchange: Exchange[T], reconcile: Reconcile | None = None) -> T:
        """Runs one exchange on this task."""
        given: Any = None
        while True:
            try:
                wanted = exchange.send(given)
            except StopIteration as end:
                return cast(T, end.value)
            given = None
            if isinstance(wanted, Call):
                given = await self._asend(wanted)
            elif isinstance(wanted, Pause):
                await asyncio.sleep(wanted.seconds)
            elif reconcile is not None:
                given = reconcile(wanted)
                if inspect.isawaitable(given):
                    given = await given

    def _send(self, call: Call) -> Reply | None:
        try:
            return _reply(self._client.request(call.method, self._base + call.path, **_content(call)))
        except httpx.TransportError:
            return None

    async def _asend(self, call: Call) -> Reply | None:
        try:
            return _reply(await self._async_client().request(call.method, self._base + call.path, **_content(call)))
        except httpx.TransportError:
            return None

    def _async_client(self) -> httpx.AsyncClient:
        # Connections belong to the loop that opened them.
        loop = asyncio.get_running_loop()
        client = self._async_clients.get(loop)
        if client is None:
            client = httpx.AsyncClient(headers=self._headers, trust_env=self._trust_env, transport=self._async_transport)
            self._async_clients[loop] = client
        return client


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _content(call: Call) -> dict[str, Any]:
    timeout = httpx.Timeout(call.answer_seconds, connect=min(5.0, call.answer_seconds))
    if call.method == "GET":
        return {"timeout": timeout}
    content = json.dumps(call.body, allow_nan=False).encode()
    return {"content": content, "headers": {"content-type": "application/json"}, "timeout": timeout}


def _reply(response: httpx.Response) -> Reply | None:
    try:
        body = response.json()
    except ValueError:
        if response.status_code < 400:
            # Cut off, or not from a ledger: no answer.
            return None
        body = None
    retry_after = response.headers.get("retry-after", "")
    return Reply(response.status_code, body, float(retry_after) if retry_after.isdecimal() else None)


class DedupLease:
    """A key under a lease. `first`: it is yours to handle; else it was handled before."""

    def __init__(self, ledger: Ledger, scope: str, key: str, fence: int | None) -> None:
        self._ledger, self._scope, self._key, self._fence = ledger, scope, key, fence

    @property
    def first(self) -> bool:
        return self._fence is not None

    def done(self) -> None:
        """Says that the key is handled; `LeaseLost` where another has it now."""
        if self._fence is not None:
            self._ledger.drive(self._ledger.protocol.mark_done(self._scope, self._key, self._fence))

    async def adone(self) -> None:
        if self._fence is not None:
            await self._ledger.adrive(self._ledger.protocol.mark_done(self._scope, self._key, self._fence))

    def __enter__(self) -> "DedupLease":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.done()

    async def __aenter__(self) -> "DedupLease":
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            await self.adone()


class Run:
    """A run: a set of named steps that are executed once each."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        self.ledger = ledger
        self.name = name
        self._known: dict[str, StepState] = {}
        self._entered: list[contextvars.Token[Run | None]] = []

    def __enter__(self) -> "Run":
        self._entered.append(_current.set(self))
        return self

    def __exit__(self, *_: object) -> None:
        _current.reset(self._entered.pop())

    def resume(self) -> dict[str, StepState]:
        """All steps as they are. Those that have ended are then skipped without asking again."""
        return self._remember(self.ledger.drive(self.ledger.protocol.resume(self.name)))

    async def aresume(self) -> dict[str, StepState]:
        return self._remember(await self.ledger.adrive(self.ledger.protocol.resume(self.name)))

    def execute(
        self,
        step: str,
        work: Callable[[StepContext], T],
        *,
        lease: float = 30.0,
        on_lost: OnLost = "hold",
        wait: float = 30.0,
        input: Any = None,
        reconcile: Reconcile | None = None,
    ) -> T:
        """Executes the work where nobody has, and gives its result, as JSON has it, the first time as every time after.

        Raised by the work, `StepFailed` ends the step for good, and `NotExecuted` gives it back. Any other error leaves open what happened:
        the lease ends, and the step is unknown, or under `on_lost="retry"` the next one's.
        """
        terms = Terms(lease, on_lost, wait, None if input is None else input_hash(input))
        return self._execute(step, work, terms, reconcile)

    async def aexecute(
        self,
        step: str,
        work: Callable[[StepContext], Awaitable[T]],
        *,
        lease: float = 30.0,
        on_lost: OnLost = "hold",
        wait: float = 30.0,
        input: Any = None,
        reconcile: Reconcile | None = None,
    ) -> T:
        """The same for asyncio. Work that has lost its lease is cancelled."""
        terms = Terms(lease, on_lost, wait, None if input is None else input_hash(input))
        return await self._aexecute(step, work, terms, reconcile)

    def claim(
        self,
        step: str,
        *,
        claim_id: str | None = None,
        lease: float = 30.0,
        on_lost: OnLost = "hold",
        wait: float = 0.0,
        input: Any = None,
    ) -> Grant | Ended:
        """The single calls, for who executes in some other way: nobody beats for a claim."""
        terms = Terms(lease, on_lost, wait, None if input is None else input_hash(input))
        return self.ledger.drive(self.ledger.protocol.claim(self.name, step, terms, claim_id))

    def heartbeat(self, grant: Grant, lease: float = 30.0) -> None:
        self.ledger.drive(self.ledger.protocol.heartbeat(self.name, grant, lease))

    def complete(self, grant: Grant, result: Any = None) -> None:
        self.ledger.drive(self.ledger.protocol.complete(self.name, grant, result, []))

    def fail(self, grant: Grant, error: Any) -> None:
        self.ledger.drive(self.ledger.protocol.fail(self.name, grant, error, []))

    def release(self, grant: Grant) -> None:
        self.ledger.drive(self.ledger.protocol.release(self.name, grant))

    def resolve(self, step: str, fence: int, outcome: Outcome) -> None:
        """Ends the doubt about an unknown step."""
        self.ledger.drive(self.ledger.protocol.resolve(self.name, step, fence, outcome))

    def _remember(self, found: dict[str, StepState]) -> dict[str, StepState]:
        self._known = {name: state for name, state in found.items() if state.status in ("done", "failed")}
        return found

    def _known_end(self, step: str, terms: Terms) -> Ended | None:
        state = self._known.get(step)
        if state is None:
            return None
        if state.input_hash and terms.input_hash and state.input_hash != terms.input_hash:
            raise InputChanged(f"step {step!r} was claimed before with another input")
        return Ended(state.status, state.result)

    def _begin(self, step: str, terms: Terms, can_reconcile: bool) -> Exchange[Grant | Ended]:
        """Claims. Where the outcome is unknown, yields the lost step to the hook and records what it says."""
        protocol = self.ledger.protocol
        while True:
            try:
                return (yield from protocol.claim(self.name, step, terms))
            except OutcomeUnknown as unknown:
                if not can_reconcile:
                    raise
                lost = yield from protocol.lost(self.name, step, unknown.fence)
                outcome: Outcome | None = yield lost
                if outcome is None:
                    raise
                with contextlib.suppress(LeaseLost):  # Another has resolved it meanwhile: the claim tells.
                    yield from protocol.resolve(self.name, step, unknown.fence, outcome)

    def _execute(self, step: str, work: Callable[[StepContext], T], terms: Terms, reconcile: Reconcile | None) -> T:
        begun: Grant | Ended | None = self._known_end(step, terms)
        if begun is None:
            begun = self.ledger.drive(self._begin(step, terms, reconcile is not None), reconcile)
        if isinstance(begun, Ended):
            return cast(T, _result(begun))
        protocol, drive = self.ledger.protocol, self.ledger.drive
        context = StepContext(self, begun, terms.lease, protocol.clock)
        beats = ThreadBeats(self.ledger, self.name, begun, context, terms.lease)
        try:
            try:
                result = _as_json(work(context))
            except StepFailed as failed:
                drive(protocol.fail(self.name, begun, failed.error, context.emitted))
                raise
            except NotExecuted:
                beats.stop()
                with contextlib.suppress(HookonceError):
                    drive(protocol.release(self.name, begun))
                raise
            except Exception:
                # What happened is not known: whoever asks next is not kept waiting for the lease.
                beats.stop()
                with contextlib.suppress(HookonceError):
                    drive(protocol.heartbeat(self.name, begun, ABANDON_SECONDS, ABANDON_GIVE_UP))
                raise
            drive(protocol.complete(self.name, begun, result, context.emitted))
        finally:
            beats.tell()
        return cast(T, result)

    async def _aexecute(
        self, step: str, work: Callable[[StepContext], Awaitable[T]], terms: Terms, reconcile: Reconcile | None
    ) -> T:
        begun: Grant | Ended | None = self._known_end(step, terms)
        if begun is None:
            begun = await self.ledger.adrive(self._begin(step, terms, reconcile is not None), reconcile)
        if isinstance(begun, Ended):
            return cast(T, _result(begun))
        protocol, drive = self.ledger.protocol, self.ledger.adrive
        context = StepContext(self, begun, terms.lease, protocol.clock)
        beats = asyncio.ensure_future(beat(self.ledger, self.name, begun, context, terms.lease))
        try:
            try:
                result = _as_json(await _until_lost(work(context), beats, step))
            except StepFailed as failed:
                await drive(protocol.fail(self.name, begun, failed.error, context.emitted))
                raise
            except NotExecuted:
                await _stopped(beats)
                with contextlib.suppress(HookonceError):
                    await drive(protocol.release(self.name, begun))
                raise
            except Exception:
                await _stopped(beats)
                with contextlib.suppress(HookonceError):
                    await drive(protocol.heartbeat(self.name, begun, ABANDON_SECONDS, ABANDON_GIVE_UP))
                raise
            await drive(protocol.complete(self.name, begun, result, context.emitted))
        finally:
            beats.cancel()
        return cast(T, result)


def _result(ended: Ended) -> Any:
    if ended.status == "failed":
        raise StepFailed(ended.result)
    return ended.result


def _as_json(value: Any) -> Any:
    """As every later caller will see it. What is no JSON is an error of the work."""
    return json.loads(json.dumps(value, allow_nan=False))


async def _until_lost(work: Awaitable[T], beats: "asyncio.Future[None]", step: str) -> T:
    """The work's result; work whose lease is lost is cancelled."""
    working = asyncio.ensure_future(work)
    try:
        waited: set[asyncio.Future[Any]] = {working, beats}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        await _stopped(working)
        raise
    if working.done():
        return working.result()
    await _stopped(working)
    raise LeaseLost(f"step {step!r} was taken over while it was executed")


async def _stopped(task: "asyncio.Future[Any]") -> None:
    """Cancels, and waits for the end."""
    task.cancel()
    await asyncio.wait({task})


class StepDecorator:
    """What `Ledger.step` gives: makes a function, or a coroutine function, a step."""

    def __init__(
        self,
        ledger: Ledger,
        name: str,
        run: str | None,
        terms: Terms,
        input: Callable[..., Any] | None,
        reconcile: Reconcile | None,
    ) -> None:
        self._ledger, self._name, self._run = ledger, name, run
        self._terms, self._input, self._reconcile = terms, input, reconcile

    @overload
    def __call__(
        self, work: Callable[Concatenate[StepContext, P], Coroutine[Any, Any, T]]
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __call__(self, work: Callable[Concatenate[StepContext, P], T]) -> Callable[P, T]: ...
    def __call__(self, work: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(work)
        # The callers' arguments: all but the context.
        own = signature.replace(parameters=list(signature.parameters.values())[1:])

        def place(arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Run, str, Terms]:
            bound = own.bind(*arguments, **named)
            bound.apply_defaults()
            run = self._run_of(bound.arguments)
            input = None if self._input is None else input_hash(self._input(*arguments, **named))
            terms = Terms(self._terms.lease, self._terms.on_lost, self._terms.wait, input)
            return run, self._name.format_map(bound.arguments), terms

        if inspect.iscoroutinefunction(work):

            @functools.wraps(work)
            async def astep(*arguments: Any, **named: Any) -> Any:
                run, name, terms = place(arguments, named)
                return await run._aexecute(name, lambda context: work(context, *arguments, **named), terms, self._reconcile)

            return astep

        @functools.wraps(work)
        def step(*arguments: Any, **named: Any) -> Any:
            run, name, terms = place(arguments, named)
            return run._execute(name, lambda context: work(context, *arguments, **named), terms, self._reconcile)

        return step

    def _run_of(self, arguments: dict[str, Any]) -> Run:
        if self._run is not None:
            return Run(self._ledger, self._run.format_map(arguments))
        current = _current.get()
        if current is None:
            raise RuntimeError("the step has no run: give `run`, or call it within `with ledger.run(…)`")
        return current
