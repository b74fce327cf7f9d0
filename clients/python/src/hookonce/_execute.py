"""How work is executed under a grant, and what is recorded of it however it ends; on threads and on tasks."""

import asyncio
import contextlib
import contextvars
import functools
import inspect
import logging
import os
import sys
import threading
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ._context import StepContext, ThreadBeats, beat, executing
from ._errors import HookonceError, LeaseLost, NotExecuted, OutcomeUnknown, StepFailed, Unavailable
from ._outcome import Outcome, first
from ._protocol import ABANDON_GIVE_UP, Done, Ended, Failed, Exchange, Grant, LostStep, Resolution, Terms
from ._results import as_json, kept

if TYPE_CHECKING:
    from ._run import Run

T = TypeVar("T")

Work = Callable[[StepContext], T]
AsyncWork = Callable[[StepContext], Awaitable[T]]
AnyWork = AsyncWork[T] | Work[T]
Reconcile = Callable[[LostStep], Resolution | None | Awaitable[Resolution | None]]
"""Asked what became of a step that was lost: `Done`, `Failed` or `NotExecuted` with the evidence, or None where it can't tell."""

logger = logging.getLogger("hookonce")

WITHDRAW_LEASE = 1.0
ERROR_BYTES_MAX = 32_000


class Claiming:
    """A claim, and how it is taken back where its caller goes away before the answer is there."""

    def __init__(self, run: "Run", step: str, terms: Terms, reconcile: Reconcile | None) -> None:
        self._run, self._step, self._terms = run, step, terms
        self._protocol = run.ledger.protocol
        self._can_reconcile = reconcile is not None
        self._claim_id = ""
        self._pid = os.getpid()

    def begin(self) -> Exchange[Grant | Ended]:
        """Claims. Where the outcome is unknown, yields the lost step to the hook and records what it says."""
        while True:
            try:
                begun = yield from self._claim()
            except OutcomeUnknown as unknown:
                if not self._can_reconcile:
                    raise
                lost = yield from self._protocol.lost(self._run.name, self._step, unknown.fence)
                resolution: Resolution | None = yield lost
                if resolution is None:
                    raise
                resolution = _plain(resolution, self._run)
                with contextlib.suppress(LeaseLost):  # Another has resolved it meanwhile: the claim tells.
                    yield from self._protocol.resolve(self._run.name, self._step, unknown.fence, resolution)
                continue
            fresh = yield from self._freshened(begun)
            if fresh is not None:
                return fresh

    def _claim(self) -> Exchange[Grant | Ended]:
        self._claim_id = uuid.uuid4().hex
        return (yield from self._protocol.claim(self._run.name, self._step, self._terms, self._claim_id))

    def _freshened(self, begun: Grant | Ended) -> Exchange[Grant | Ended | None]:
        """A claim that waited got its lease at some time since: one that may be over soon is extended before the work begins."""
        now = self._protocol.clock()
        if isinstance(begun, Ended) or now - begun.claimed_at < self._terms.lease / 3:
            return begun
        try:
            yield from self._protocol.heartbeat(self._run.name, begun, self._terms.lease)
        except LeaseLost:
            return None
        return replace(begun, claimed_at=now)

    def withdraw(self) -> Exchange[None]:
        """What may have been granted to a caller that is gone is free at once: the same claim has the same grant."""
        if os.getpid() != self._pid:
            # A forked child throws away what its parent goes on with.
            return
        terms = replace(self._terms, wait=0.0, lease=min(self._terms.lease, WITHDRAW_LEASE))
        got = yield from self._protocol.claim(self._run.name, self._step, terms, self._claim_id, ABANDON_GIVE_UP)
        if isinstance(got, Grant):
            yield from self._protocol.release(self._run.name, got, ABANDON_GIVE_UP)


def _plain(resolution: Resolution, run: "Run") -> Resolution:
    """With results and evidence as JSON."""
    hook = run.ledger.encode
    evidence = as_json(resolution.evidence, hook)
    match resolution:
        case NotExecuted():
            return NotExecuted(evidence)
        case Done():
            return Done(as_json(resolution.result, hook), evidence)
        case Failed():
            return Failed(as_json(resolution.error, hook), evidence)


class NotAwaited(TypeError):
    """The work only made a coroutine, which was never begun: the caller has to write it in another way."""


@dataclass(frozen=True)
class End:
    """How the work ended: with a value, or with an error of whatever kind."""

    value: Any = None
    error: BaseException | None = None


def settle(run: "Run", grant: Grant, context: StepContext, end: End) -> Exchange[Outcome[Any]]:
    """Records how the work ended; raises what the caller is to be told."""
    ledger = run.ledger
    protocol = ledger.protocol
    match end.error:
        case None:
            value, not_kept = kept(end.value, ledger.encode)
            try:
                not_kept = yield from protocol.complete(run.name, grant, None if not_kept else value, context.emitted, not_kept)
            except (LeaseLost, Unavailable):
                raise
            except HookonceError as refused:
                # It was done, and can't be recorded as it is: that is known now, not when the lease ends.
                yield from _abandon(run, grant, refused)
                raise
            if not_kept is not None:
                logger.warning("step %r of run %r is done, but its result was not kept: %s", grant.step, run.name, not_kept)
            return first(value, protocol.owner, not_kept)
        case StepFailed() as failed:
            error, not_kept = kept(failed.error, ledger.encode)
            yield from protocol.fail(run.name, grant, repr(error)[:ERROR_BYTES_MAX] if not_kept else error, context.emitted)
            raise failed
        case NotExecuted() | NotAwaited() as nothing:
            with contextlib.suppress(HookonceError):
                yield from protocol.release(run.name, grant)
            raise nothing
        case error:
            # What happened is not known: whoever asks next is not kept waiting for the lease.
            yield from _abandon(run, grant, error)
            raise error


def _abandon(run: "Run", grant: Grant, error: BaseException) -> Exchange[None]:
    told, not_kept = kept(error, run.ledger.encode)
    if not_kept or not isinstance(told, dict):
        told = {"type": type(error).__name__}
    told = {name: value[:ERROR_BYTES_MAX] if isinstance(value, str) else value for name, value in told.items()}
    with contextlib.suppress(HookonceError):
        yield from run.ledger.protocol.abandon(run.name, grant, told, ABANDON_GIVE_UP)


# ---- Threads ---------------------------------------------------------------------------------------------------------------------


def refuse_async(work: Callable[..., Any]) -> None:
    """Before the claim: such work would only be begun, and never awaited."""
    if is_async(work):
        raise TypeError(f"{_name_of(work)} is async: write `await run.aexecute(…)`, or `await run.acall(…)`, and not `execute` or `call`")


def is_async(work: Callable[..., Any]) -> bool:
    """A coroutine function, however it is wrapped."""
    while isinstance(work, functools.partial):
        work = work.func
    return inspect.iscoroutinefunction(work) or inspect.iscoroutinefunction(getattr(type(work), "__call__", None))


def _name_of(work: Callable[..., Any]) -> str:
    return getattr(work, "__qualname__", None) or type(work).__qualname__


def claim(claiming: Claiming, run: "Run", reconcile: Reconcile | None) -> Grant | Ended:
    """On this thread."""
    try:
        return run.ledger.drive(claiming.begin(), reconcile)
    except Exception:
        raise
    except BaseException:
        with contextlib.suppress(Exception):
            run.ledger.drive(claiming.withdraw())
        raise


def hold(run: "Run", grant: Grant, work: Work[T], terms: Terms) -> Outcome[T]:
    """Executes the work on this thread."""
    ledger, pid = run.ledger, os.getpid()
    context = StepContext(run, grant, terms.lease)
    beats = ThreadBeats(
        ledger, context.lease, lambda give_up: ledger.protocol.heartbeat(run.name, grant, terms.lease, give_up)
    )
    try:
        end = _end_of(work, context)
        if os.getpid() != pid:
            # A child that was forked by the work has come back from it, too. The step is its parent's.
            raise end.error or LeaseLost(f"step {grant.step!r} is executed by the process that this one was forked from")
        return _recorded(lambda: ledger.drive(settle(run, grant, context, end)), end)
    finally:
        if os.getpid() == pid:
            beats.tell()


def _end_of(work: Work[Any], context: StepContext) -> End:
    try:
        with executing(context):
            value = work(context)
    except BaseException as error:
        return End(error=error)
    if not inspect.isawaitable(value):
        return End(value)
    told = f"{_name_of(work)} gave something to await: write `await run.aexecute(…)`"
    if inspect.iscoroutine(value):
        # It has not begun, and now never will.
        value.close()
        return End(error=NotAwaited(told))
    return End(error=TypeError(told))


def _recorded(record: Callable[[], Outcome[T]], end: End) -> Outcome[T]:
    """Somebody who presses Ctrl-C as it is recorded does not undo what was done."""
    try:
        return record()
    except Exception:
        raise
    except BaseException as error:
        if error is not end.error:
            with contextlib.suppress(BaseException):
                record()
        raise


def hold_detached(run: "Run", grant: Grant, work: Work[T], terms: Terms) -> Outcome[T]:
    """On a thread of its own, which ends and records whatever becomes of the caller."""
    ended: Future[Outcome[T]] = Future()
    context = contextvars.copy_context()

    def thread() -> None:
        try:
            ended.set_result(context.run(hold, run, grant, work, terms))
        except BaseException as error:
            ended.set_exception(error)

    threading.Thread(target=thread, name=f"hookonce {grant.step}").start()
    return ended.result()


# ---- asyncio ---------------------------------------------------------------------------------------------------------------------


def refuse_outside_asyncio() -> None:
    """Before the claim: trio's tasks, and threads without a loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        if "trio" in sys.modules and sys.modules["trio"].lowlevel.in_trio_run():
            told = "trio runs this task: write `await trio.to_thread.run_sync(lambda: run.execute(…))`, with work that is a plain function"
        else:
            told = "no asyncio loop runs on this thread: write `run.execute(…)`"
        raise RuntimeError(f"hookonce's coroutines are asyncio's, and {told}") from None


async def surely(task: "asyncio.Future[Any]") -> asyncio.CancelledError | None:
    """Waits for the task's end, however often this one is cancelled meanwhile; says whether it was."""
    cancelled = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled


async def aclaim(claiming: Claiming, run: "Run", reconcile: Reconcile | None) -> Grant | Ended:
    """On this task."""
    try:
        return await run.ledger.adrive(claiming.begin(), reconcile)
    except Exception:
        raise
    except BaseException as error:
        if isinstance(error, GeneratorExit):
            run.ledger.aside(claiming.withdraw)
        else:
            await surely(asyncio.ensure_future(_quietly(run, claiming.withdraw())))
        raise


async def _quietly(run: "Run", exchange: Exchange[Any]) -> None:
    with contextlib.suppress(Exception):
        await run.ledger.adrive(exchange)


async def ahold(run: "Run", grant: Grant, work: AnyWork[T], terms: Terms, detach: bool) -> Outcome[T]:
    """Executes the work on a task of its own, which outlives this one where it is to, or can't be stopped."""
    # A coroutine function and a lambda run on the loop; another plain function may block, and runs on a thread.
    on_thread = not is_async(work) and getattr(work, "__name__", "") != "<lambda>"
    held = asyncio.ensure_future(_held(run, grant, work, terms, on_thread))
    run.ledger.keep(held)
    try:
        end = await asyncio.shield(held)
    except (asyncio.CancelledError, GeneratorExit) as error:
        if not (held.done() or detach or on_thread):
            with contextlib.suppress(RuntimeError):  # The loop is closed.
                held.cancel()
            if isinstance(error, asyncio.CancelledError):
                await surely(held)
        raise
    if end.error is not None:
        raise end.error
    return cast("Outcome[T]", end.value)


async def _held(run: "Run", grant: Grant, work: AnyWork[T], terms: Terms, on_thread: bool) -> End:
    ledger, pid = run.ledger, os.getpid()
    context = StepContext(run, grant, terms.lease)
    beats = asyncio.ensure_future(
        beat(ledger, context.lease, lambda give_up: ledger.protocol.heartbeat(run.name, grant, terms.lease, give_up))
    )
    working = asyncio.ensure_future(_worked(work, context, on_thread))
    try:
        end, cancelled = await _end_of_task(working, beats, on_thread, grant.step)
        settling = asyncio.ensure_future(_settled(run, grant, context, end))
        cancelled = await surely(settling) or cancelled
        settled = settling.result()
        if cancelled is not None:
            if isinstance(settled.error, Exception):
                logger.info("step %r, whose caller had gone, ended with %r", grant.step, settled.error)
            raise cancelled
        return settled
    except GeneratorExit as closed:
        # The loop is gone, and with it the work.
        if os.getpid() == pid:
            ledger.aside(lambda: _abandon(run, grant, closed))
        raise
    finally:
        with contextlib.suppress(RuntimeError):
            beats.cancel()


async def _worked(work: AnyWork[Any], context: StepContext, on_thread: bool) -> End:
    """An error is given, not raised: SystemExit and KeyboardInterrupt, raised on a task, would end the loop before anything is recorded."""
    try:
        with executing(context):
            if on_thread:
                made = await asyncio.to_thread(work, context)
            else:
                made = work(context)
            return End(await made if inspect.isawaitable(made) else made)
    except GeneratorExit:
        raise
    except BaseException as error:
        return End(error=error)


async def _settled(run: "Run", grant: Grant, context: StepContext, end: End) -> End:
    try:
        return End(await run.ledger.adrive(settle(run, grant, context, end)))
    except GeneratorExit:
        raise
    except BaseException as error:
        return End(error=error)


async def _end_of_task(
    working: "asyncio.Future[End]", beats: "asyncio.Future[None]", on_thread: bool, step: str
) -> tuple[End, asyncio.CancelledError | None]:
    """How the work ended, and whether this task was cancelled before. Work whose lease is lost is cancelled."""
    cancelled = None
    try:
        waited: set[asyncio.Future[Any]] = {working, beats}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError as error:
        cancelled = error
    is_lost = beats.done() and not working.done()
    # A thread can't be stopped: what it does is recorded when it is there, or refused.
    if not (working.done() or on_thread):
        working.cancel()
    cancelled = await surely(working) or cancelled
    end = End(error=asyncio.CancelledError()) if working.cancelled() else working.result()
    if is_lost and isinstance(end.error, asyncio.CancelledError):
        end = End(error=LeaseLost(f"step {step!r} was taken over while it was executed"))
    return end, cancelled
