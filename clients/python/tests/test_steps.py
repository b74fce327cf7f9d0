"""Decorated steps, and what the shared cases don't reach: threads, tasks, giving up."""

import asyncio
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from hookonce import (
    Done,
    InputChanged,
    LeaseLost,
    Ledger,
    LostStep,
    OutcomeUnknown,
    Refused,
    StepContext,
    Unavailable,
)

from .conftest import TOKEN, Service
from .test_conformance import overtake


@dataclass(frozen=True)
class Order:
    id: str
    amount: int


@pytest.fixture
def ledger(service: Service) -> Iterator[Ledger]:
    with Ledger(service.url, TOKEN) as ledger:
        yield ledger


@pytest.fixture
def order() -> Order:
    return Order(str(uuid.uuid4()), 100)


def test_a_decorated_function_is_a_step_named_by_its_arguments(ledger: Ledger, order: Order) -> None:
    keys: list[str] = []

    @ledger.step("charge:{order.id}", lease=30, on_lost="hold", input=lambda order, tip=0: [order.amount, tip])
    def charge(ctx: StepContext, order: Order, tip: int = 0) -> int:
        """Charges."""
        keys.append(ctx.effect_key)
        return order.amount + tip

    with pytest.raises(RuntimeError):
        charge(order)
    for _ in range(2):
        with ledger.run(f"run {order.id}") as run:
            assert charge(order, tip=5) == 105
    assert len(keys) == 1 and charge.__doc__ == "Charges."
    assert run.resume()[f"charge:{order.id}"].effect_key == keys[0]
    with ledger.run(f"run {order.id}"), pytest.raises(InputChanged):
        charge(order, 6)


def test_a_decorated_coroutine_is_one_too_and_the_run_may_come_from_its_arguments(ledger: Ledger, order: Order) -> None:
    called = 0

    @ledger.step("book", run="trip {order.id}")
    async def book(ctx: StepContext, order: Order) -> dict[str, int]:
        nonlocal called
        called += 1
        await asyncio.sleep(0)
        return {"seats": order.amount}

    async def all_at_once() -> None:
        assert await asyncio.gather(*(book(order) for _ in range(8))) == [{"seats": 100}] * 8

    asyncio.run(all_at_once())
    assert called == 1


def test_a_hook_of_a_coroutine_may_be_one(ledger: Ledger, order: Order) -> None:
    async def find_out(lost: LostStep) -> Done:
        await asyncio.sleep(0)
        return Done(f"found {lost.attempt}", evidence=lost.effect_key)

    @ledger.step("pay", run="{order.id}", reconcile=find_out)
    async def pay(ctx: StepContext, order: Order) -> str:
        raise AssertionError("not to be executed")

    ledger.run(order.id).claim("pay", lease=0.001)
    assert asyncio.run(pay(order)) == "found 1"


def test_of_24_threads_one_executes(ledger: Ledger, order: Order) -> None:
    executed: list[int] = []

    def attempt(number: int) -> int:
        def work(_: StepContext) -> int:
            executed.append(number)
            return number

        return ledger.run(order.id).execute("one", work)

    with ThreadPoolExecutor(24) as pool:
        results = set(pool.map(attempt, range(24)))
    assert len(executed) == 1 and results == set(executed)


def test_a_coroutine_that_lost_its_lease_is_cancelled(ledger: Ledger, order: Order) -> None:
    cancelled = threading.Event()
    run = ledger.run(order.id)

    async def work(ctx: StepContext) -> None:
        await asyncio.to_thread(overtake, run, ctx)
        try:
            await asyncio.sleep(60)
        finally:
            assert ctx.lost
            with pytest.raises(LeaseLost):
                ctx.check()
            cancelled.set()

    with pytest.raises(LeaseLost):
        asyncio.run(run.aexecute("s", work, lease=0.9, on_lost="retry"))
    assert cancelled.is_set()


def test_it_gives_up_after_a_time_and_at_once_where_trying_is_of_no_use(service: Service, order: Order) -> None:
    with pytest.raises(Unavailable):
        Ledger("http://127.0.0.1:9", TOKEN, give_up=0.2).run(order.id).execute("s", lambda _: 1)
    with pytest.raises(Refused, match="unauthorized"):
        Ledger(service.url, "wrong").run(order.id).execute("s", lambda _: 1)
    for name in (".", "..", ""):
        with pytest.raises((ValueError, Refused)):
            Ledger(service.url, TOKEN).run(order.id).execute(name, lambda _: 1)


def test_dedup_under_a_lease_is_done_when_its_block_ends(ledger: Ledger, order: Order) -> None:
    with ledger.dedup("orders", order.id, window=3600, lease=30) as mine:
        assert mine.first
    with ledger.dedup("orders", order.id, window=3600, lease=30) as again:
        assert not again.first

    async def in_asyncio() -> None:
        async with await ledger.adedup("orders", f"{order.id} async", window="1h", lease=30) as mine:
            assert mine.first
        assert not (await ledger.adedup("orders", f"{order.id} async", window="1h"))
        await ledger.aclose()

    asyncio.run(in_asyncio())


def test_a_run_of_many_pages_is_resumed(ledger: Ledger, order: Order) -> None:
    run = ledger.run(order.id)
    large = "x" * 900_000
    for number in range(20):
        run.execute(f"step {number}", lambda _: large)
    steps = run.resume()
    assert len(steps) == 20 and {state.result for state in steps.values()} == {large}
