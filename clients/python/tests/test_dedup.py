"""Dedup under a lease: the slow and healthy keep their key, and those that fail give it back."""

import asyncio
import os
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from hookonce import KeyLeased, LeaseLost, Ledger

from .conftest import TOKEN, Service

LEASE = 0.6


@pytest.fixture
def ledger(service: Service) -> Iterator[Ledger]:
    with Ledger(service.url, TOKEN) as ledger:
        yield ledger


@pytest.fixture
def key() -> str:
    return str(uuid.uuid4())


def test_a_slow_consumer_keeps_its_key(ledger: Ledger, key: str) -> None:
    handled: list[int] = []
    begun = threading.Event()

    def consume(number: int) -> bool:
        """As the queue delivers it again and again, until it is acknowledged."""
        while True:
            try:
                with ledger.dedup("orders", key, window="1h", lease=LEASE) as mine:
                    if mine.first:
                        begun.set()
                        time.sleep(4 * LEASE)
                        mine.check()
                        handled.append(number)
                        assert mine.heartbeats >= 3
                return mine.first
            except KeyLeased:
                time.sleep(0.05)

    with ThreadPoolExecutor(8) as pool:
        first = sorted(pool.map(consume, range(8)))
    assert len(handled) == 1 and first == [False] * 7 + [True]


def test_so_does_a_slow_task(ledger: Ledger, key: str) -> None:
    async def main() -> None:
        async with await ledger.adedup("orders", key, window="1h", lease=LEASE) as mine:
            assert mine.first
            await asyncio.sleep(3 * LEASE)
            with pytest.raises(KeyLeased):
                await ledger.adedup("orders", key, window="1h", lease=LEASE)
        again = await ledger.adedup("orders", key, window="1h", lease=LEASE)
        assert not again.first
        await ledger.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_handler_that_raises_gives_the_key_back_at_once(ledger: Ledger, key: str, error: type[BaseException]) -> None:
    with pytest.raises(error), ledger.dedup("orders", key, window="1h", lease=30) as mine:
        assert mine.first
        raise error
    with ledger.dedup("orders", key, window="1h", lease=30) as again:
        assert again.first


def test_so_does_a_task_that_raises_or_is_cancelled(ledger: Ledger, key: str) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError):
            async with await ledger.adedup("orders", key, window="1h", lease=30) as mine:
                assert mine.first
                raise RuntimeError

        async def slow() -> None:
            async with await ledger.adedup("orders", key, window="1h", lease=30) as mine:
                assert mine.first
                begun.set()
                await asyncio.sleep(60)

        begun = asyncio.Event()
        task = asyncio.ensure_future(slow())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with await ledger.adedup("orders", key, window="1h", lease=30) as again:
            assert again.first
        await ledger.aclose()

    asyncio.run(main())


def test_the_single_calls_and_who_is_too_late(ledger: Ledger, key: str) -> None:
    first = ledger.dedup("orders", key, window="1h", lease=30)
    first.heartbeat()
    first.release()
    second = ledger.dedup("orders", key, window="1h", lease=30)
    assert first.first and second.first
    for late in (first.heartbeat, first.release, first.done):
        with pytest.raises(LeaseLost):
            late()
    second.done()
    assert not ledger.dedup("orders", key, window="1h", lease=30).first


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_leaves_its_parents_key_alone(ledger: Ledger, key: str) -> None:
    mine = os.getpid()
    try:
        with ledger.dedup("orders", key, window="1h", lease=30):
            if (pid := os.fork()) == 0:
                raise SystemExit
            os.waitpid(pid, 0)
            with pytest.raises(KeyLeased):
                ledger.dedup("orders", key, window="1h", lease=30)
    finally:
        if os.getpid() != mine:
            os._exit(0)
    assert not ledger.dedup("orders", key, window="1h", lease=30).first
