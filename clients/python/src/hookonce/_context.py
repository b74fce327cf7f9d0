"""What the work gets to know of the step that it executes, and the beats that keep its lease."""

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._errors import HookonceError, LeaseLost
from ._protocol import Grant, fields

if TYPE_CHECKING:
    from ._ledger import Ledger, Run


class StepContext:
    """Given to the work: pass `effect_key` on to whoever is to do something, as their Idempotency-Key."""

    def __init__(self, run: "Run", grant: Grant, lease: float, clock: Callable[[], float]) -> None:
        self.run = run
        self.step = grant.step
        self.fence = grant.fence
        self.attempt = grant.attempt
        self.effect_key = grant.effect_key
        """Stable over all attempts at the step."""
        self.heartbeats = 0
        self.emitted: list[dict[str, Any]] = []
        self._lost = threading.Event()
        self._lease = lease
        self._clock = clock
        self._leased_from = grant.claimed_at

    @property
    def lost(self) -> bool:
        """The ledger has said that the step is no longer this holder's."""
        return self._lost.is_set()

    def wait_lost(self, seconds: float) -> bool:
        """Waits until the step is lost, at most so long."""
        return self._lost.wait(seconds)

    def check(self) -> None:
        """Raises `LeaseLost` where the step is lost, or its lease has run out unextended: call it just before an effect."""
        if self.lost or self._clock() - self._leased_from > self._lease:
            raise LeaseLost(f"the lease of step {self.step!r} is over")

    def emit(self, event_type: str, data: Any, *, key: str | None = None, source: str | None = None) -> None:
        """An event that is written with the result, in one statement, and relayed like received ones."""
        self.emitted.append(fields(type=event_type, data=data, key=key, source=source))

    def _lose(self) -> None:
        self._lost.set()

    def _extended(self, sent: float) -> None:
        self._leased_from = sent
        self.heartbeats += 1


class _Stopped(Exception):
    """The work is over: the beats need not be sent any more."""


class ThreadBeats:
    """Beats at a third of the lease, from a thread, until stopped."""

    def __init__(self, ledger: "Ledger", run: str, grant: Grant, context: StepContext, lease: float) -> None:
        self._ledger, self._run, self._grant, self._context = ledger, run, grant, context
        self._lease, self._interval = lease, lease / 3
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"hookonce beats {grant.step}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Afterwards no beat is under way."""
        self._stop.set()
        self._thread.join()

    def tell(self) -> None:
        """To stop, without waiting for it."""
        self._stop.set()

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise _Stopped

    def _beat(self) -> None:
        protocol = self._ledger.protocol
        last = self._grant.claimed_at
        try:
            while True:
                self._sleep(max(0.0, self._interval - (protocol.clock() - last)))
                last = protocol.clock()
                try:
                    self._ledger.drive(protocol.heartbeat(self._run, self._grant, self._lease, self._interval), sleep=self._sleep)
                    self._context._extended(last)
                except LeaseLost:
                    self._context._lose()
                    return
                except HookonceError:
                    # The next beat may get through.
                    continue
        except _Stopped:
            return


async def beat(ledger: "Ledger", run: str, grant: Grant, context: StepContext, lease: float) -> None:
    """The same as a task. Returns when the lease is lost."""
    protocol = ledger.protocol
    last = grant.claimed_at
    while True:
        await asyncio.sleep(max(0.0, lease / 3 - (protocol.clock() - last)))
        last = protocol.clock()
        try:
            await ledger.adrive(protocol.heartbeat(run, grant, lease, lease / 3))
            context._extended(last)
        except LeaseLost:
            context._lose()
            return
        except HookonceError:
            continue
