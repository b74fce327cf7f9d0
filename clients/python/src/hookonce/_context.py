"""What the work gets to know of the step that it executes, and the beats that keep a lease."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ._errors import HookonceError, LeaseLost
from ._protocol import Exchange, Grant, fields
from ._results import as_json, to_bytes

if TYPE_CHECKING:
    from ._ledger import Ledger
    from ._run import Run

T = TypeVar("T")

TYPE_BYTES_MAX, KEY_BYTES_MAX = 255, 1024
BEATS_A_LEASE = 3


class Lease:
    """A lease that is kept up while something is done."""

    def __init__(self, what: str, seconds: float, since: float, clock: Callable[[], float]) -> None:
        self.seconds = seconds
        self.heartbeats = 0
        self.clock = clock
        self._what = what
        self._lost = threading.Event()
        self._from = since

    @property
    def lost(self) -> bool:
        """The ledger has said that it is no longer this holder's."""
        return self._lost.is_set()

    def wait_lost(self, seconds: float) -> bool:
        """Waits until it is lost, at most so long."""
        return self._lost.wait(seconds)

    def check(self) -> None:
        """Raises `LeaseLost` where it is lost, or has run out unextended."""
        if self.lost or self.clock() - self._from > self.seconds:
            raise LeaseLost(f"the lease of {self._what} is over")

    @property
    def since_extended(self) -> float:
        """Seconds."""
        return self.clock() - self._from

    def lose(self) -> None:
        """It is another's."""
        self._lost.set()

    def extended(self, sent: float) -> None:
        """By a call that was sent then."""
        self._from = sent
        self.heartbeats += 1


class StepContext:
    """Given to the work: pass `effect_key` on to whoever is to do something, as their Idempotency-Key."""

    def __init__(self, run: "Run", grant: Grant, lease: float) -> None:
        self.run = run
        """The run: work may take further steps of it."""
        self.step = grant.step
        self.fence = grant.fence
        """Above that of every holder before: give it to whatever can refuse a lower one."""
        self.attempt = grant.attempt
        """1 for the first that may have executed something."""
        self.effect_key = grant.effect_key
        """Stable over all attempts at the step."""
        self.emitted: list[dict[str, Any]] = []
        self.lease = Lease(f"step {grant.step!r}", lease, grant.claimed_at, run.ledger.protocol.clock)

    @property
    def heartbeats(self) -> int:
        """How often the lease was extended."""
        return self.lease.heartbeats

    @property
    def lost(self) -> bool:
        """The ledger has said that the step is no longer this holder's."""
        return self.lease.lost

    def wait_lost(self, seconds: float) -> bool:
        """Waits until the step is lost, at most so long."""
        return self.lease.wait_lost(seconds)

    def check(self) -> None:
        """Raises `LeaseLost` where the step is lost, or its lease has run out unextended: call it just before an effect."""
        self.lease.check()

    def emit(self, event_type: str, data: Any, *, key: str | None = None, source: str | None = None) -> None:
        """An event that is written with the result, in one statement, and relayed like received ones.

        It is checked here, and taken as it is now: `TypeError` or `ValueError` says what of it can't be written.
        """
        number = f"emit {len(self.emitted) + 1}"
        _check_name(f"{number}: type", event_type, TYPE_BYTES_MAX)
        if key is not None:
            _check_name(f"{number}: key", key, KEY_BYTES_MAX)
        if source is not None:
            _check_name(f"{number}: source", source, TYPE_BYTES_MAX)
        most = self.run.ledger.emit_max
        if len(self.emitted) >= most:
            raise ValueError(f"{number}: a step emits at most {most} events (`emit_max`, as the server's ledger.emit_max)")
        try:
            plain = as_json(data, self.run.ledger.encode)
            to_bytes(plain)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{number}: data: {error}") from error
        self.emitted.append({"data": plain, **fields(type=event_type, key=key, source=source)})


_executing: contextvars.ContextVar["StepContext | None"] = contextvars.ContextVar("hookonce_step", default=None)


def current_step() -> "StepContext":
    """The step that this code is executed for: `current_step().effect_key`, for functions that no context is passed to."""
    context = _executing.get()
    if context is None:
        raise RuntimeError("no step is executed here: a thread that the work starts by itself does not know of it")
    return context


@contextmanager
def executing(context: "StepContext") -> Iterator[None]:
    """Within, it is the current step."""
    token = _executing.set(context)
    try:
        yield
    finally:
        _executing.reset(token)


def _check_name(what: str, text: Any, most: int) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{what}: {text!r} is no text")
    if not 1 <= len(text.encode("utf-8", "replace")) <= most or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text):
        raise ValueError(f"{what}: 1 to {most} bytes without control characters")


Beat = Callable[[float], Exchange[None]]
"""The call that extends a lease, to be tried for so long."""


class _Stopped(Exception):
    """It is over: the beats need not be sent any more."""


class ThreadBeats:
    """Beats at a third of the lease, from a thread, until told to stop."""

    def __init__(self, ledger: "Ledger", lease: Lease, send: Beat) -> None:
        self._ledger, self._lease, self._send = ledger, lease, send
        self._stop = threading.Event()
        threading.Thread(target=self._beat, name="hookonce beats", daemon=True).start()

    def tell(self) -> None:
        """To stop, without waiting for it: a beat that is under way is refused, or extends what is then ended."""
        self._stop.set()

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise _Stopped

    def _beat(self) -> None:
        lease, interval = self._lease, self._lease.seconds / BEATS_A_LEASE
        pause = interval - lease.since_extended
        try:
            while True:
                self._sleep(max(0.0, pause))
                sent = lease.clock()
                try:
                    self._ledger.drive(self._send(interval), sleep=self._sleep)
                    lease.extended(sent)
                except LeaseLost:
                    lease.lose()
                    return
                except HookonceError:
                    # The next beat may get through.
                    pass
                pause = interval - (lease.clock() - sent)
        except _Stopped:
            return


async def beat(ledger: "Ledger", lease: Lease, send: Beat) -> None:
    """The same as a task. Returns when the lease is lost."""
    interval = lease.seconds / BEATS_A_LEASE
    pause = interval - lease.since_extended
    while True:
        await asyncio.sleep(max(0.0, pause))
        sent = lease.clock()
        try:
            await ledger.adrive(send(interval))
            lease.extended(sent)
        except LeaseLost:
            lease.lose()
            return
        except HookonceError:
            pass
        pause = interval - (lease.clock() - sent)
