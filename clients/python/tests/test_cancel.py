"""Callers that go away in the middle: the step is not held until its lease is over, and nothing is executed that nobody wants."""

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
import trio

from hookonce import Ledger, OutcomeUnknown, Run, StepContext, StepRunning

from .conftest import TOKEN, Service

LEASE = 30.0
AT_ONCE = 5.0
"""Seconds; far less than the lease, and time enough for a busy machine."""


@pytest.fixture
def ledger(service: Service) -> Iterator[Ledger]:
    with Ledger(service.url, TOKEN) as ledger:
        yield ledger


@pytest.fixture
def run(ledger: Ledger) -> Run:
    return ledger.run(f"cancel-{uuid.uuid4()}")


def is_next(run: Run, said: str | None = None) -> None:
    """Under retry the next one executes, at once, and as the second."""
    began = time.monotonic()
    assert run.execute("s", lambda ctx: ctx.fence, on_lost="retry", wait=LEASE) == 2
    assert time.monotonic() - began < AT_ONCE


def is_unknown(run: Run, said: str) -> None:
    """Under hold the step is unknown, at once, and the evidence is there."""
    began = time.monotonic()
    with pytest.raises(OutcomeUnknown) as unknown:
        run.execute("s", lambda _: "twice", wait=LEASE)
    assert time.monotonic() - began < AT_ONCE
    assert unknown.value.error["type"] == said and unknown.value.fence == 1


def effect(executed: list[int]) -> Any:
    async def work(ctx: StepContext) -> None:
        executed.append(ctx.fence)
        await asyncio.sleep(60)

    return work


async def begun(executed: list[int]) -> None:
    while not executed:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(("on_lost", "check"), [("retry", is_next), ("hold", is_unknown)])
def test_a_cancelled_task_gives_the_step_up_at_once(ledger: Ledger, run: Run, on_lost: Any, check: Any) -> None:
    executed: list[int] = []

    async def main() -> None:
        task = asyncio.ensure_future(run.aexecute("s", effect(executed), lease=LEASE, on_lost=on_lost))
        await begun(executed)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ledger.aclose()

    asyncio.run(main())
    check(run, "CancelledError")


def test_so_does_a_scope_that_cancels_again_and_again(ledger: Ledger, run: Run) -> None:
    async def main() -> None:
        executed: list[int] = []
        with anyio.move_on_after(1):
            await run.aexecute("s", effect(executed), lease=LEASE)
        assert executed == [1]
        await ledger.aclose()

    asyncio.run(main())
    is_unknown(run, "CancelledError")


def test_so_does_the_end_of_the_loop(run: Run) -> None:
    executed: list[int] = []

    async def main() -> None:
        task = asyncio.ensure_future(run.aexecute("s", effect(executed), lease=LEASE))
        await begun(executed)
        assert not task.done()

    asyncio.run(main())
    is_unknown(run, "CancelledError")


def test_so_does_a_coroutine_that_is_thrown_away(run: Run) -> None:
    executed: list[int] = []
    loop = asyncio.new_event_loop()
    task = loop.create_task(run.aexecute("s", effect(executed), lease=LEASE))
    loop.run_until_complete(begun(executed))
    loop.close()
    del task
    # Nobody runs it any more: its coroutines are closed as they are collected.
    run.ledger._kept.clear()
    gc.collect()
    time.sleep(0.5)
    is_unknown(run, "GeneratorExit")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, RuntimeError])
def test_so_does_whatever_ends_a_thread(run: Run, error: type[BaseException]) -> None:
    def work(_: StepContext) -> None:
        raise error

    with pytest.raises(error):
        run.execute("s", work, lease=LEASE)
    is_unknown(run, error.__name__)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_so_does_whatever_ends_a_program_from_within_a_task(run: Run, error: type[BaseException]) -> None:
    async def work(_: StepContext) -> None:
        raise error

    with pytest.raises(error):
        asyncio.run(run.aexecute("s", work, lease=LEASE))
    is_unknown(run, error.__name__)


@pytest.mark.parametrize("mode", ["threads", "asyncio"])
def test_so_does_a_program_that_is_interrupted(service: Service, run: Run, mode: str) -> None:
    program = f"""
        import asyncio, time
        from hookonce import Ledger
        run = Ledger().run({run.name!r})
        def work(ctx):
            print("begun", flush=True)
            time.sleep(60)
        async def awork(ctx):
            print("begun", flush=True)
            await asyncio.sleep(60)
        if {mode!r} == "threads":
            run.execute("s", work)
        else:
            asyncio.run(run.aexecute("s", awork))
    """
    environment = {**os.environ, "HOOKONCE_URL": service.url, "HOOKONCE_TOKEN": TOKEN}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None and process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) != 0
    is_unknown(run, "KeyboardInterrupt" if mode == "threads" else "CancelledError")


def test_who_is_cancelled_while_it_waits_gets_nothing_later(ledger: Ledger, run: Run) -> None:
    held = run.claim("s", on_lost="retry")

    async def main() -> None:
        executed: list[int] = []
        task = asyncio.ensure_future(run.aexecute("s", effect(executed), on_lost="retry", wait=60))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert executed == []
        await ledger.aclose()

    asyncio.run(main())
    run.release(held)  # type: ignore[arg-type]
    began = time.monotonic()
    assert run.execute("s", lambda _: "mine", wait=LEASE) == "mine"
    assert time.monotonic() - began < AT_ONCE


def test_who_is_cancelled_as_the_answer_comes_gives_the_claim_back(ledger: Ledger, run: Run) -> None:
    asend = ledger._connections.asend

    async def lost(call: Any) -> Any:
        await asend(call)
        if call.path.endswith("/claim") and not answers:
            answers.append(call)
            raise asyncio.CancelledError
        return await asend(call)

    answers: list[Any] = []
    ledger._connections.asend = lost  # type: ignore[method-assign]

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await run.aexecute("s", effect([]), lease=LEASE)

    asyncio.run(main())
    assert run.execute("s", lambda ctx: ctx.attempt, wait=LEASE) == 1


def test_detached_work_ends_and_is_kept(ledger: Ledger, run: Run) -> None:
    executed: list[int] = []

    async def work(ctx: StepContext) -> str:
        executed.append(ctx.fence)
        await asyncio.sleep(1)
        return "done without its caller"

    async def main() -> None:
        task = asyncio.ensure_future(run.aexecute("s", work, detach=True))
        await begun(executed)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(StepRunning):
            await run.aexecute("s", work, wait=0)
        await ledger.aclose()

    asyncio.run(main())
    assert run.resume()["s"].result == "done without its caller"


def test_detached_work_of_a_thread_is_kept_where_the_program_is_interrupted(service: Service, run: Run) -> None:
    program = f"""
        import time
        from hookonce import Ledger
        def work(ctx):
            print("begun", flush=True)
            time.sleep(1)
            return "done without its caller"
        Ledger().run({run.name!r}).execute("s", work, detach=True)
    """
    environment = {**os.environ, "HOOKONCE_URL": service.url, "HOOKONCE_TOKEN": TOKEN}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None and process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) != 0
    assert run.resume()["s"].result == "done without its caller"


def test_a_plain_function_runs_on_a_thread_and_is_never_left_half_recorded(ledger: Ledger, run: Run) -> None:
    beside: list[threading.Thread] = []
    executed: list[int] = []

    def work(ctx: StepContext) -> str:
        beside.append(threading.current_thread())
        executed.append(ctx.fence)
        time.sleep(1)
        return "from a thread"

    async def main() -> None:
        assert await run.aexecute("plain", lambda _: "from the loop") == "from the loop"
        task = asyncio.ensure_future(run.aexecute("s", work, lease=LEASE))
        await begun(executed)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ledger.aclose()

    asyncio.run(main())
    assert beside != [threading.current_thread()] and run.resume()["s"].result == "from a thread"


def test_work_that_ends_well_in_spite_of_a_cancellation_is_recorded(ledger: Ledger, run: Run) -> None:
    executed: list[int] = []

    async def work(ctx: StepContext) -> str:
        executed.append(ctx.fence)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return "done all the same"

    async def main() -> None:
        task = asyncio.ensure_future(run.aexecute("s", work))
        await begun(executed)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ledger.aclose()

    asyncio.run(main())
    assert run.resume()["s"].result == "done all the same"


def test_async_work_is_refused_where_nobody_awaits(ledger: Ledger, run: Run) -> None:
    async def work(_: StepContext) -> int:
        return 1

    class Works:
        async def __call__(self, _: StepContext) -> int:
            return 1

    works: list[Any] = [work, Works()]
    for given in works:
        with pytest.raises(TypeError, match="aexecute"):
            run.execute("s", given)
        with pytest.raises(TypeError, match="acall"):
            run.call("tool", {}, given)
    assert run.resume() == {}
    # What can't be seen before has at least not begun.
    with pytest.raises(TypeError, match="aexecute"):
        _ = run.execute("s", lambda ctx: work(ctx))
    assert run.execute("s", lambda ctx: ctx.attempt) == 1


def test_trio_is_refused_and_told_what_to_write(run: Run) -> None:
    async def work(_: StepContext) -> int:
        return 1

    async def main() -> None:
        with pytest.raises(RuntimeError, match="trio.to_thread.run_sync"):
            await run.aexecute("s", work)
        assert await trio.to_thread.run_sync(lambda: run.execute("s", lambda _: 2)) == 2

    assert run.resume() == {}
    trio.run(main)
