"""More waiters in one process than it has connections: who holds the step keeps it."""

import asyncio
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from hookonce import Ledger, StepContext

from .conftest import TOKEN, Service

WAITERS = 160
"""More than connections (128), and than those that may wait (64)."""
LEASE, WORK_SECONDS = 2.5, 6.0


def test_a_crowd_of_threads_waits_and_the_holder_keeps_its_lease(service: Service) -> None:
    ledger, name, executed = Ledger(service.url, TOKEN), f"crowd-{uuid.uuid4()}", []
    begun = threading.Event()

    def work(ctx: StepContext) -> str:
        executed.append(ctx.fence)
        begun.set()
        time.sleep(WORK_SECONDS)
        return "done once"

    def one(_: int) -> str:
        return ledger.run(name).execute("s", work, lease=LEASE, on_lost="retry", wait=60)

    with ThreadPoolExecutor(WAITERS) as pool:
        first = pool.submit(one, 0)
        assert begun.wait(10)
        waiters = [first, *(pool.submit(one, number) for number in range(1, WAITERS))]
        errors = [error for waiter in waiters if (error := waiter.exception())]
    assert (executed, errors) == ([1], [])
    assert {waiter.result() for waiter in waiters} == {"done once"}


def test_a_crowd_of_tasks_does_so_too(service: Service) -> None:
    name, executed = f"crowd-{uuid.uuid4()}", []

    async def work(ctx: StepContext) -> str:
        executed.append(ctx.fence)
        await asyncio.sleep(WORK_SECONDS)
        return "done once"

    async def crowd() -> list[str | BaseException]:
        async with Ledger(service.url, TOKEN) as ledger:
            run = ledger.run(name)
            waiters = [run.aexecute("s", work, lease=LEASE, on_lost="retry", wait=60) for _ in range(WAITERS)]
            first = asyncio.ensure_future(waiters[0])
            while not executed:
                await asyncio.sleep(0.01)
            return await asyncio.gather(first, *waiters[1:], return_exceptions=True)

    results = asyncio.run(crowd())
    assert executed == [1]
    assert results == ["done once"] * WAITERS


def test_a_claim_that_waited_long_begins_with_its_whole_lease(service: Service) -> None:
    ledger = Ledger(service.url, TOKEN)
    run = ledger.run(f"late-{uuid.uuid4()}")
    held = run.claim("s", lease=30)
    threading.Timer(2.0, lambda: run.release(held)).start()  # type: ignore[arg-type]

    def work(ctx: StepContext) -> int:
        ctx.check()
        return ctx.heartbeats

    assert run.execute("s", work, lease=1.0, wait=20) == 0


@pytest.mark.parametrize("detach", [False, True])
def test_threads_of_a_pool_work_within_a_run_where_it_is_bound(service: Service, detach: bool) -> None:
    ledger = Ledger(service.url, TOKEN)

    @ledger.step("double:{number}", detach=detach)
    def double(ctx: StepContext, number: int) -> int:
        return number * 2

    with ledger.run(f"pool-{uuid.uuid4()}") as run, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run.bind(double), range(8))) == [0, 2, 4, 6, 8, 10, 12, 14]
        with pytest.raises(RuntimeError, match="run.bind"):
            pool.submit(double, 1).result()
        assert len(run.resume()) == 8
