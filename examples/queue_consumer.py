"""Consumers of a queue that delivers at least once, often twice, and that die between taking a message and handling it.

    python examples/queue_consumer.py

With plain dedup a message whose consumer died is lost: it is seen, and was never handled. Under a lease it is handled by the next one.
"""

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, Queue

from service import hookonce

from hookonce import KeyLeased, LeaseLost, Ledger

MESSAGES = 60
CONSUMERS = 6
DEATH_CHANCE = 0.15
LEASE_SECONDS = 2.0
"""Longer than handling takes: who is slower may be overtaken, and the message is handled twice."""
REDELIVERY_SECONDS = 0.1


class Died(Exception):
    """The consumer is gone, before it handled or acknowledged anything."""


class Broker:
    """Delivers each message until it is acknowledged, and every third one twice from the start."""

    def __init__(self) -> None:
        self._queue: Queue[str] = Queue()
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()
        self.is_closed = False
        for number in range(MESSAGES):
            for _ in range(2 if number % 3 == 0 else 1):
                self.deliver(f"order-{number}")

    def deliver(self, message: str) -> None:
        with self._lock:
            self._open[message] += 1
        self._queue.put(message)

    def take(self) -> str | None:
        """None when all is acknowledged, or the broker was closed."""
        while not self.is_closed:
            try:
                return self._queue.get(timeout=0.05)
            except Empty:
                with self._lock:
                    if not +self._open:
                        return None
        return None

    def acknowledge(self, message: str) -> None:
        with self._lock:
            self._open[message] -= 1

    def refuse(self, message: str) -> None:
        """Not handled, for whatever reason: it comes again."""
        self._queue.put(message)


class Shop:
    """Where the effect of a message is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.orders: Counter[str] = Counter()

    def handle(self, message: str) -> None:
        with self._lock:
            self.orders[message] += 1


def plain(ledger: Ledger, scope: str, message: str, shop: Shop, dies: bool) -> None:
    if ledger.dedup(scope, message, window="1h"):
        if dies:
            raise Died
        shop.handle(message)


def leased(ledger: Ledger, scope: str, message: str, shop: Shop, dies: bool) -> None:
    with ledger.dedup(scope, message, window="1h", lease=LEASE_SECONDS) as mine:
        if mine.first:
            if dies:
                raise Died
            shop.handle(message)


Way = Callable[[Ledger, str, str, Shop, bool], None]


def consume(way: Way, ledger: Ledger, scope: str, broker: Broker, shop: Shop, chance: random.Random) -> None:
    try:
        while (message := broker.take()) is not None:
            try:
                way(ledger, scope, message, shop, chance.random() < DEATH_CHANCE)
                broker.acknowledge(message)
            except (KeyLeased, LeaseLost, Died):
                # Another is at it, or the next life of this consumer will be.
                time.sleep(REDELIVERY_SECONDS)
                broker.refuse(message)
    except BaseException:
        broker.is_closed = True
        raise


def run(way: Way) -> Shop:
    broker, shop, scope = Broker(), Shop(), f"example-{uuid.uuid4()}"
    with Ledger() as ledger, ThreadPoolExecutor(CONSUMERS) as pool:
        consumers = [pool.submit(consume, way, ledger, scope, broker, shop, random.Random(number)) for number in range(CONSUMERS)]
        for consumer in consumers:
            consumer.result()
    return shop


def main() -> None:
    lost = MESSAGES - len(run(plain).orders)
    orders = run(leased).orders
    print(f"plain dedup: {lost} of {MESSAGES} messages lost; under a lease: {MESSAGES - len(orders)} lost, {orders.total() - len(orders)} twice")
    if lost == 0 or len(orders) != MESSAGES or orders.total() != MESSAGES:
        raise SystemExit("that is not what this example is to show")


if __name__ == "__main__":
    with hookonce():
        main()
